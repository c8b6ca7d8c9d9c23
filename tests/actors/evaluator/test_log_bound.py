"""`settings.log_max_bytes`: history makes room, what recovery needs does not, and what finds no room is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from actors.evaluator.reach import recovery_ms
from actors.evaluator.stimuli import Status, Tick
from tests.actors.evaluator.driving import Evaluator
from tests.actors.evaluator.examples import event, published

BOUND = 2_000_000
SETTINGS = {"retention": "1h", "dedup": {"horizon": "1s"}, "log_max_bytes": BOUND}
VIEWERS = {"id": "viewers", "parent": "users", "where": {"event": "view", "within": "10s"}}


def fill(evaluator: Evaluator, user: str) -> dict[str, Any]:
    """A batch that takes about 20 KB of the log, a second later."""
    evaluator.clock.advance(1_000)
    padding = os.urandom(20_000).hex()
    return evaluator.do(evaluator.batch(event("view", user, f"m-{evaluator.clock.now_ms()}", padding=padding)))[0]


def trim(evaluator: Evaluator) -> int:
    """As the shell does every second in a crowded log."""
    machine = evaluator.worker.machine
    assert machine is not None
    retained_ms = machine.settled_ms - 3_601_000
    return evaluator.worker.room.trim(retained_ms, machine.settled_ms - recovery_ms(evaluator.published.definitions))


def test_history_makes_room_and_recovery_gives_the_same(tmp_path: Path) -> None:
    evaluator = Evaluator(tmp_path, published(settings=SETTINGS, audiences=[VIEWERS]))
    for number in range(200):
        assert "error" not in fill(evaluator, f"user_{number % 7}")
        if number % 5 == 0:
            trim(evaluator)
        assert evaluator.worker.log.size_bytes() <= BOUND
    [status] = evaluator.do(Status())
    assert status["history_from_ms"] > evaluator.clock.now_ms() - 3_600_000, "and status says so"
    members = evaluator.worker.sizes.all()
    history = evaluator.history()
    evaluator.reopen()
    assert evaluator.worker.sizes.all() == members
    assert evaluator.history() == history
    assert evaluator.worker.room.crowded is False
    evaluator.clock.advance(10_000)
    evaluator.do(Tick())
    assert evaluator.worker.sizes.all() == {"viewers": 0}


def test_what_recovery_needs_is_not_dropped_and_events_are_refused(tmp_path: Path) -> None:
    """`quiet` may be true of whoever has an event within the retention."""
    quiet = {"id": "quiet", "parent": "users", "where": {"event": "order", "at_most": 0, "within": "1s"}}
    evaluator = Evaluator(tmp_path, published(settings=SETTINGS, audiences=[VIEWERS, quiet]))
    replies = []
    for number in range(100):
        replies.append(fill(evaluator, f"user_{number}"))
        assert trim(evaluator) == 0
    refused = [reply for reply in replies if reply.get("error") == "storage_full"]
    assert len(refused) > 10
    assert "log_max_bytes" in refused[0]["message"]
    assert refused[0]["retry_after_ms"] > 0
    taken = len(replies) - len(refused)
    assert evaluator.worker.sizes.of("quiet") == taken
    evaluator.clock.advance(10_000)
    evaluator.do(Tick())
    assert evaluator.worker.sizes.of("viewers") == 0, "exits by time go on"
    evaluator.reopen()
    assert evaluator.worker.sizes.all() == {"viewers": 0, "quiet": taken}
    evaluator.publish(settings={**SETTINGS, "log_max_bytes": 2 * BOUND})
    assert "error" not in fill(evaluator, "one_more"), "a publication sets another bound"


def test_the_newest_checkpoint_keeps_what_comes_after_it_until_there_is_another(tmp_path: Path) -> None:
    evaluator = Evaluator(tmp_path, published(settings=SETTINGS, audiences=[VIEWERS]), checkpoints=True)
    fill(evaluator, "ann")
    assert evaluator.checkpoint()
    seq = evaluator.worker.log.last_seq()
    while "error" not in fill(evaluator, "ben"):
        trim(evaluator)
    assert next(evaluator.worker.log.entries(after_seq=seq - 1)).seq == seq
    assert evaluator.checkpoints is not None
    assert evaluator.checkpoints.due(), "a crowded log asks for one"
    assert evaluator.checkpoint()
    assert trim(evaluator) > 0
    assert "error" not in fill(evaluator, "ben")
    members = evaluator.worker.sizes.all()
    evaluator.reopen()
    assert evaluator.origin["from"] == "checkpoint " + str(evaluator.origin["checkpoint_seq"])
    assert evaluator.worker.sizes.all() == members
    shutil.rmtree(tmp_path / "checkpoints")
    evaluator.reopen()
    assert evaluator.origin["from"] == "log"
    assert evaluator.worker.sizes.all() == members


@pytest.mark.parametrize(("where", "expected_ms"), [
    ({"event": "view", "within": "10s"}, 10_000),
    ({"event": "view", "between_ago": ["1m", "5m"]}, 300_000),
    ({"event": "view", "since": "2026-01-01T00:00:00Z"}, 3_600_000),
    ({"event": "view", "this": "day", "tz": "UTC"}, 3_600_000),
    ({"event": "view", "at_most": 0, "within": "10s"}, 3_600_000),
    ({"event": "view", "exactly": 1, "within": "10s"}, 10_000),
    ({"not": {"event": "view", "within": "10s"}}, 3_600_000),
    ({"not": {"event": "view", "at_most": 2, "within": "10s"}}, 10_000),
    ({"trait": "ltv", "gt": 300}, 3_600_000),
    ({"all": [{"event": "view", "within": "10s"}, {"not": {"event": "order", "within": "20s"}}]}, 20_000),
    ({"any": [{"event": "view", "within": "10s"}, {"trait": "ltv", "gt": 300}]}, 3_600_000),
    ({"sequence": [{"event": "view"}, {"event": "order"}], "within": "30s"}, 30_000),
    ({"event": "view", "within": "40s", "after": "10s", "not_followed_by": {"event": "order"}}, 40_000),
])  # fmt: skip
def test_how_far_back_recovery_needs_the_log(where: dict[str, Any], expected_ms: int) -> None:
    audiences = [
        {"id": "asked", "parent": "users", "where": where},
        {"id": "draft", "parent": "users", "where": {"event": "view", "within": "50m"}, "status": "draft"},
    ]
    definitions = published(settings=SETTINGS, audiences=audiences).definitions
    assert recovery_ms(definitions) == expected_ms + 1_000
    refers = {"id": "refers", "parent": "users", "where": {"all": [{"audience": "asked"}, {"audience": "asked"}]}}
    definitions = published(settings=SETTINGS, audiences=[audiences[0], refers]).definitions
    assert recovery_ms(definitions) == expected_ms + 1_000
