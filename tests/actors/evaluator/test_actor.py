"""The shell: what waits is answered, whatever breaks; readers follow; nothing but evaluation holds up the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.evaluator import actor, results, worker
from actors.evaluator.actor import EvaluatorActor
from actors.evaluator.backfill import Backfill
from actors.evaluator.shadow import Shadow
from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.errors import DataDirError, NotReady, StorageFull
from cluster.runtime.data_dir import DataDir
from tests.actors.evaluator.driving import PARTITIONS, START_MS, Evaluator
from tests.actors.evaluator.examples import event, published

Play = Callable[[EvaluatorActor], Awaitable[None]]


class Shell(EvaluatorActor):
    """Notes a failure where the real one ends the process."""

    broke: Exception | None = None

    def on_failure(self, error: Exception) -> None:
        self.broke = error


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Play], None]:
    """Run a coroutine function over a started evaluator."""

    async def run(body: Play) -> None:
        with DataDir(tmp_path / "data").open() as owned:
            shell = Shell(0, str(tmp_path / "data"), owned.epoch, PARTITIONS, clock=ManualClock(START_MS))
            await shell.start(published())
            await body(shell)
            await shell.drain()

    def start(body: Play) -> None:
        asyncio.run(run(body))

    return start


def request(tmp_path: Path, *users: str) -> dict[str, Any]:
    batch = Evaluator(tmp_path / "maker", published()).batch(*(event("order", user, channel="web") for user in users))
    return {"version": 1, "rows": batch.rows, "envelope": batch.envelope, "hits": batch.hits}


def seqs(reply: dict[str, Any]) -> list[int]:
    return np.frombuffer(reply["seqs"], "<i8").tolist()


def test_a_reader_gets_every_transition_once_however_it_reads(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "BLOCK_ROWS_MAX", 4)

    async def body(shell: EvaluatorActor) -> None:
        made = request(tmp_path, *(f"u{i}" for i in range(15)))
        assert "error" not in (await asyncio.gather(shell.append(made), shell.append(made)))[0]
        for limit in (1, 3, 4, 100):
            cursor, got, empty = 0, [], 0
            while not empty:
                reply = await shell.transitions_after(cursor, limit, 0, None)
                got += seqs(reply)
                empty = reply["next_seq"] == cursor
                cursor = reply["next_seq"]
            assert got == list(range(1, 46)), "15 enter two audiences, and leave `quiet` at their second order"
        only = await shell.transitions_after(0, 1_000, 0, "hide_promo")
        assert (len(seqs(only)), only["next_seq"]) == (15, 45)
        shell._recent.clear()
        assert seqs(await shell.transitions_after(7, 5, 0, None)) == [8, 9, 10, 11, 12]

    play(body)


def test_trimming_without_room_is_put_off_and_the_work_goes_on(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        message = "no room"
        raise StorageFull(message, retry_after_ms=1)

    async def body(shell: EvaluatorActor) -> None:
        assert shell._worker is not None
        monkeypatch.setattr(shell._worker.log, "trim", full)
        assert shell._trimming is not None
        shell._trimming._trimmed_at_ms = -1e12
        for _ in range(3):
            assert "error" not in await shell.append(request(tmp_path, "ann"))
        assert shell._trimming._task is not None
        await shell._trimming._task
        assert "error" not in await shell.lookup("users", ["ann"], ["hide_promo"], True)

    play(body)


def test_what_comes_due_on_a_disk_that_takes_nothing_is_made_once_it_does(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WAVE_USERS", 1)
    monkeypatch.setattr(actor, "RETRY_AFTER_MS", 5)

    async def body(shell: EvaluatorActor) -> None:
        await shell.append(request(tmp_path, "ann", "ben", "cem"))
        assert shell._worker is not None
        log, clock = shell._worker.log, shell._clock
        commit, refusals = log.commit, 0

        def full(*args: Any) -> None:
            nonlocal refusals
            if refusals < 3 and log.last_seq() > first:
                refusals += 1
                message = "no room"
                raise StorageFull(message, retry_after_ms=1)
            commit(*args)

        first = log.last_seq()
        monkeypatch.setattr(log, "commit", full)
        assert isinstance(clock, ManualClock)
        clock.advance(5_000)
        async with asyncio.timeout(20):
            while len(seqs(await shell.transitions_after(0, 100, 0, "hide_promo"))) < 6:
                asked = await shell.lookup("users", ["ann"], ["hide_promo"], False)
                assert asked.get("error", "storage_full") == "storage_full"
                # It is asked more often than a tick is tried, and the manual clock goes with that.
                clock.advance(1)
        assert refusals == 3
        assert getattr(shell, "broke", None) is None

    play(body)


def shut(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let backfills stand still between two slices until the event is set."""
    gate = threading.Event()
    monkeypatch.setattr(Backfill, "_pause", lambda self: _stand_still(self, gate))
    return gate


