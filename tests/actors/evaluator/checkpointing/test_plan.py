"""When a checkpoint is due."""

from __future__ import annotations

import pytest

from actors.evaluator.checkpointing.plan import CheckpointPlan
from cluster.checkpoints.settings import CheckpointSettings
from cluster.limits import CHECKPOINT_REST_TIMES, CHECKPOINT_RETRY_MAX_MS, CHECKPOINT_RETRY_MIN_MS

SETTINGS = CheckpointSettings(every_ms=60_000, every_bytes=1_000, every_events=100)


@pytest.fixture
def plan() -> CheckpointPlan:
    return CheckpointPlan(SETTINGS, 0.0)


def test_none_is_due_while_nothing_was_logged(plan: CheckpointPlan) -> None:
    assert not plan.due(1e9)
    plan.ask()
    assert not plan.due(1e9)


@pytest.mark.parametrize(
    ("events", "size_bytes", "at_ms", "due"),
    [(99, 999, 59_999, False), (100, 0, 1, True), (0, 1_000, 1, True), (0, 0, 60_000, True)],
)
def test_time_events_or_bytes_make_it_due(
    plan: CheckpointPlan, events: int, size_bytes: int, at_ms: float, due: bool
) -> None:
    plan.logged(1, events, size_bytes)
    assert plan.due(at_ms) is due


def test_what_a_copy_covers_counts_no_more_and_again_where_it_was_in_vain(plan: CheckpointPlan) -> None:
    plan.logged(3, 100, 10)
    plan.taken(5)
    plan.logged(1, 1, 1)
    assert not plan.due(6)
    plan.given_up()
    assert (plan.entries, plan.events, plan.bytes) == (4, 101, 11)
    assert plan.due(6)
    plan.given_up()
    assert plan.entries == 4


def test_writing_has_its_share_of_the_time_however_much_comes(plan: CheckpointPlan) -> None:
    plan.logged(1, 1_000, 0)
    plan.taken(10)
    plan.written(began_ms=0, now_ms=2_000)
    plan.logged(1, 1_000, 0)
    assert not plan.due(2_000 + CHECKPOINT_REST_TIMES * 2_000 - 1)
    assert plan.due(2_000 + CHECKPOINT_REST_TIMES * 2_000)


def test_after_a_failure_it_is_due_again_soon_then_later_and_later(plan: CheckpointPlan) -> None:
    plan.logged(1, 1, 1)
    now, waits = 0.0, []
    for _ in range(12):
        plan.taken(now)
        plan.failed(now)
        wait = next(ms for ms in range(0, 10**7, 500) if plan.due(now + ms))
        waits.append(wait)
        now += wait
    assert waits[:3] == [CHECKPOINT_RETRY_MIN_MS, 2 * CHECKPOINT_RETRY_MIN_MS, 4 * CHECKPOINT_RETRY_MIN_MS]
    assert waits[-1] == CHECKPOINT_RETRY_MAX_MS
    plan.taken(now)
    plan.written(now, now)
    plan.logged(1, 1, 1)
    assert not plan.due(now + 59_999)


def test_a_switch_wants_one_at_once_also_where_a_copy_is_under_way(plan: CheckpointPlan) -> None:
    plan.logged(1, 0, 0)
    plan.ask()
    assert plan.due(1)
    plan.taken(1)
    plan.written(1, 1)
    plan.logged(1, 0, 0)
    assert not plan.due(2)
