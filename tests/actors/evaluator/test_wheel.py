"""The timer wheel: every timer fires at its due ms or is moved before, whatever the distance and the order."""

from __future__ import annotations

import random

import numpy as np
import pytest

from actors.evaluator.compiling import compile_program
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.kernels.wheel import arm, deal, earliest, next_user
from actors.evaluator.layout import DUE, NEVER, S_TIMERS, S_WHEEL, StateArrays
from actors.evaluator.state import new_state, with_user_room
from tests.actors.evaluator.examples import published

START_MS = 1_795_392_000_000
USERS = 64
DAY_MS = 86_400_000


def wheel() -> tuple[StateArrays, StateTable]:
    """An empty wheel that stands at START_MS, with users who have no timer."""
    state = with_user_room(new_state(compile_program(published()).arrays), USERS, 0)
    state.users[:, DUE] = NEVER
    state.scalars[S_WHEEL] = START_MS
    return state, StateTable(state)


def fired(state: StateArrays, table: StateTable, until_ms: int) -> list[tuple[int, int]]:
    """Take everybody out who is due at or before `until_ms`: (due, user) in the order of firing."""
    found = []
    while (user := next_user(table, until_ms)) != -1:
        if user == -2:
            while deal(table):
                pass
            continue
        found.append((int(state.users[user, DUE]), user))
        arm(table, user, NEVER)
    return found


@pytest.mark.parametrize("gap_ms", [0, 1, 65_535, 65_536, 65_537, DAY_MS, 49 * DAY_MS, 50 * DAY_MS, 400 * DAY_MS])
def test_a_timer_fires_at_its_ms_and_not_before(gap_ms: int) -> None:
    state, table = wheel()
    due = START_MS + gap_ms
    arm(table, 3, due)
    assert earliest(table) <= due
    assert fired(state, table, due - 1) == []
    assert fired(state, table, due) == [(due, 3)]
    assert state.scalars[S_TIMERS] == 0
    assert earliest(table) == NEVER


def test_a_timer_that_moves_fires_once_where_it_was_moved_to() -> None:
    state, table = wheel()
    for due in (START_MS + 500, START_MS + DAY_MS, START_MS + 7):
        arm(table, 5, due)
    arm(table, 6, START_MS + 7)
    assert sorted(fired(state, table, START_MS + 2 * DAY_MS)) == [(START_MS + 7, 5), (START_MS + 7, 6)]


@pytest.mark.parametrize("seed", range(20))
def test_random_timers_fire_in_order_of_their_ms_and_each_once(seed: int) -> None:
    """Armed, moved and taken out at random, also while a span is half dealt out."""
    draw = random.Random(seed)
    state, table = wheel()
    now, due = START_MS, {}
    for _ in range(300):
        user = draw.randrange(USERS)
        gap = draw.choice([0, 1, 50, 1_000, 65_536, 200_000, DAY_MS, 60 * DAY_MS])
        if draw.random() < 0.1:
            arm(table, user, NEVER)
            due.pop(user, None)
        else:
            due[user] = now + 1 + draw.randrange(gap + 1)
            arm(table, user, due[user])
        if draw.random() < 0.3:
            deal(table)
        if draw.random() < 0.3:
            now += draw.choice([1, 20, 65_536, 3 * DAY_MS])
            expected = sorted((at, who) for who, at in due.items() if at <= now)
            found = fired(state, table, now)
            assert [at for at, _ in found] == [at for at, _ in expected]
            assert sorted(found) == expected
            due = {who: at for who, at in due.items() if at > now}
    assert int(state.scalars[S_TIMERS]) == len(due)
    linked = np.flatnonzero(state.users[:USERS, DUE] != NEVER)
    assert set(linked.tolist()) == set(due)
