"""The latest row that says a trait: the value that a user's `identify` calls give it, and what it satisfies.

Of all rows that say the trait the one of the greatest (ts, position in the log) counts, however they come: an older one
changes nothing. So one row is all that is kept. It comes once with each filter that it satisfies and once by itself,
in any order: whichever comes first of a newer row ends the older one.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    LATEST_BITS,
    LATEST_ROW,
    LATEST_TS,
    LATEST_VALUE,
    MISSING,
    MORE_THAN_AGO,
    NEVER,
    NEVER_BEFORE,
    OF_FILTER,
    WITHIN_LAST,
)

_ONE = np.int64(1)


@inner
def latest_clear(s: StateTable, at: int, words: int) -> None:
    """Forget the row."""
    s.arena[at + LATEST_TS] = NEVER_BEFORE
    s.arena[at + LATEST_ROW] = -1
    s.arena[at + LATEST_VALUE] = MISSING
    for w in range(words):
        s.arena[at + LATEST_BITS + w] = 0


@kernel
def latest_insert(s: StateTable, at: int, words: int, ts: int, row: int, value: int, step: int) -> None:
    """Take a row by itself (`step` 0, with its time where the trait is one), or its filter number `step` - 1."""
    known = s.arena[at + LATEST_TS]
    if ts < known or (ts == known and row < s.arena[at + LATEST_ROW]):
        return
    if ts > known or row > s.arena[at + LATEST_ROW]:
        latest_clear(s, at, words)
        s.arena[at + LATEST_TS] = ts
        s.arena[at + LATEST_ROW] = row
    if step == 0:
        s.arena[at + LATEST_VALUE] = value
    else:
        s.arena[at + LATEST_BITS + ((step - 1) >> 6)] |= _ONE << ((step - 1) & 63)


@inner
def latest_holds(p: ProgramTable, s: StateTable, leaf: int, at: int, t: int) -> bool:
    """Say whether the row satisfies a leaf at t."""
    op = p.leaf_of[leaf]
    if op == OF_FILTER:
        bit = p.leaf_n[leaf]
        return ((s.arena[at + LATEST_BITS + (bit >> 6)] >> (bit & 63)) & _ONE) == _ONE
    value = s.arena[at + LATEST_VALUE]
    if value == MISSING:
        return False
    span = p.leaf_origin[leaf]
    if op == WITHIN_LAST:
        return t - span < value and value <= t
    if op == MORE_THAN_AGO:
        return value <= t - span
    return t < value and value <= t + span


@inner
def latest_changes(p: ProgramTable, s: StateTable, leaf: int, at: int, t: int) -> int:
    """Give the first time after t at which a leaf may change while its row counts; NEVER: at none."""
    op = p.leaf_of[leaf]
    value = s.arena[at + LATEST_VALUE]
    if op == OF_FILTER or value == MISSING:
        return NEVER
    span = p.leaf_origin[leaf]
    first = value if op == WITHIN_LAST else value - span
    last = value + span
    if op == MORE_THAN_AGO:
        first = last
    elif op != WITHIN_LAST:
        last = value
    if first > t:
        return first
    return last if last > t else NEVER
