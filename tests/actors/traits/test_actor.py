"""The trait loader with real files: load, change, break, mend, restart; evaluators and controller are fakes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.traits.actor import TraitsActor
from actors.traits.store import open_snapshot
from cluster.clock import ManualClock
from cluster.definitions.model import Definitions, ParentModel, Published, Settings
from cluster.limits import TRAITS_POLL_MS, TRAITS_RETRY_MAX_MS
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, Reply
from tests.actors.traits.making import parent, table, write_arrow, write_parquet

START_MS = 1_764_518_400_000


class FakeEvaluator:
    """Takes snapshots as an evaluator does: whole, idempotent per version, never an older one."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.rows: dict[str, pa.Table] = {}
        self.refusal: Reply | None = None

    async def apply_traits(self, parent: str, version: int, refs: list[Any], path: str) -> Reply:
        if self.refusal is not None:
            return self.refusal
        assert refs[0].equals(open_snapshot(Path(path)))
        self.taken.append((parent, version))
        self.rows[parent] = refs[0]
        return {"clock_ms": 0}


class FakeController:
    """Gives one state, then waits for the next."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state

    async def state_after(self, revision: int, wait_ms: int) -> ClusterState:
        while self.state.revision <= revision:
            await asyncio.Event().wait()
        return self.state


def state(*models: ParentModel, evaluators: int = 1, revision: int = 1) -> ClusterState:
    settings = Settings(1, 1, 1, partitions=64)
    definitions = Definitions(settings, {}, {model.id: model for model in models}, {}, {}, {}, {})
    infos = tuple(EvaluatorInfo(i, f"evaluator-{i}", "", "") for i in range(evaluators))
    return ClusterState(revision, Published(revision, definitions, {}), (0,) * 64, infos, ())


class Loader:
    """A trait loader, its clock and two evaluators; `put` counts what goes into the object store."""

    def __init__(self, data_dir: Path) -> None:
        self.clock = ManualClock(START_MS)
        self.evaluators = {0: FakeEvaluator(), 1: FakeEvaluator()}
        self.puts: list[pa.Table] = []
        self.actor = TraitsActor(
            data_dir, FakeController(state()), self.evaluators, put=self.put, clock=self.clock, base_dir=data_dir  # type: ignore[arg-type]
        )  # fmt: skip

    def put(self, value: pa.Table) -> pa.Table:
        self.puts.append(value)
        return value

    async def see(self, *models: ParentModel, evaluators: int = 1) -> None:
        self.actor.observe(state(*models, evaluators=evaluators))
        await self.actor.settle()

    async def after(self, ms: int) -> None:
        self.clock.advance(ms)
        await self.actor.settle()

    async def row(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.actor.status())["parents"][0]
        return found

    def keys(self, evaluator: int = 0) -> list[str]:
        found: list[str] = self.evaluators[evaluator].rows["users"].column("key").to_pylist()
        return found


def run(law: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine."""

    def test(tmp_path: Path) -> None:
        asyncio.run(law(tmp_path, Loader(tmp_path)))

    test.__name__, test.__doc__ = law.__name__, law.__doc__
    return test


