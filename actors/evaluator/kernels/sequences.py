"""Sequences: for every event, the latest start of a chain of steps that ends at or before it.

A chain e1..em is true until ts(e1) + D, so of all chains the one that starts last decides. Each entry of the deque
holds, for k = 1..m, the latest ts(e1) of chains of the first k steps among the events up to it. An event in order
extends the last entry's: O(m). A late one recomputes those behind it until nothing changes: O(m x later events), at
most.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.chunks import entry, insert, place_for, pop_front
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import D_COUNT, NEVER_BEFORE, SEQUENCE_ENTRY

_ONE = np.int64(1)


@kernel
def _extend(s: StateTable, at: int, steps: int, i: int) -> bool:
    """Compute the best starts of entry i from those of the one before; say whether they changed."""
    width = SEQUENCE_ENTRY + steps
    here = entry(s, at, width, i)
    before = entry(s, at, width, i - 1) + SEQUENCE_ENTRY if i > 0 else -1
    ts, served = s.arena[here], s.arena[here + 2]
    changed = False
    # One event serves at most one step: step k builds on what was there before this event.
    for k in range(steps):
        best = s.arena[before + k] if before >= 0 else NEVER_BEFORE
        if (served >> k) & _ONE:
            if k == 0:
                best = max(best, ts)
            elif before >= 0:
                best = max(best, s.arena[before + k - 1])
        if s.arena[here + SEQUENCE_ENTRY + k] != best:
            s.arena[here + SEQUENCE_ENTRY + k] = best
            changed = True
    return changed


@kernel
def sequence_insert(s: StateTable, at: int, steps: int, ts: int, position: int, served: int) -> None:
    """Add an event that serves the steps of the bits `served`; a row that is there already serves these too."""
    width = SEQUENCE_ENTRY + steps
    index = place_for(s, at, width, ts)
    # Of events of one ts, the row later in the log comes later; rows mostly come in that order.
    while index > 0:
        before = entry(s, at, width, index - 1)
        if s.arena[before] < ts or s.arena[before + 1] <= position:
            break
        index -= 1
    same = entry(s, at, width, index - 1) if index > 0 else 0
    if same != 0 and s.arena[same] == ts and s.arena[same + 1] == position:
        index -= 1
        s.arena[same + 2] |= served
    else:
        place = insert(s, at, width, index)
        s.arena[place] = ts
        s.arena[place + 1] = position
        s.arena[place + 2] = served
    _extend(s, at, steps, index)
    i = index + 1
    while i < s.arena[at + D_COUNT] and _extend(s, at, steps, i):
        i += 1


@inner
def sequence_expire(p: ProgramTable, s: StateTable, struct: int, at: int, t: int) -> None:
    """Drop the events that are out of the window at t."""
    width = SEQUENCE_ENTRY + p.struct_capacity[struct]
    reach = p.struct_reach[struct]
    while s.arena[at + D_COUNT] > 0 and s.arena[entry(s, at, width, 0)] + reach <= t:
        pop_front(s, at, width)


@inner
def sequence_start(p: ProgramTable, s: StateTable, struct: int, at: int) -> int:
    """Give the latest start of a whole chain, NEVER_BEFORE if there is none."""
    steps = p.struct_capacity[struct]
    width = SEQUENCE_ENTRY + steps
    count = s.arena[at + D_COUNT]
    if count == 0:
        return NEVER_BEFORE
    if p.struct_search[struct] != 0:
        return _searched(s, at, steps)
    return s.arena[entry(s, at, width, count - 1) + SEQUENCE_ENTRY + steps - 1]


@kernel
def _searched(s: StateTable, at: int, steps: int) -> int:
    """Find the latest start where one row may have two times (its models read them at different paths).

    Then a row is used once all the same, which the best starts do not know. They are an upper bound; chains are tried
    from the latest start on, the earliest next event first, so this goes back only where a row is met twice.
    """
    width = SEQUENCE_ENTRY + steps
    count = s.arena[at + D_COUNT]
    best = s.arena[entry(s, at, width, count - 1) + SEQUENCE_ENTRY + steps - 1]
    chosen = np.zeros(steps, np.int64)
    first = count - 1
    while first >= 0:
        start = entry(s, at, width, first)
        if s.arena[start] <= best and s.arena[start + 2] & _ONE:
            chosen[0] = first
            if _chain(s, at, steps, chosen):
                return s.arena[start]
        first -= 1
    return NEVER_BEFORE


@kernel
def _chain(s: StateTable, at: int, steps: int, chosen: np.ndarray) -> bool:
    """Say whether steps 2..m can follow the chosen first event, each row used once."""
    width = SEQUENCE_ENTRY + steps
    count = s.arena[at + D_COUNT]
    step = 1
    look = chosen[0] + 1
    while step > 0:
        if step == steps:
            return True
        found = -1
        while look < count and found < 0:
            place = entry(s, at, width, look)
            if (s.arena[place + 2] >> step) & _ONE:
                found = look
                for k in range(step):
                    if s.arena[entry(s, at, width, chosen[k]) + 1] == s.arena[place + 1]:
                        found = -1
            look += 1
        if found >= 0:
            chosen[step] = found
            step += 1
            look = found + 1
        else:
            step -= 1
            look = chosen[step] + 1
    return False
