"""The wheel fires every timer at its exact ms, in order, whatever the jumps: held to a sorted list."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluator.compiling import compile_program
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.kernels.wheel import arm, earliest, next_instant, release, take_slot
from actors.evaluator.layout import NEVER, S_WHEEL, StateArrays
from actors.evaluator.state import new_state, with_timer_room
from tests.actors.evaluator.examples import published

SPAN = 1 << 16
#: Steps around every boundary of the wheel: ms, near turn, far slot, far turn.
DELAYS = st.one_of(
    st.integers(1, 200),
    st.sampled_from([SPAN - 1, SPAN, SPAN + 1, 2 * SPAN, SPAN * SPAN - 1, SPAN * SPAN, SPAN * SPAN + 1]),
    st.integers(1, 3 * SPAN),
    st.integers(1, 3 * SPAN * SPAN),
)
STEPS = st.lists(st.tuples(st.lists(DELAYS, max_size=6), DELAYS), min_size=1, max_size=12)


def empty_wheel(position: int) -> tuple[StateArrays, StateTable]:
    state = with_timer_room(new_state(compile_program(published()).arrays), 5_000)
    state.scalars[S_WHEEL] = position
    return state, StateTable(state)


def fire_until(state: StateArrays, table: StateTable, until: int) -> list[tuple[int, int]]:
    fired = []
    while (at := next_instant(table, until)) >= 0:
        node = take_slot(table, at)
        while node >= 0:
            following = state.node_next[node]
            fired.append((int(at), int(state.node_target[node])))
            release(table, node)
            node = following
    return fired


@given(st.sampled_from([1, SPAN - 3, 1_795_392_000_000]), STEPS)
def test_every_timer_fires_at_its_ms(start: int, steps: list[tuple[list[int], int]]) -> None:
    state, table = empty_wheel(start)
    waiting: list[tuple[int, int]] = []
    now, target = start, 1
    for delays, jump in steps:
        for delay in delays:
            arm(table, target, now + delay)
            waiting.append((now + delay, target))
            target += 1
        bound = earliest(table)
        assert bound <= min((due for due, _ in waiting), default=NEVER)
        assert (bound == NEVER) == (not waiting)
        now += jump
        due = sorted(timer for timer in waiting if timer[0] <= now)
        waiting = [timer for timer in waiting if timer[0] > now]
        fired = fire_until(state, table, now)
        assert [at for at, _ in fired] == sorted(at for at, _ in fired), "in order of time"
        assert sorted(fired) == due
        assert state.scalars[S_WHEEL] == now + 1


def test_nodes_are_given_back() -> None:
    state, table = empty_wheel(0)
    for turn in range(50):
        for i in range(1_000):
            arm(table, i, turn * 100 + 1 + i % 90)
        assert len(fire_until(state, table, turn * 100 + 95)) == 1_000
    assert np.count_nonzero(state.node_due) <= 1_001, "the same thousand nodes serve every turn"
