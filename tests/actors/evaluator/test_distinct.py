"""Distinct values: each at its latest time, the n latest kept, against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluator.compiling import compile_program
from actors.evaluator.kernels.chunks import clear, drop
from actors.evaluator.kernels.distinct import distinct_insert, distinct_nth
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import D_COUNT, NEVER_BEFORE, S_ARENA_TOP, S_ARENA_USED
from actors.evaluator.state import new_state
from tests.actors.evaluator.examples import published

AT = 8
PROGRAM = compile_program(published()).arrays


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 11)), max_size=60))
def test_the_n_latest_values_are_kept_each_at_its_latest(capacity: int, events: list[tuple[int, int]]) -> None:
    state = new_state(PROGRAM)
    state.scalars[S_ARENA_TOP] = 64
    table = StateTable(state)
    clear(table, AT)
    latest: dict[int, int] = {}
    for ts, value in events:
        distinct_insert(table, AT, capacity, ts, value)
        latest[value] = max(ts, latest.get(value, ts))
        wanted = sorted(latest.values(), reverse=True)[:capacity]
        assert state.arena[AT + D_COUNT] == len(wanted)
        wanted += [NEVER_BEFORE] * (capacity - len(wanted))
        assert [distinct_nth(table, AT, n) for n in range(1, capacity + 1)] == wanted
    drop(table, AT)
    assert state.scalars[S_ARENA_USED] == 0


@given(st.permutations([(ts, value) for value in range(4) for ts in (value, value + 3)]), st.integers(1, 6))
def test_the_order_of_arrival_does_not_matter(events: list[tuple[int, int]], capacity: int) -> None:
    state = new_state(PROGRAM)
    state.scalars[S_ARENA_TOP] = 64
    table = StateTable(state)
    clear(table, AT)
    for ts, value in events:
        distinct_insert(table, AT, capacity, ts, value)
    wanted = [6, 5, 4, 3, NEVER_BEFORE, NEVER_BEFORE][:capacity]
    assert [distinct_nth(table, AT, n) for n in range(1, capacity + 1)] == wanted


def test_thousands_of_values_take_the_room_of_n() -> None:
    state = new_state(PROGRAM)
    state.scalars[S_ARENA_TOP] = 64
    table = StateTable(state)
    clear(table, AT)
    rng = np.random.default_rng(2)
    for ts in range(3_000):
        distinct_insert(table, AT, 5, ts - int(rng.integers(0, 10)), int(rng.integers(0, 1_000_000)))
    assert state.arena[AT + D_COUNT] == 5
    assert state.scalars[S_ARENA_USED] <= 32
