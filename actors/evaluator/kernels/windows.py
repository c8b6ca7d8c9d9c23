"""When an event stops counting: the one question that every window answers.

Every window of semantics.md §2 is "an event at ts counts from ts + A until `until(ts)`", and `until` never falls as ts
grows: so the oldest event of a deque is the first to go, and the n-th latest decides about n.
"""

from __future__ import annotations

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import NEVER, NEVER_BEFORE, SINCE, WITHIN


@kernel
def next_boundary(s: StateTable, calendar: int, ts: int) -> int:
    """Give the first boundary of a calendar after `ts`; O(1) where it is the one last found, else O(log)."""
    low = s.calendar_starts[calendar]
    high = s.calendar_starts[calendar + 1]
    hint = s.calendar_hint[calendar]
    if hint > low and hint < high and s.calendar_bounds[hint - 1] <= ts and ts < s.calendar_bounds[hint]:
        return s.calendar_bounds[hint]
    while low < high:
        middle = (low + high) // 2
        if s.calendar_bounds[middle] <= ts:
            low = middle + 1
        else:
            high = middle
    if low == s.calendar_starts[calendar + 1]:
        return NEVER
    s.calendar_hint[calendar] = low
    return s.calendar_bounds[low]


@inner
def until(p: ProgramTable, s: StateTable, leaf: int, ts: int) -> int:
    """Give the ms from which an event at `ts` no longer counts for a leaf; NEVER_BEFORE gives a time long past."""
    end = ts + p.leaf_span[leaf]
    window = p.leaf_window[leaf]
    if window == WITHIN or ts == NEVER_BEFORE:
        return end
    if window == SINCE:
        return end if ts >= p.leaf_origin[leaf] else NEVER_BEFORE
    return min(end, next_boundary(s, p.leaf_origin[leaf], ts))
