"""Deques in the arena, against lists: right order, own words alone, no more room than they said they would take."""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluator.compiling import compile_program
from actors.evaluator.kernels.chunks import clear, drop, entry, growth, insert, place_for, pop_front
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import CHUNK_CLASSES, D_CHUNK, D_COUNT, DEQUE, PAIR, S_ARENA_TOP, S_ARENA_USED, StateArrays
from actors.evaluator.state import new_state, with_arena_room
from tests.actors.evaluator.examples import published

#: Words of an entry of each deque: pairs, and sequences of two and of nine steps.
WIDTHS = (2, 5, 12)
FIRST_CHUNK = 64
Steps = list[tuple[Literal["insert", "pop", "drop", "many"], int, int]]

PROGRAM = compile_program(published()).arrays
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "insert", "insert", "insert", "many", "pop", "pop", "drop"]),
        st.integers(0, len(WIDTHS) - 1),
        st.integers(0, 40),
    ),
    max_size=50,
)


def place_of(deque: int) -> int:
    """Where a deque's three words are."""
    return 8 + deque * DEQUE


def empty() -> StateArrays:
    """An arena with the deques' own words before the chunks."""
    state = new_state(PROGRAM)
    state.scalars[S_ARENA_TOP] = FIRST_CHUNK
    return state


def add(table: StateTable, deque: int, model: list[tuple[int, ...]], entry_: tuple[int, ...]) -> None:
    """Insert as structures do: behind the last one at or before its ts."""
    at, width = place_of(deque), WIDTHS[deque]
    index = place_for(table, at, width, entry_[0])
    assert index == bisect_right([each[0] for each in model], entry_[0])
    place = insert(table, at, width, index)
    table.arena[place : place + width] = entry_
    model.insert(index, entry_)


def held(state: StateArrays, table: StateTable, deque: int) -> list[tuple[int, ...]]:
    at, width = place_of(deque), WIDTHS[deque]
    places = [entry(table, at, width, i) for i in range(int(state.arena[at + D_COUNT]))]
    return [tuple(state.arena[place : place + width].tolist()) for place in places]


def assert_sound(state: StateArrays) -> None:
    """Chunks in use and chunks to be used again lie side by side, fill the arena up to its top, and none is lost."""
    used = [int(state.arena[place_of(deque) + D_CHUNK]) for deque in range(len(WIDTHS))]
    chunks = [(chunk, int(state.arena[chunk])) for chunk in used if chunk]
    assert sum(words for _, words in chunks) == state.scalars[S_ARENA_USED]
    for bits in range(CHUNK_CLASSES):
        chunk = int(state.chunk_free[bits])
        while chunk:
            chunks.append((chunk, 1 << bits))
            chunk = int(state.arena[chunk + 1])
    ends = [FIRST_CHUNK, *(chunk + words for chunk, words in sorted(chunks))]
    assert [chunk for chunk, _ in sorted(chunks)] == ends[:-1]
    assert ends[-1] == state.scalars[S_ARENA_TOP]
    assert not state.arena[ends[-1] :].any(), "nothing is written beyond the top"


@given(STEPS)
def test_deques_are_lists_in_order_of_time(steps: Steps) -> None:
    state = empty()
    table = StateTable(state)
    models: list[list[tuple[int, ...]]] = [[] for _ in WIDTHS]
    for deque in range(len(WIDTHS)):
        clear(table, place_of(deque))
    for number, (kind, deque, ts) in enumerate(steps):
        at, width, model = place_of(deque), WIDTHS[deque], models[deque]
        if kind in ("insert", "many"):
            # Pairs alone go from one deque into another many at a time.
            more = 1 + ts % 7 if kind == "many" and width == PAIR else 1
            words = growth(table, at, width, more)
            state = with_arena_room(state, words)
            table = StateTable(state)
            top = int(state.scalars[S_ARENA_TOP])
            for i in range(more):
                add(table, deque, model, (ts + i * i % 5, *(number * 100 + w for w in range(1, width))))
            assert state.scalars[S_ARENA_TOP] <= top + words, "took more than it said"
        elif kind == "drop":
            drop(table, at)
            model.clear()
        elif model:
            pop_front(table, at, width)
            model.pop(0)
        assert [held(state, table, each) for each in range(len(WIDTHS))] == models
        assert_sound(state)
    for deque in range(len(WIDTHS)):
        drop(table, place_of(deque))
    assert state.scalars[S_ARENA_USED] == 0


def test_a_deque_that_moves_on_takes_no_new_room() -> None:
    """A window that slides over events of which it holds ten: the arena stays as it is."""
    state = empty()
    table = StateTable(state)
    clear(table, place_of(0))
    tops = set()
    for ts in range(1_000):
        if ts >= 10:
            pop_front(table, place_of(0), 2)
        place = insert(table, place_of(0), 2, place_for(table, place_of(0), 2, ts))
        state.arena[place : place + 2] = ts, -ts
        if ts >= 20:
            tops.add(int(state.scalars[S_ARENA_TOP]))
            assert held(state, table, 0) == [(each, -each) for each in range(ts - 9, ts + 1)]
    assert len(tops) == 1
    assert_sound(state)
    assert np.count_nonzero(state.chunk_free) <= 2


def test_growth_bounds_what_several_wide_entries_take() -> None:
    state = empty()
    table = StateTable(state)
    clear(table, place_of(2))
    words, top = growth(table, place_of(2), 12, 6), int(state.scalars[S_ARENA_TOP])
    for ts in range(6):
        insert(table, place_of(2), 12, place_for(table, place_of(2), 12, ts))
    assert state.scalars[S_ARENA_TOP] <= top + words
