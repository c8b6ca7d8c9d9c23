"""Feeding structures: what an accepted event leaves in the pages of its user.

An event younger than a structure's delay (`between_ago` begins A ago) waits in the structure's own deque, and goes on
when it is A old. Rings without a delay are fed by the hot loop itself (`events.py`).
"""

from __future__ import annotations

from actors.evaluator.kernels.abandonment import first_event, follow_up, oldest_abandoned
from actors.evaluator.kernels.chunks import entry, growth, insert, place_for, pop_front
from actors.evaluator.kernels.distinct import distinct_insert
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.latest import latest_insert
from actors.evaluator.kernels.rings import ring_insert
from actors.evaluator.kernels.sequences import sequence_expire, sequence_insert
from actors.evaluator.kernels.sums import sum_insert, sum_pop
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.windows import until
from actors.evaluator.layout import (
    ABANDON,
    D_COUNT,
    DISTINCT,
    LATEST,
    PAIR,
    RING,
    S_CAPPED,
    SEQUENCE,
    SEQUENCE_ENTRY,
    SUM,
)
from cluster.limits import WINDOW_EVENTS_MAX


@inner
def width_of(p: ProgramTable, struct: int) -> int:
    """Give the words of an entry of the structure's deque."""
    return SEQUENCE_ENTRY + p.struct_capacity[struct] if p.struct_kind[struct] == SEQUENCE else PAIR


@inner
def expire(p: ProgramTable, s: StateTable, struct: int, at: int, t: int) -> None:
    """Take the events out of a sum that no longer count at t."""
    leaf = p.struct_leaves[struct]
    while s.arena[at + D_COUNT] > 0 and until(p, s, leaf, s.arena[entry(s, at, PAIR, 0)]) <= t:
        sum_pop(s, at)


@inner
def _make_place(s: StateTable, at: int, width: int, ts: int) -> bool:
    """Let the oldest of a full deque go; False if the new event is older still and has no place."""
    if s.arena[at + D_COUNT] < WINDOW_EVENTS_MAX:
        return True
    s.scalars[S_CAPPED] += 1
    if ts <= s.arena[entry(s, at, width, 0)]:
        return False
    pop_front(s, at, width)
    return True


@inner
def _take(p: ProgramTable, s: StateTable, struct: int, at: int, ts: int, value: int, t: int) -> None:
    """Let an event that is old enough count."""
    kind = p.struct_kind[struct]
    if kind == RING:
        ring_insert(s.arena, at, p.struct_capacity[struct], ts)
    elif kind == DISTINCT:
        distinct_insert(s, at, p.struct_capacity[struct], ts, value)
    elif until(p, s, p.struct_leaves[struct], ts) > t:
        _sum_take(s, at, ts, value)


@inner
def _sum_take(s: StateTable, at: int, ts: int, value: int) -> None:
    if s.arena[at + D_COUNT] >= WINDOW_EVENTS_MAX:
        s.scalars[S_CAPPED] += 1
        if ts <= s.arena[entry(s, at, PAIR, 0)]:
            return
        sum_pop(s, at)
    # The value came as the bits of a float64: they go through the spare word that the insertion overwrites.
    s.arena[0] = value
    sum_insert(s, at, ts, s.reals[0])


@inner
def mature(p: ProgramTable, s: StateTable, struct: int, page: int, t: int) -> None:
    """Let the events count that have waited long enough at t."""
    waiting = page + p.struct_waiting[struct]
    oldest = t - p.struct_delay[struct]
    while s.arena[waiting + D_COUNT] > 0:
        place = entry(s, waiting, PAIR, 0)
        ts = s.arena[place]
        if ts > oldest:
            break
        value = s.arena[place + 1]
        pop_front(s, waiting, PAIR)
        _take(p, s, struct, page + p.struct_offset[struct], ts, value, t)


@kernel
def feed(
    p: ProgramTable, s: StateTable, struct: int, page: int, ts: int, value: int, position: int, steps: int, t: int
) -> None:
    """Feed one structure of the page at `page` an event of `ts` at clock `t`; what is out of its window goes first."""
    at = page + p.struct_offset[struct]
    kind = p.struct_kind[struct]
    if kind == ABANDON:
        oldest_abandoned(p, s, struct, at, t)
        if steps & 1 and ts + p.struct_reach[struct] > t and _make_place(s, at, PAIR, ts):
            first_event(s, at, ts, position)
        if steps & 2:
            follow_up(s, at, ts, position)
        return
    if kind == SEQUENCE:
        sequence_expire(p, s, struct, at, t)
        if ts + p.struct_reach[struct] > t and _make_place(s, at, width_of(p, struct), ts):
            sequence_insert(s, at, p.struct_capacity[struct], ts, position, steps)
        return
    if kind == LATEST:
        latest_insert(s, at, p.struct_capacity[struct], ts, position, value, steps)
        return
    if kind == SUM:
        expire(p, s, struct, at, t)
    if p.struct_delay[struct] > 0:
        mature(p, s, struct, page, t)
        if ts > t - p.struct_delay[struct]:
            waiting = page + p.struct_waiting[struct]
            if _make_place(s, waiting, PAIR, ts):
                place = insert(s, waiting, PAIR, place_for(s, waiting, PAIR, ts))
                s.arena[place] = ts
                s.arena[place + 1] = value
            return
    _take(p, s, struct, at, ts, value, t)


@kernel
def words_to_feed(p: ProgramTable, s: StateTable, struct: int, page: int) -> int:
    """Give the words of the arena that feeding a structure once may take (page 0: it is not there yet)."""
    kind = p.struct_kind[struct]
    width = width_of(p, struct)
    if page == 0:
        return 8 * (width + 1) + 128
    at = page + p.struct_offset[struct]
    more = 1
    words = 0
    if p.struct_delay[struct] > 0:
        waiting = page + p.struct_waiting[struct]
        more += s.arena[waiting + D_COUNT]
        words = growth(s, waiting, PAIR, 1)
    return words if kind == RING else words + growth(s, at, width, more)


@kernel
def words_to_mature(p: ProgramTable, s: StateTable, page: int, place: int) -> int:
    """Give the words that the passing of time may take in a page: events that wait go on into sums and values."""
    words = 0
    for struct in range(p.page_structs[page], p.page_structs[page + 1]):
        if p.struct_delay[struct] > 0 and p.struct_kind[struct] != RING:
            waiting = s.arena[place + p.struct_waiting[struct] + D_COUNT]
            words += growth(s, place + p.struct_offset[struct], PAIR, waiting)
    return words