def _stand_still(backfill: Backfill, gate: threading.Event) -> None:
    while not gate.wait(0.002):
        backfill._check()


def later(version: int, **changes: Any) -> Published:
    """Definitions under which something else is evaluated."""
    window = {"event": "order", "within": f"{version}m"}
    new = published(audiences=[{"id": "later", "parent": "users", "where": window}], **changes)
    return replace(new, version=version)


def test_live_work_is_answered_while_a_backfill_goes_on(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(shell: EvaluatorActor) -> None:
        made = request(tmp_path, "ann")
        await shell.append(made)
        gate = shut(monkeypatch)
        publishing = asyncio.create_task(shell.publish(later(2)))
        for _ in range(5):
            assert "error" not in await asyncio.wait_for(shell.append(made), 10)
            assert (await shell.lookup("users", ["ann"], ["hide_promo"], False))["members"] == [[True]]
        status = await shell.status()
        assert (status["version"], status["backfill"]["version"], status["backfill"]["ready"]) == (1, 2, False)
        assert not publishing.done()
        gate.set()
        assert "error" not in await publishing
        assert (await shell.status())["backfill"] is None
        assert (await shell.append(made))["error"] == "stale"
        assert (await shell.lookup("users", ["ann"], ["later"], False))["members"] == [[True]]

    play(body)


def test_everybody_who_asks_for_a_preparation_waits_for_the_same_one(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(shell: EvaluatorActor) -> None:
        await shell.append(request(tmp_path, "ann"))
        gate = shut(monkeypatch)
        asked = [asyncio.create_task(shell.prepare(later(2))) for _ in range(3)]
        await asyncio.sleep(0.02)
        asked[0].cancel()
        replaced = asked[1:]
        newest = asyncio.create_task(shell.publish(later(3)))
        assert [reply["error"] for reply in await asyncio.gather(*replaced)] == ["not_ready"] * 2
        gate.set()
        assert "error" not in await newest
        assert (await shell.status())["version"] == 3
        assert "error" not in await shell.prepare(later(2)), "what is past is done"

    play(body)


def test_draining_gives_a_backfill_up(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(shell: EvaluatorActor) -> None:
        await shell.append(request(tmp_path, "ann"))
        shut(monkeypatch)
        publishing = asyncio.create_task(shell.publish(later(2)))
        await asyncio.sleep(0.02)
        await shell.drain()
        assert "the evaluator stops" in (await publishing)["message"]

    play(body)


def test_draining_ends_a_backfill_that_follows(play: Callable[[Play], None], tmp_path: Path) -> None:
    async def body(shell: EvaluatorActor) -> None:
        made = request(tmp_path, "ann")
        await shell.append(made)
        assert "error" not in await shell.prepare(later(2))
        assert "error" not in await shell.append(made)
        await shell.drain()
        assert len(list((tmp_path / "data").rglob("rows-*"))) == 1, "what was laid out is given back"

    play(body)


def test_an_error_in_a_backfill_is_a_refusal_and_nothing_else(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        message = "entry 1 is damaged"
        raise DataDirError(message)

    async def body(shell: EvaluatorActor) -> None:
        made = request(tmp_path, "ann")
        await shell.append(made)
        with monkeypatch.context() as patch:
            patch.setattr(Shadow, "load", broken)
            reply = await shell.publish(later(2))
        assert reply["error"] == "not_ready"
        assert "entry 1 is damaged" in reply["message"]
        assert "error" not in await shell.append(made)
        assert "error" not in await shell.publish(later(2))

    play(body)


def test_an_evaluator_that_cannot_take_its_definitions_does_not_start_and_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        message = "too many open files"
        raise OSError(message)

    async def run() -> None:
        with DataDir(tmp_path / "data").open() as owned:
            first, second = (
                Shell(0, str(tmp_path / "data"), owned.epoch, PARTITIONS, clock=ManualClock(START_MS)) for _ in range(2)
            )
            with monkeypatch.context() as patch:
                patch.setattr(Shadow, "load", broken)
                with pytest.raises(NotReady, match="too many open files"):
                    await first.start(published())
            await second.start(published())
            assert (await second.status())["version"] == 1
            await second.drain()

    asyncio.run(run())


def test_nothing_is_trimmed_while_a_backfill_reads(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(shell: EvaluatorActor) -> None:
        made = request(tmp_path, "ann")
        await shell.append(made)
        gate = shut(monkeypatch)
        publishing = asyncio.create_task(shell.publish(later(2)))
        await asyncio.sleep(0.02)
        assert shell._trimming is not None
        shell._trimming._trimmed_at_ms = -1e12
        await shell.append(made)
        assert shell._trimming._trimmed_at_ms == -1e12
        gate.set()
        await publishing
        await shell.append(made)
        assert shell._trimming._trimmed_at_ms > 0

    play(body)


def test_a_bug_answers_everybody_who_waits_and_nobody_after(
    play: Callable[[Play], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        message = "taken over"
        raise DataDirError(message)

    async def body(shell: EvaluatorActor) -> None:
        assert shell._worker is not None
        monkeypatch.setattr(shell._worker.log, "commit", broken)
        made = request(tmp_path, "ann")
        replies = await asyncio.gather(*(shell.append(made) for _ in range(5)))
        assert {reply["error"] for reply in replies} == {"not_ready"}
        assert (await shell.append(made))["error"] == "not_ready"
        assert (await shell.transitions_after(0, 10, 0, None))["error"] == "not_ready"
        assert isinstance(shell.broke, DataDirError)

    play(body)


def test_draining_answers_who_waits_and_refuses_who_comes(play: Callable[[Play], None], tmp_path: Path) -> None:
    async def body(shell: EvaluatorActor) -> None:
        made = request(tmp_path, "ann")
        waiting = [asyncio.ensure_future(shell.append(made)) for _ in range(3)]
        reading = asyncio.ensure_future(shell.transitions_after(1_000, 10, 60_000, None))
        await asyncio.sleep(0)
        await shell.drain()
        assert all("error" not in reply for reply in await asyncio.gather(*waiting))
        assert (await reading)["next_seq"] == 1_000
        assert (await shell.append(made))["error"] == "not_ready"
        assert (await shell.initial_members("quiet"))["error"] == "not_ready"

    play(body)


def test_a_snapshot_copy_that_is_gone_is_refused_not_a_failure(play: Callable[[Play], None], tmp_path: Path) -> None:
    async def body(shell: EvaluatorActor) -> None:
        reply = await shell.apply_traits("users", 1, [], str(tmp_path / "gone.arrow"))
        assert reply["error"] == "not_ready"
        assert "gone.arrow" in reply["message"]
        assert "error" not in await shell.append(request(tmp_path, "ann"))

    play(body)
