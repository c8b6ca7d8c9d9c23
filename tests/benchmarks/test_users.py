"""The workload of `users`: the same life at every size; and what is said of memory is so."""

from __future__ import annotations

import numpy as np
import pytest

from actors.evaluator.results import Transitions, no_transitions
from benchmarks import bench_users
from benchmarks.bench_users import Sized, Tally, needed_bytes, run_size, within_bounds
from benchmarks.core import published_of
from benchmarks.crowd import TOUCHES, WINDOW_S, Chunk, Crowd, event_leaves, leaves_held
from benchmarks.workloads import CHANNELS, START_MS, engine_document
from cluster.definitions.model import EventCount, PropertyTest, Within

CROWD = Crowd(50, 4, rows=400)


def rows_of(chunk: Chunk) -> list[tuple[int, int, int, str, float]]:
    channels = [CHANNELS[channel] for channel in chunk.channels.tolist()]
    numbers = (column.tolist() for column in (chunk.clocks, chunk.users, chunk.models))
    return list(zip(*numbers, channels, chunk.amounts.tolist(), strict=True))


def test_a_chunk_is_a_function_of_its_number_and_chunks_follow_each_other() -> None:
    first, second = CROWD.chunk(0), CROWD.chunk(1)
    assert rows_of(first) == rows_of(CROWD.chunk(0))
    assert rows_of(first) != rows_of(second)
    clocks = np.concatenate([first.clocks, second.clocks])
    assert (np.diff(clocks) >= 0).all()
    assert clocks[0] >= START_MS


@pytest.mark.parametrize("users", [50, 5_000])
def test_users_have_as_many_events_a_window_however_many_they_are(users: int) -> None:
    crowd = Crowd(users, 4, rows=1_000)
    span_s = (crowd.chunk(0).clocks[-1] - START_MS) / 1_000
    assert crowd.rows / users / span_s * WINDOW_S == pytest.approx(TOUCHES, rel=0.02)


def test_hits_say_what_their_chunk_says() -> None:
    chunk = Crowd(50, 4, rows=9_000).chunk(3)
    batches = list(chunk.batches())
    assert [batch.num_rows for batch in batches] == [8_192, 808]
    columns = [[value for batch in batches for value in batch.column(name).to_pylist()]
               for name in ("clock_ms", "key", "model", "c0", "c1")]
    expected = [(clock, f"user_{user}", model, channel, amount)
                for clock, user, model, channel, amount in rows_of(chunk)]
    assert list(zip(*columns, strict=True)) == expected


def test_leaves_are_held_by_the_users_whose_events_are_in_their_windows() -> None:
    definitions = published_of(engine_document(20, 4, np.random.default_rng(3))).definitions
    chunks = [CROWD.chunk(index) for index in range(2)]
    end = int(chunks[-1].clocks[-1])
    leaves = event_leaves(definitions)
    assert len(leaves) > 10

    def counts(leaf: EventCount, clock: int, model: int, channel: str, amount: float) -> bool:
        assert isinstance(leaf.window, Within)
        if leaf.event != f"e{model}" or not end - leaf.window.duration_ms < clock <= end:
            return False
        if leaf.where is None:
            return True
        assert isinstance(leaf.where, PropertyTest)
        test = leaf.where.test
        return channel == test.operand if leaf.where.column == "channel" else amount >= float(str(test.operand))

    held = {
        (user, leaf)
        for chunk in chunks
        for clock, user, model, channel, amount in rows_of(chunk)
        for leaf in leaves
        if counts(leaf, clock, model, channel, amount)
    }
    assert held
    assert leaves_held(CROWD, 2, definitions, end) == len(held)


def test_a_size_is_measured_and_nothing_of_its_windows_is_left() -> None:
    found = run_size(Crowd(300, 4, rows=600))
    assert [(check.passed, check.detail) for check in found.checks if not check.passed] == []
    assert found.events == 600 * (1 + 8)
    assert found.transitions_an_event > 0.5
    assert found.lapse_exits > 0
    assert 0 < found.leaves_held < 300 * 64
    assert found.peak_bytes > found.state_bytes > 0


def test_a_size_that_memory_is_not_enough_for_is_skipped_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_users, "memory_available_bytes", lambda: 2**20)
    monkeypatch.setattr(bench_users, "_in_fresh_process", lambda crowd: pytest.fail("it was run"))
    result = bench_users.measure(True, lambda text: None)
    assert [figure.value for figure in result.figures] == [None, None]
    assert "skipped, needs about" in result.figures[0].name
    assert result.passed


def test_the_next_size_is_reckoned_from_the_state_of_the_one_before() -> None:
    smaller = Sized(1_000, 1, 1.0, [1.0], 1.0, 100, 2_000_000, 100, 1, 1, 1, [])
    grown = needed_bytes(2_000_000, smaller) - needed_bytes(1_000_000, smaller)
    assert grown >= 1_000_000 * 2_000
    assert needed_bytes(10, None) > 10 * 1_000


def test_a_state_above_its_bound_fails_the_case() -> None:
    bound = bench_users.FIXED_BYTES + 1_000 * bench_users.USER_BYTES + 3_000 * bench_users.LEAF_BYTES
    inside, above = (Sized(1_000, 1, 1.0, [1.0], 1.0, 100, state, 100, 3_000, 1, 1, []) for state in (bound, bound + 1))
    assert within_bounds(inside).passed
    check = within_bounds(above)
    assert (check.passed, check.detail) == (False, f"{round(bound / 1_000)} of {round(bound / 1_000)} bytes a user, "
                                                   "3.00 leaves")


def test_entries_less_exits_are_what_audiences_grow_by() -> None:
    tally = Tally(np.zeros(3, np.int64))
    for entered in ([1, 1, 0], [1, 0, 0]):
        zeros = np.zeros(3, np.int32)
        audiences = np.array([0, 2, 2], np.int32)
        tally.add(Transitions(zeros, audiences, zeros.astype(np.int64), zeros, np.array(entered, np.uint8),
                              zeros.astype(np.uint8)))  # fmt: skip
    tally.add(no_transitions())
    assert (tally.change.tolist(), tally.made) == ([2, 0, -2], 6)
