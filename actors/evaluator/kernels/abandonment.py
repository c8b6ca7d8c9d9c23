"""Abandonment: first events that no follow-up came after, until one does.

First events at or before the latest follow-up of another row are out for good (the set of follow-ups only grows), so
the two latest follow-ups of different rows decide about every first event, early or late; the deque holds the others.
"""

from __future__ import annotations

from actors.evaluator.kernels.chunks import entry, insert, place_for, pop_front
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    D_COUNT,
    FOLLOW_ROW,
    FOLLOW_TS,
    NEVER_BEFORE,
    PAIR,
    SECOND_ROW,
    SECOND_TS,
)


@inner
def abandonment_clear(s: StateTable, at: int) -> None:
    """Forget the follow-ups."""
    s.arena[at + FOLLOW_TS] = NEVER_BEFORE
    s.arena[at + FOLLOW_ROW] = -1
    s.arena[at + SECOND_TS] = NEVER_BEFORE
    s.arena[at + SECOND_ROW] = -1


@inner
def _followed(s: StateTable, at: int, ts: int, row: int) -> bool:
    """Say whether a follow-up of another row came at or after `ts`."""
    latest = s.arena[at + SECOND_TS] if s.arena[at + FOLLOW_ROW] == row else s.arena[at + FOLLOW_TS]
    return latest >= ts


@kernel
def first_event(s: StateTable, at: int, ts: int, row: int) -> None:
    """Add a first event, unless it was followed already."""
    if _followed(s, at, ts, row):
        return
    place = insert(s, at, PAIR, place_for(s, at, PAIR, ts))
    s.arena[place] = ts
    s.arena[place + 1] = row


@kernel
def follow_up(s: StateTable, at: int, ts: int, row: int) -> None:
    """Note a follow-up and drop the first events that it answers; O(1) amortised."""
    if row == s.arena[at + FOLLOW_ROW]:
        s.arena[at + FOLLOW_TS] = max(s.arena[at + FOLLOW_TS], ts)
    elif ts > s.arena[at + FOLLOW_TS]:
        s.arena[at + SECOND_TS] = s.arena[at + FOLLOW_TS]
        s.arena[at + SECOND_ROW] = s.arena[at + FOLLOW_ROW]
        s.arena[at + FOLLOW_TS] = ts
        s.arena[at + FOLLOW_ROW] = row
    elif ts > s.arena[at + SECOND_TS]:
        s.arena[at + SECOND_TS] = ts
        s.arena[at + SECOND_ROW] = row
    # Of those up to the latest follow-up only the ones of its own row stay: a step's, so they are few.
    answered = place_for(s, at, PAIR, s.arena[at + FOLLOW_TS])
    kept = answered
    i = answered - 1
    while i >= 0:
        place = entry(s, at, PAIR, i)
        if not _followed(s, at, s.arena[place], s.arena[place + 1]):
            kept -= 1
            target = entry(s, at, PAIR, kept)
            s.arena[target] = s.arena[place]
            s.arena[target + 1] = s.arena[place + 1]
        i -= 1
    for _ in range(kept):
        pop_front(s, at, PAIR)


@inner
def oldest_abandoned(p: ProgramTable, s: StateTable, struct: int, at: int, t: int) -> int:
    """Give the ts of the oldest first event in the window at t that has no follow-up; NEVER_BEFORE: there is none."""
    reach = p.struct_reach[struct]
    while s.arena[at + D_COUNT] > 0 and s.arena[entry(s, at, PAIR, 0)] + reach <= t:
        pop_front(s, at, PAIR)
    return s.arena[entry(s, at, PAIR, 0)] if s.arena[at + D_COUNT] > 0 else NEVER_BEFORE
