"""The shell writes checkpoints when they are due and when it stops, beside the work, wherever they are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.evaluator.actor import EvaluatorActor
from actors.evaluator.checkpointing import checkpointer, keeping
from actors.evaluator.checkpointing.checkpointer import Checkpointer
from actors.evaluator.checkpointing.copying import Copies
from cluster.checkpoints.settings import CheckpointSettings
from cluster.checkpoints.store import CheckpointStore
from cluster.clock import ManualClock
from cluster.edge.evaluator_metrics import evaluator_exposition
from cluster.runtime.data_dir import DataDir
from tests.actors.evaluator.driving import PARTITIONS, START_MS, Evaluator
from tests.actors.evaluator.examples import event, published
from tests.cluster.checkpoints.servers import s3_uri


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "CHECKPOINT_LOOK_MS", 5)


class Shells:
    """One evaluator's shell after the other, on one data dir."""

    def __init__(self, folder: Path, settings: CheckpointSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.clock = ManualClock(START_MS)
        self._maker = Evaluator(folder / "maker", published())
        self._sent = 0

    async def run(self, body: Callable[[EvaluatorActor], Awaitable[None]]) -> dict[str, Any]:
        """Start a shell, do something, drain it; gives what it said when it had drained."""
        with DataDir(self.folder / "data").open() as owned:
            shell = EvaluatorActor(
                0, str(self.folder / "data"), owned.epoch, PARTITIONS, clock=self.clock, checkpoints=self.settings
            )
            await shell.start(published())
            await body(shell)
            return await shell.drain()

    async def send(self, shell: EvaluatorActor, *users: str) -> None:
        self._sent += 1
        made = self._maker.batch(*(event("order", user, f"m{self._sent}-{user}", channel="web") for user in users))
        reply = await shell.append(
            {"version": 1, "rows": made.rows, "envelope": made.envelope, "hits": made.hits}
        )
        assert "error" not in reply, reply

    async def written(self, shell: EvaluatorActor, count: int) -> dict[str, Any]:
        until = time.monotonic() + 20
        while (found := (await shell.status())["checkpoints"])["written"] < count:
            assert time.monotonic() < until, found
            await asyncio.sleep(0.01)
        return found


async def is_in(shell: EvaluatorActor, user: str) -> bool:
    return bool((await shell.lookup("users", [user], ["hide_promo"], False))["members"][0][0])


def test_it_writes_one_when_enough_was_logged_and_starts_from_it(tmp_path: Path) -> None:
    shells = Shells(tmp_path, CheckpointSettings(every_events=5))

    async def body(shell: EvaluatorActor) -> None:
        await shells.send(shell, "ann", "ben")
        assert (await shell.status())["checkpoints"]["newest"] is None
        await shells.send(shell, "cat", "dan", "eve")
        found = await shells.written(shell, 1)
        assert found["newest"]["seq"] == 3
        assert found["events_since"] == 0
        assert found["newest"]["pause_ms"] < 1_000

    async def again(shell: EvaluatorActor) -> None:
        recovered = (await shell.status())["checkpoints"]["recovered"]
        assert recovered["from"].startswith("checkpoint")
        assert await is_in(shell, "ann")
        assert not await is_in(shell, "zoe")

    async def run() -> None:
        await shells.run(body)
        await shells.run(again)

    asyncio.run(run())


def test_it_writes_one_when_its_time_has_come_though_nothing_more_comes(tmp_path: Path) -> None:
    shells = Shells(tmp_path, CheckpointSettings(every_ms=50))

    async def body(shell: EvaluatorActor) -> None:
        await shells.send(shell, "ann")
        await shells.written(shell, 1)
        await asyncio.sleep(0.2)
        assert (await shell.status())["checkpoints"]["written"] == 1, "none while nothing was logged"

    asyncio.run(shells.run(body))


def test_draining_writes_a_last_one_of_all_that_was_acknowledged(tmp_path: Path) -> None:
    shells = Shells(tmp_path, CheckpointSettings())

    async def body(shell: EvaluatorActor) -> None:
        await asyncio.gather(*(shells.send(shell, f"u{i}") for i in range(10)))

    async def again(shell: EvaluatorActor) -> None:
        recovered = (await shell.status())["checkpoints"]["recovered"]
        assert recovered["from"].startswith("checkpoint")
        assert recovered["entries"] == 0
        assert await is_in(shell, "u7")

    async def run() -> None:
        assert await shells.run(body) == {"drained": True, "late": ""}
        assert await shells.run(again) == {"drained": True, "late": ""}

    asyncio.run(run())
    assert len(list((tmp_path / "data" / "checkpoints").rglob("*.checkpoint"))) == 1, "nothing was logged since"


def test_a_last_one_that_takes_too_long_is_given_up_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shells = Shells(tmp_path, CheckpointSettings())
    write = CheckpointStore._write_local

    def slow(self: CheckpointStore, *args: Any) -> int:
        time.sleep(0.5)
        return write(self, *args)

    monkeypatch.setattr(CheckpointStore, "_write_local", slow)

    async def body(shell: EvaluatorActor) -> None:
        await shells.send(shell, "ann")
        began = time.monotonic()
        reply = await shell.drain(within_ms=50)
        assert reply["drained"]
        assert "no checkpoint" in reply["late"]
        assert "not written in time" in reply["late"]
        assert time.monotonic() - began < 5

    async def again(shell: EvaluatorActor) -> None:
        assert (await shell.status())["checkpoints"]["recovered"]["from"] == "log"
        assert await is_in(shell, "ann")

    async def run() -> None:
        await shells.run(body)
        monkeypatch.undo()
        await shells.run(again)

    asyncio.run(run())


def test_one_that_cannot_be_written_is_told_and_evaluation_goes_on(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    shells = Shells(tmp_path, CheckpointSettings(uri=str(tmp_path / "state"), every_events=1))

    async def body(shell: EvaluatorActor) -> None:
        await shells.send(shell, "ann")
        until = time.monotonic() + 10
        while not (found := (await shell.status())["checkpoints"])["failed"]:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        assert str(tmp_path / "state") in found["error"]
        assert found["events_since"] == 1
        await shells.send(shell, "ben")
        assert await is_in(shell, "ben")
        metrics = evaluator_exposition([await shell.status()]).decode()
        assert 'usher_checkpoints_total{evaluator="evaluator-0",outcome="failed"} 1.0' in metrics

    assert "cannot be written" in asyncio.run(shells.run(body))["late"]


def test_a_state_that_outgrows_its_room_again_and_again_is_copied_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "_LACKING_BYTES_MAX", -1)
    rooms, make_room = [], Checkpointer.make_room

    def counted(self: Checkpointer, machine: Any) -> None:
        rooms.append(machine)
        make_room(self, machine)

    monkeypatch.setattr(Checkpointer, "make_room", counted)
    shells = Shells(tmp_path, CheckpointSettings())

    async def body(shell: EvaluatorActor) -> None:
        await shells.send(shell, "ann")
        assert not (await shell.drain())["late"]

    asyncio.run(shells.run(body))
    assert len(rooms) == checkpointer._ROOMS_MAX


def test_memory_that_cannot_be_had_befalls_the_checkpoint_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(self: Copies, parts: Any) -> None:
        message = "no memory"
        raise MemoryError(message)

    shells = Shells(tmp_path, CheckpointSettings())

    async def body(shell: EvaluatorActor) -> None:
        await shells.send(shell, "ann")
        monkeypatch.setattr(Copies, "__init__", none_left)
        assert "no memory" in (await shell.drain())["late"]

    asyncio.run(shells.run(body))


def test_a_checkpoint_under_way_is_given_up_for_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shells = Shells(tmp_path, CheckpointSettings(every_events=1))
    write, began = Checkpointer.write, asyncio.Event()

    def slow(self: Checkpointer, taken: Any, pause: Callable[[], None]) -> bool:
        loop.call_soon_threadsafe(began.set)
        time.sleep(0.1)
        return write(self, taken, pause)

    monkeypatch.setattr(Checkpointer, "write", slow)

    async def body(shell: EvaluatorActor) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        await shells.send(shell, "ann")
        await asyncio.wait_for(began.wait(), 10)
        await shells.send(shell, "ben")

    async def again(shell: EvaluatorActor) -> None:
        recovered = (await shell.status())["checkpoints"]["recovered"]
        assert (recovered["checkpoint_seq"], recovered["entries"]) == (3, 0)

    async def run() -> None:
        assert (await shells.run(body))["late"] == ""
        await shells.run(again)

    loop: Any = None
    asyncio.run(run())


def test_an_evaluator_comes_back_from_a_bucket(tmp_path: Path) -> None:
    with s3_uri() as uri:
        shells = Shells(tmp_path, CheckpointSettings(uri=uri, every_events=1))

        async def body(shell: EvaluatorActor) -> None:
            await shells.send(shell, "ann")
            await shells.written(shell, 1)
            await shells.send(shell, "ben")

        async def again(shell: EvaluatorActor) -> None:
            found = (await shell.status())["checkpoints"]
            assert found["recovered"]["from"] == "checkpoint 3"
            assert found["at"].startswith("s3://usher-")
            assert "endpoint_override" not in found["at"]
            assert await is_in(shell, "ann")
            assert await is_in(shell, "ben")

        async def run() -> None:
            assert (await shells.run(body))["late"] == ""
            await shells.run(again)

        asyncio.run(run())
    assert not (tmp_path / "data" / "checkpoints").exists()


def test_metrics_tell_of_every_evaluator(tmp_path: Path) -> None:
    shells = Shells(tmp_path, CheckpointSettings())

    async def body(shell: EvaluatorActor) -> None:
        await shells.send(shell, "ann", "ben")
        metrics = evaluator_exposition([await shell.status()]).decode()
        assert 'usher_checkpoint_events_since{evaluator="evaluator-0"} 2.0' in metrics
        assert 'usher_recovery_events{evaluator="evaluator-0"} 0.0' in metrics
        assert "usher_checkpoint_taken_seconds{" not in metrics

    async def again(shell: EvaluatorActor) -> None:
        metrics = evaluator_exposition([await shell.status()]).decode()
        assert 'usher_checkpoint_bytes{evaluator="evaluator-0"}' in metrics

    async def run() -> None:
        await shells.run(body)
        await shells.run(again)

    asyncio.run(run())
