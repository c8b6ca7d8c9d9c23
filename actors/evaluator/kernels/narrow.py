"""Narrow pages: rings whose timestamps are 32-bit offsets to one base, so that twice as many share a cache line.

The base moves when an event comes that no offset reaches. What its move leaves behind, and what comes later than any
offset says, is older than every span of the page (`structures.NARROW_SPAN_MAX_MS`) and so counts for nothing any more.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import NARROW_FIRST, NARROW_MAX, NARROW_NEVER, NEVER_BEFORE


@inner
def narrow_clear(p: ProgramTable, s: StateTable, page: int, place: int) -> None:
    """Make all rings of a page empty."""
    s.arena[place] = NEVER_BEFORE
    for i in range(2 * place + NARROW_FIRST, 2 * (place + p.page_words[page])):
        s.offsets[i] = NARROW_NEVER


@kernel
def _move_base(p: ProgramTable, s: StateTable, page: int, place: int, base: int) -> None:
    moved = base - s.arena[place]
    s.arena[place] = base
    for i in range(2 * place + NARROW_FIRST, 2 * (place + p.page_words[page])):
        s.offsets[i] = max(s.offsets[i] - moved, NARROW_NEVER) if s.offsets[i] != NARROW_NEVER else NARROW_NEVER


@inner
def narrow_insert(p: ProgramTable, s: StateTable, page: int, place: int, offset: int, capacity: int, ts: int) -> None:
    """Add a timestamp, at or before the clock, to the ring at `offset`; it may be too old to be kept."""
    value = ts - s.arena[place]
    if value > NARROW_MAX:
        _move_base(p, s, page, place, ts)
        value = np.int64(0)
    at = 2 * place + offset
    last = at + capacity - 1
    if value <= s.offsets[last]:
        return
    while last > at and s.offsets[last - 1] < value:
        s.offsets[last] = s.offsets[last - 1]
        last -= 1
    s.offsets[last] = value


@inner
def narrow_latest(s: StateTable, place: int, offset: int) -> int:
    """Give the latest timestamp of the ring at `offset`, NEVER_BEFORE or before if it has none."""
    latest = np.int64(s.offsets[2 * place + offset])
    return s.arena[place] + latest if latest != NARROW_NEVER else NEVER_BEFORE