@run
async def test_every_evaluator_gets_the_snapshot_and_it_is_put_once(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    await loader.see(parent(path=path), evaluators=2)
    assert loader.keys(0) == loader.keys(1) == ["u0", "u1"]
    assert len(loader.puts) == 1
    row = await loader.row()
    assert row == {
        "parent": "users", "version": 1, "rows": 2, "left_out": {}, "loaded_at_ms": START_MS,
        "source": str(path), "state": "ok",
        "refreshes": {"asked": 0, "answered": 0}, "error": None, "waiting_for": {},
    }  # fmt: skip


@run
async def test_a_replaced_file_is_taken_within_a_second(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    await loader.see(parent(path="users.parquet"))
    await loader.after(TRAITS_POLL_MS)
    assert loader.evaluators[0].taken == [("users", 1)]
    write_parquet(path, table(3))
    await loader.after(TRAITS_POLL_MS)
    assert loader.evaluators[0].taken == [("users", 1), ("users", 2)]
    assert loader.keys() == ["u0", "u1", "u2"]


@run
async def test_a_rewritten_file_of_equal_content_is_no_new_snapshot(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    await loader.see(parent(path=path))
    os.utime(path, ns=(1, 1))
    await loader.after(TRAITS_POLL_MS)
    await loader.after(TRAITS_POLL_MS)
    assert loader.evaluators[0].taken == [("users", 1)]


def broken(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "users.parquet"
    rows = {
        "missing_column": table(2).drop_columns(["tier"]), "wrong_type": table(2, ltv=[{"a": 1}] * 2),
        "duplicate_key": table(2, user_id=["a", "a"]), "null_key": table(2, user_id=["a", None]),
        "empty_key": table(2, user_id=["a", ""]), "key_too_long": table(1, user_id=["k" * 2_000]),
    }.get(name)  # fmt: skip
    if rows is not None:
        return write_parquet(path, rows)
    if name == "no_files":
        path.unlink()
    else:
        write_parquet(path, table(1_000))
        path.write_bytes(path.read_bytes()[:-7])
    return path


@pytest.mark.parametrize(
    "reason",
    ["missing_column", "wrong_type", "duplicate_key", "null_key", "empty_key", "key_too_long", "no_files", "damaged"],
)
def test_a_broken_snapshot_keeps_the_old_one_is_shown_and_mended(tmp_path: Path, reason: str) -> None:
    async def law(loader: Loader) -> None:
        path = write_parquet(tmp_path / "users.parquet", table(2))
        await loader.see(parent(path=path))
        broken(tmp_path, reason)
        await loader.after(TRAITS_POLL_MS)
        row = await loader.row()
        assert (row["state"], row["version"], row["rows"], row["error"]["reason"]) == ("failed", 1, 2, reason)
        assert row["error"]["since_ms"] == START_MS + TRAITS_POLL_MS
        assert "stays in force" in row["error"]["message"]
        await loader.after(TRAITS_RETRY_MAX_MS)
        assert loader.evaluators[0].taken == [("users", 1)]
        assert (await loader.actor.lookup("users", ["u0"], ["tier"]))["columns"] == {"tier": ["gold"]}
        write_parquet(path, table(4))
        await loader.after(TRAITS_POLL_MS)
        row = await loader.row()
        assert (row["state"], row["version"], row["rows"], row["error"]) == ("ok", 2, 4, None)

    asyncio.run(law(Loader(tmp_path)))


@run
async def test_a_restart_goes_on_with_the_stored_snapshot_and_its_number(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    await loader.see(parent(path=path))
    path.unlink()
    second = Loader(tmp_path)
    await second.see(parent(path=path))
    assert second.evaluators[0].taken == [("users", 1)]
    assert (await second.row())["state"] == "failed"
    write_parquet(path, table(3))
    await second.after(TRAITS_POLL_MS)
    assert second.evaluators[0].taken == [("users", 1), ("users", 2)]


@run
async def test_a_restart_on_an_unchanged_source_reads_nothing(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    await loader.see(parent(path=path))
    second = Loader(tmp_path)
    await second.see(parent(path=path))
    assert second.evaluators[0].taken == [("users", 1)]
    assert sorted(one.name for one in (tmp_path / "traits" / "users").iterdir()) == ["1.arrow"]


@run
async def test_an_evaluator_that_refuses_is_asked_again(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    loader.evaluators[0].refusal = {"error": "not_ready", "message": "it is starting", "retry_after_ms": 1_000}
    await loader.see(parent(path=path), evaluators=2)
    assert loader.evaluators[1].taken == [("users", 1)]
    assert (await loader.row())["waiting_for"] == {0: "it is starting"}
    loader.evaluators[0].refusal = None
    await loader.after(TRAITS_POLL_MS)
    assert loader.evaluators[0].taken == [("users", 1)]
    assert len(loader.puts) == 1


@run
async def test_old_copies_are_removed_once_every_evaluator_is_past_them(tmp_path: Path, loader: Loader) -> None:
    path = tmp_path / "users.parquet"
    for count in range(1, 7):
        write_parquet(path, table(count))
        await loader.see(parent(path=path)) if count == 1 else await loader.after(TRAITS_POLL_MS)
    assert sorted(one.name for one in (tmp_path / "traits" / "users").iterdir()) == ["4.arrow", "5.arrow", "6.arrow"]


@run
async def test_a_removed_trait_source_empties_the_snapshot(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    await loader.see(parent(path=path))
    await loader.see(parent({}))
    assert loader.evaluators[0].taken == [("users", 1), ("users", 2)]
    assert loader.evaluators[0].rows["users"].num_rows == 0


@run
async def test_a_removed_column_leaves_the_next_snapshot(tmp_path: Path, loader: Loader) -> None:
    path = write_arrow(tmp_path / "users.arrow", table(2))
    await loader.see(parent(path=path, kind="arrow"))
    await loader.see(parent({"ltv": "number"}, path, "arrow"))
    assert loader.evaluators[0].rows["users"].column_names == ["key", "partition", "ltv"]


@run
async def test_a_refresh_reads_at_once_and_says_when_there_is_nothing_to_read(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    await loader.see(parent(path=path))
    write_parquet(path, table(3))
    assert await loader.actor.refresh("users") == {"refreshing": "users"}
    await loader.actor.settle()
    assert loader.keys() == ["u0", "u1", "u2"]
    assert (await loader.actor.refresh("accounts"))["error"] == "not_found"


@run
async def test_look_ups_give_values_by_key_for_delivery(tmp_path: Path, loader: Loader) -> None:
    rows = table(2, seen=pa.array([1_500_000, None], pa.timestamp("us")), likes=[["a"], None])
    path = write_parquet(tmp_path / "users.parquet", rows)
    model = parent({"ltv": "number", "seen": "timestamp", "likes": "list"}, path)
    assert (await loader.actor.lookup("users", ["u0"], []))["error"] == "unknown_column"
    await loader.see(model)
    found = await loader.actor.lookup("users", ["u1", "nobody", "u0"], ["user_id", "ltv", "seen", "likes"])
    assert found == {
        "version": 1, "found": [True, False, True],
        "columns": {"user_id": ["u1", "nobody", "u0"], "ltv": [1.0, None, 1.0], "seen": [None, None, 1_500],
                    "likes": [None, None, ["a"]]},
    }  # fmt: skip
    assert "tier" in (await loader.actor.lookup("users", ["u0"], ["tier"]))["message"]


@run
async def test_look_ups_before_the_first_snapshot_find_nobody(tmp_path: Path, loader: Loader) -> None:
    await loader.see(parent(path=tmp_path / "users.parquet"))
    found = await loader.actor.lookup("users", ["u0"], ["ltv", "user_id"])
    assert found == {"version": None, "found": [False], "columns": {"ltv": [None], "user_id": ["u0"]}}


@run
async def test_started_it_follows_the_controller_and_drains(tmp_path: Path, loader: Loader) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2))
    taken = asyncio.Event()
    evaluator = loader.evaluators[0]
    real = evaluator.apply_traits

    async def apply_and_tell(*args: Any) -> Reply:
        reply = await real(*args)
        taken.set()
        return reply

    evaluator.apply_traits = apply_and_tell  # type: ignore[method-assign]
    controller = FakeController(state(parent(path=path)))
    actor = TraitsActor(tmp_path, controller, loader.evaluators, put=loader.put)  # type: ignore[arg-type]
    await actor.start()
    async with asyncio.timeout(20):
        await taken.wait()
    status = await actor.status()
    assert (status["name"], status["pid"], status["state"]) == ("traits", os.getpid(), "ready")
    assert await actor.drain() == {"drained": True}
