"""A checkpoint that cannot be used is passed over, loudly: the one before it, at last the whole log, gives the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.evaluator.checkpointing import header, restoring
from actors.evaluator.stimuli import Tick
from tests.actors.evaluator.driving import Evaluator
from tests.actors.evaluator.examples import event, published

WIDER = {"id": "quiet", "parent": "users", "where": {"event": "order", "at_most": 2, "within": "1m"}}


class Twins:
    """One evaluator that is restarted from checkpoints, and one that never stops."""

    def __init__(self, folder: Path) -> None:
        self.evaluator = Evaluator(folder / "one", published(), checkpoints=True)
        self.twin = Evaluator(folder / "twin", published())
        self.steps = 0
        for each in (self.evaluator, self.twin):
            each.take_traits(1, ann=500.0, ben=100.0)

    def go_on(self, steps: int = 3) -> None:
        for _ in range(steps):
            self.steps += 1
            for each in (self.evaluator, self.twin):
                each.clock.advance(1_700)
                each.do(each.batch(
                    event("view", "ann", f"v{self.steps}"), event("order", "ben", f"o{self.steps // 2}", channel="web"),
                    event("order", "ann", f"p{self.steps}", channel="web" if self.steps % 4 == 0 else "ios"),
                ))  # fmt: skip

    def each(self, do: Callable[[Evaluator], Any]) -> None:
        for each in (self.evaluator, self.twin):
            do(each)

    def checkpoint(self) -> int:
        assert self.evaluator.checkpoint()
        return self.evaluator.worker.log.last_seq()

    def files(self) -> list[Path]:
        """The checkpoints, newest first."""
        return sorted((self.evaluator.folder / "checkpoints").rglob("*.checkpoint"), reverse=True)

    def came_back(self) -> dict[str, Any]:
        """Restart, go on, compare; gives what it started from."""
        self.evaluator.reopen()
        origin = self.evaluator.origin
        self.same()
        return origin

    def same(self) -> None:
        self.go_on()
        self.each(lambda each: each.clock.advance(40_000))
        self.each(lambda each: each.do(Tick()))
        assert sorted(self.evaluator.history()) == sorted(self.twin.history())
        assert sorted(self.evaluator.ids()) == sorted(self.twin.ids())
        for user in ("ann", "ben", "nobody"):
            assert self.evaluator.members(user) == self.twin.members(user)
        status, other = self.evaluator.worker._status(), self.twin.worker._status()
        assert status["audiences"] == other["audiences"]
        assert status["events"] == other["events"]


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    made = Twins(tmp_path)
    made.go_on()
    return made


def reasons(origin: dict[str, Any]) -> list[str]:
    return [row["reason"] for row in origin["passed_over"]]


def test_the_newest_is_taken_and_the_log_after_it_is_replayed(twins: Twins) -> None:
    twins.checkpoint()
    twins.go_on()
    seq = twins.checkpoint()
    twins.go_on(2)
    origin = twins.came_back()
    assert (origin["from"], origin["checkpoint_seq"]) == (f"checkpoint {seq}", seq)
    assert (origin["entries"], origin["events"]) == (2, 6)
    assert origin["passed_over"] == []


def test_one_that_nothing_came_after_needs_no_replay(twins: Twins) -> None:
    twins.checkpoint()
    assert twins.came_back()["entries"] == 0


def test_an_evaluator_restarts_from_a_checkpoint_again_and_again(twins: Twins) -> None:
    for _ in range(3):
        seq = twins.checkpoint()
        assert twins.came_back()["checkpoint_seq"] == seq
        assert twins.came_back()["checkpoint_seq"] == seq


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "a frame": lambda data: data[:100] + bytes([data[100] ^ 4]) + data[101:],
    "the directory": lambda data: data[:-200] + bytes([data[-200] ^ 64]) + data[-199:],
    "last byte": lambda data: data[:-1] + bytes([data[-1] ^ 128]),
    "half": lambda data: data[: len(data) // 2],
    "all but one": lambda data: data[:-1],
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_falls_back_to_the_one_before(
    twins: Twins, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    seq = twins.checkpoint()
    twins.go_on()
    twins.checkpoint()
    newest = twins.files()[0]
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    with caplog.at_level(logging.WARNING, "usher.evaluator"):
        origin = twins.came_back()
    assert (origin["checkpoint_seq"], reasons(origin)) == (seq, ["damaged"])
    assert newest.name in caplog.text
    assert "is damaged" in caplog.text


def test_with_all_damaged_the_whole_log_is_enough(twins: Twins) -> None:
    for _ in range(3):
        twins.checkpoint()
        twins.go_on()
    for path in twins.files():
        path.write_bytes(path.read_bytes()[:-7])
    origin = twins.came_back()
    assert (origin["from"], reasons(origin)) == ("log", ["damaged"] * 3)


def test_a_good_one_takes_the_place_of_damaged_ones_soon(twins: Twins) -> None:
    twins.checkpoint()
    twins.go_on()
    twins.checkpoint()
    damaged = twins.files()[0]
    damaged.write_bytes(b"no checkpoint")
    twins.came_back()
    assert twins.evaluator.checkpoints is not None
    assert twins.evaluator.checkpoints.due(), "without waiting for its time"
    twins.checkpoint()
    assert not damaged.exists()
    assert len(twins.files()) == 2


def test_one_of_another_release_is_passed_over(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.checkpoint()
    monkeypatch.setattr(restoring, "code_digest", lambda: "another")
    origin = twins.came_back()
    assert (origin["from"], reasons(origin)) == ("log", ["incompatible"])


def test_one_of_another_format_is_passed_over(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.checkpoint()
    monkeypatch.setattr(restoring, "FORMAT", header.FORMAT + 1)
    assert reasons(twins.came_back()) == ["incompatible"]


def test_one_of_other_definitions_is_passed_over_and_the_next_is_of_those_in_force(twins: Twins) -> None:
    twins.checkpoint()
    twins.each(lambda each: each.publish(audiences=[WIDER, *each.published.definitions.document["audiences"][:2]]))
    checkpoints = twins.evaluator.checkpoints
    assert checkpoints is not None
    soon_ms = time.monotonic() * 1000 + 10_000
    assert checkpoints.plan.due(soon_ms), "those before are of no use any more"
    origin = twins.came_back()
    assert (origin["from"], reasons(origin)) == ("log", ["incompatible"])
    assert "definitions version 1" in origin["passed_over"][0]["message"]
    seq = twins.checkpoint()
    assert twins.came_back()["checkpoint_seq"] == seq


def test_one_stays_good_under_definitions_that_evaluate_alike(twins: Twins) -> None:
    seq = twins.checkpoint()
    audiences = twins.twin.published.definitions.document["audiences"]
    renamed = [{**audience, "name": "Another name"} for audience in audiences]
    twins.each(lambda each: each.publish(audiences=renamed))
    assert twins.evaluator.worker.version == 2
    origin = twins.came_back()
    assert (origin["checkpoint_seq"], origin["passed_over"]) == (seq, [])
    assert twins.evaluator.worker.version == 2


def test_one_that_is_ahead_of_the_log_is_passed_over(twins: Twins, tmp_path: Path) -> None:
    """The log was put back to an older copy of it."""
    log = twins.evaluator.folder / "evaluator-0.db"
    twins.evaluator.worker.log.close()
    older = {path: path.read_bytes() for path in log.parent.glob("evaluator-0.db*")}
    twins.evaluator.reopen()
    twins.go_on()
    twins.checkpoint()
    twins.evaluator.worker.log.close()
    for path in log.parent.glob("evaluator-0.db*"):
        path.unlink()
    for path, data in older.items():
        path.write_bytes(data)
    twins.evaluator.reopen()
    assert reasons(twins.evaluator.origin) == ["other_log"]
    assert "the log ends at" in twins.evaluator.origin["passed_over"][0]["message"]
    # The log goes on to other entries of the same numbers.
    for step in range(5):
        twins.evaluator.do(twins.evaluator.batch(event("view", "zoe", f"z{step}")))
    twins.evaluator.reopen()
    assert reasons(twins.evaluator.origin) == ["other_log"]
    assert "is not the one" in twins.evaluator.origin["passed_over"][0]["message"]


def test_one_that_the_log_does_not_reach_back_to_is_passed_over(twins: Twins) -> None:
    twins.checkpoint()
    twins.go_on(4)
    twins.evaluator.worker.log.trim(twins.evaluator.clock.now_ms())
    twins.evaluator.reopen()
    assert reasons(twins.evaluator.origin) == ["other_log"]


def test_one_of_other_partitions_is_passed_over(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.checkpoint()
    found = restoring.header_of
    monkeypatch.setattr("actors.evaluator.recovery.header_of", lambda contents: replaced(found(contents)))
    assert reasons(twins.came_back()) == ["incompatible"]


def replaced(found: header.Header) -> header.Header:
    return msgspec.structs.replace(found, partitions=(1, 2))


def test_a_folder_that_does_not_answer_costs_time_and_nothing_else(twins: Twins) -> None:
    twins.checkpoint()
    folder = twins.evaluator.folder / "checkpoints"
    folder.rename(folder.with_name("away"))
    folder.write_text("in the way")
    origin = twins.came_back()
    assert (origin["from"], reasons(origin)) == ("log", ["gone"])
    assert not twins.evaluator.checkpoint()
    assert twins.evaluator.checkpoints is not None
    assert "cannot be written" in str(twins.evaluator.checkpoints.status()["error"])
    twins.same()


def test_the_log_keeps_what_the_oldest_checkpoint_kept_is_replayed_from(twins: Twins) -> None:
    evaluator = twins.evaluator
    seqs = []
    for _ in range(5):
        twins.go_on(2)
        seqs.append(twins.checkpoint())
    assert [int(path.stem) for path in twins.files()] == seqs[:-4:-1]
    evaluator.worker.room.trim(evaluator.clock.now_ms(), evaluator.clock.now_ms())
    kept = [entry.seq for entry in evaluator.worker.log.entries(kinds=("batch",))]
    assert kept == list(range(seqs[-3], seqs[-1] + 1))
    for path in twins.files()[:2]:
        path.write_bytes(b"")
    evaluator.reopen()
    assert (evaluator.origin["checkpoint_seq"], evaluator.origin["entries"]) == (seqs[-3], 4)
    # Also after a restart, which has to look what is kept.
    evaluator.worker.room.trim(evaluator.clock.now_ms(), evaluator.clock.now_ms())
    assert [entry.seq for entry in evaluator.worker.log.entries(kinds=("batch",))] == kept


def test_a_snapshot_that_a_later_one_replaced_is_not_looked_for(twins: Twins) -> None:
    seq = twins.checkpoint()
    for version in (2, 3):
        twins.each(lambda each, version=version: each.take_traits(version, ann=10.0 * version, cat=500.0))
    (twins.evaluator.folder / "users-2.arrow").unlink()
    assert twins.came_back()["checkpoint_seq"] == seq


def test_none_is_taken_while_a_wave_is_worked_off(
    twins: Twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.evaluator import worker

    monkeypatch.setattr(worker, "WAVE_USERS", 1)
    users = [event("order", f"user-{i}", channel="web") for i in range(40)]
    twins.each(lambda each: each.do(each.batch(*users)))
    twins.each(lambda each: each.clock.advance(5_000))
    twins.each(lambda each: each.do(Tick()))
    assert twins.evaluator.worker.behind
    assert not twins.evaluator.checkpoint()
    while twins.evaluator.worker.behind:
        twins.each(lambda each: each.do(Tick()))
    assert twins.evaluator.checkpoint()
    assert twins.came_back()["from"].startswith("checkpoint")


def test_a_wave_that_comes_after_a_long_silence_loses_nobody_at_a_crash(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is to leave came longer ago than the history reaches back from the wave."""
    from actors.evaluator import worker

    monkeypatch.setattr(worker, "WAVE_USERS", 1)
    users = [event("order", f"user-{i}", channel="web") for i in range(40)]
    twins.each(lambda each: each.do(each.batch(*users)))
    twins.each(lambda each: each.clock.advance(5 * 3_600_000))
    twins.each(lambda each: each.do(Tick()))
    assert twins.evaluator.worker.behind
    twins.evaluator.reopen()
    while twins.twin.worker.behind:
        twins.twin.do(Tick())
    twins.same()


def test_a_wave_under_way_at_a_crash_is_finished_after_a_checkpoint(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.evaluator import worker

    seq = twins.checkpoint()
    monkeypatch.setattr(worker, "WAVE_USERS", 1)
    users = [event("order", f"user-{i}", channel="web") for i in range(40)]
    twins.each(lambda each: each.do(each.batch(*users)))
    twins.each(lambda each: each.clock.advance(5_000))
    for _ in range(3):
        twins.each(lambda each: each.do(Tick()))
    assert twins.evaluator.worker.behind
    twins.evaluator.reopen()
    assert twins.evaluator.origin["checkpoint_seq"] == seq
    assert not twins.evaluator.worker.behind
    while twins.twin.worker.behind:
        twins.twin.do(Tick())
    twins.same()
