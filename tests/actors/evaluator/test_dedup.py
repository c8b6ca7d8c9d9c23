"""Dedup held to a dict: horizon to the ms, eviction of the oldest, growth."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluator.compiling import compile_program
from actors.evaluator.kernels.dedup import purge, remember, seen
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import S_DEDUP_COUNT
from actors.evaluator.state import new_state, with_dedup_room
from tests.actors.evaluator.examples import published

HORIZON = 50


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), max_size=80), st.booleans())
def test_an_id_is_seen_while_it_was_accepted_within_the_horizon(steps: list[tuple[int, int]], purging: bool) -> None:
    state = new_state(compile_program(published()).arrays)
    clock, accepted = 1_000, dict[int, int]()
    for message, pause in steps:
        clock += pause
        state = with_dedup_room(state, 1)
        table = StateTable(state)
        if purging:
            purge(table, clock - HORIZON, 1_000, 2)
        first, second = np.uint64(message * 2 + 1), np.uint64(message)
        known = seen(table, first, second, clock - HORIZON)
        assert known == (accepted.get(message, -(10**9)) > clock - HORIZON)
        if not known:
            remember(table, first, second, clock)
            accepted[message] = clock


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    state = with_dedup_room(new_state(compile_program(published()).arrays), 10_000)
    table = StateTable(state)
    for i in range(10_000):
        remember(table, np.uint64(i * 2 + 1), np.uint64(i), 1_000 + i)
    purge(table, 0, 100, 10)
    assert state.scalars[S_DEDUP_COUNT] == 100
    assert seen(table, np.uint64(9_999 * 2 + 1), np.uint64(9_999), 0)
    assert not seen(table, np.uint64(1), np.uint64(0), 0)
