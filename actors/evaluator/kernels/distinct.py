"""Distinct values: each at its latest time, the n latest kept: enough for "at least n distinct" in any window.

A value dropped because n others are as late or later is never wanted again: times of values only grow. Cost of an
event: O(n), whatever the number of events and values.
"""

from __future__ import annotations

from actors.evaluator.kernels.chunks import insert
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import D_CHUNK, D_COUNT, NEVER_BEFORE, PAIR


@inner
def _slot(s: StateTable, at: int, i: int) -> int:
    return s.arena[at + D_CHUNK] + 1 + i * PAIR


@kernel
def distinct_insert(s: StateTable, at: int, capacity: int, ts: int, value: int) -> None:
    """Note a value at `ts`."""
    count = s.arena[at + D_COUNT]
    index = count
    for i in range(count):
        if s.arena[_slot(s, at, i) + 1] == value:
            index = i
            break
    if index < count:
        if s.arena[_slot(s, at, index)] >= ts:
            return
    elif count == capacity:
        index = count - 1
        if s.arena[_slot(s, at, index)] >= ts:
            return
    else:
        insert(s, at, PAIR, index)
    # Latest first: those that are older than the new one move down by one, into the place of the one it replaces.
    while index > 0 and s.arena[_slot(s, at, index - 1)] < ts:
        place = _slot(s, at, index)
        s.arena[place] = s.arena[place - PAIR]
        s.arena[place + 1] = s.arena[place - PAIR + 1]
        index -= 1
    s.arena[_slot(s, at, index)] = ts
    s.arena[_slot(s, at, index) + 1] = value


@inner
def distinct_nth(s: StateTable, at: int, n: int) -> int:
    """Give the latest time of the n-th latest value (1 = the latest), NEVER_BEFORE if there are fewer."""
    return s.arena[_slot(s, at, n - 1)] if n <= s.arena[at + D_COUNT] else NEVER_BEFORE
