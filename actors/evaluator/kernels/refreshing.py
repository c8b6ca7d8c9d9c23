"""Refreshing a page: the truth of its leaves at t from what its structures hold, and when that may change next."""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.abandonment import oldest_abandoned
from actors.evaluator.kernels.bits import trailing_zeros
from actors.evaluator.kernels.chunks import entry
from actors.evaluator.kernels.distinct import distinct_nth
from actors.evaluator.kernels.feeding import expire, mature
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.latest import latest_changes, latest_holds
from actors.evaluator.kernels.membership import mark_leaf
from actors.evaluator.kernels.narrow import narrow_latest
from actors.evaluator.kernels.pages import free_page, set_page_due
from actors.evaluator.kernels.rings import ring_nth
from actors.evaluator.kernels.sequences import sequence_expire, sequence_start
from actors.evaluator.kernels.sums import sum_holds
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.windows import until
from actors.evaluator.layout import (
    D_COUNT,
    DISTINCT,
    END_PLACE,
    END_SPAN,
    END_WORDS,
    FIRST_WORD,
    FOLLOW_TS,
    LATEST,
    LATEST_TS,
    NARROW,
    NEVER,
    NEVER_BEFORE,
    PAIR,
    PLAIN,
    RING,
    SEQUENCE,
    SEQUENCE_ENTRY,
    SIMPLE,
    SUM,
)

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_ALL = np.uint64(2**64 - 1)


@inner
def set_leaf(p: ProgramTable, s: StateTable, user: int, leaf: int, truth: bool) -> None:
    """Set a leaf's truth; where it flips, mark the audiences that read it."""
    word = FIRST_WORD + (leaf >> 6)
    bit = np.uint64(leaf & 63)
    if ((s.words[user, word] >> bit) & _ONE) != np.uint64(truth):
        s.words[user, word] ^= _ONE << bit
        mark_leaf(p, s, leaf)


@inner
def _nth(p: ProgramTable, s: StateTable, struct: int, at: int, n: int) -> int:
    if p.struct_kind[struct] == RING:
        return ring_nth(s.arena, at, p.struct_capacity[struct], n)
    return distinct_nth(s, at, n)


@inner
def _counted(p: ProgramTable, s: StateTable, user: int, struct: int, at: int, t: int) -> tuple[int, int]:
    """Refresh RING and DISTINCT: true until the n-th latest stops counting."""
    latest = _nth(p, s, struct, at, 1)
    soonest = NEVER
    for leaf in range(p.struct_leaves[struct], p.struct_leaves[struct + 1]):
        end = until(p, s, leaf, _nth(p, s, struct, at, p.leaf_n[leaf])) if latest != NEVER_BEFORE else NEVER_BEFORE
        set_leaf(p, s, user, leaf, end > t)
        if end > t:
            soonest = min(soonest, end)
    return soonest, latest + p.struct_reach[struct]


@kernel
def refresh_struct(p: ProgramTable, s: StateTable, user: int, struct: int, page: int, t: int) -> tuple[int, int]:
    """Set the truths of a structure's leaves at t; give when they may change next and until when it is needed."""
    at = page + p.struct_offset[struct]
    kind = p.struct_kind[struct]
    waits = NEVER
    needed = NEVER_BEFORE
    if p.struct_delay[struct] > 0:
        mature(p, s, struct, page, t)
        waiting = page + p.struct_waiting[struct]
        count = s.arena[waiting + D_COUNT]
        if count > 0:
            waits = s.arena[entry(s, waiting, PAIR, 0)] + p.struct_delay[struct]
            needed = s.arena[entry(s, waiting, PAIR, count - 1)] + p.struct_reach[struct]
    if kind in (RING, DISTINCT):
        soonest, end = _counted(p, s, user, struct, at, t)
        return min(waits, soonest), max(needed, end)
    first = p.struct_leaves[struct]
    if kind == SUM:
        expire(p, s, struct, at, t)
        for leaf in range(first, p.struct_leaves[struct + 1]):
            set_leaf(p, s, user, leaf, sum_holds(p, s, leaf, at))
        count = s.arena[at + D_COUNT]
        if count > 0:
            end = until(p, s, first, s.arena[entry(s, at, PAIR, 0)])
            return min(waits, end), max(needed, until(p, s, first, s.arena[entry(s, at, PAIR, count - 1)]))
        return waits, needed
    if kind == SEQUENCE:
        sequence_expire(p, s, struct, at, t)
        end = sequence_start(p, s, struct, at) + p.struct_reach[struct]
        set_leaf(p, s, user, first, end > t)
        count = s.arena[at + D_COUNT]
        if count > 0:
            width = SEQUENCE_ENTRY + p.struct_capacity[struct]
            needed = s.arena[entry(s, at, width, count - 1)] + p.struct_reach[struct]
        return end if end > t else NEVER, needed
    if kind == LATEST:
        return _latest(p, s, user, struct, at, t)
    return _abandoned(p, s, user, struct, at, t)


@inner
def _latest(p: ProgramTable, s: StateTable, user: int, struct: int, at: int, t: int) -> tuple[int, int]:
    """Refresh LATEST: what its row satisfies, for as long as the row is retained."""
    soonest = NEVER
    end = s.arena[at + LATEST_TS] + p.struct_reach[struct]
    for leaf in range(p.struct_leaves[struct], p.struct_leaves[struct + 1]):
        truth = end > t and latest_holds(p, s, leaf, at, t)
        set_leaf(p, s, user, leaf, truth)
        if truth:
            soonest = min(soonest, end)
        if end > t:
            soonest = min(soonest, latest_changes(p, s, leaf, at, t))
    # It is kept while an older row may still come late.
    return soonest, end


@inner
def _abandoned(p: ProgramTable, s: StateTable, user: int, struct: int, at: int, t: int) -> tuple[int, int]:
    first = p.struct_leaves[struct]
    reach = p.struct_reach[struct]
    oldest = oldest_abandoned(p, s, struct, at, t)
    counts_from = oldest + p.struct_capacity[struct]
    truth = oldest != NEVER_BEFORE and counts_from <= t
    set_leaf(p, s, user, first, truth)
    # A follow-up is kept for as long as a first event before it may still come late.
    needed = s.arena[at + FOLLOW_TS] + reach
    if oldest == NEVER_BEFORE:
        return NEVER, needed
    needed = max(needed, s.arena[entry(s, at, PAIR, s.arena[at + D_COUNT] - 1)] + reach)
    return oldest + reach if truth else counts_from, needed


@kernel
def _lapse_plain_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int, t: int) -> int:
    """Make the leaves of a page of small rings false that are no longer true; gives when the next one lapses.

    Looks at the leaves that are true, whatever number there is: their bits say which.
    """
    soonest = NEVER
    first = p.page_leaves[page]
    last = p.page_leaves[page + 1] - 1
    for w in range(first >> 6, (last >> 6) + 1):
        bits = s.words[user, FIRST_WORD + w]
        if w == first >> 6:
            bits &= _ALL << np.uint64(first & 63)
        if w == last >> 6:
            bits &= _ALL >> np.uint64(63 - (last & 63))
        while bits != _ZERO:
            leaf = (w << 6) + trailing_zeros(bits)
            end = until(p, s, leaf, s.arena[place + p.leaf_ends[END_WORDS * leaf + END_PLACE]])
            if end <= t:
                s.words[user, FIRST_WORD + w] ^= bits & (~bits + _ONE)
                mark_leaf(p, s, leaf)
            else:
                soonest = min(soonest, end)
            bits &= bits - _ONE
    return soonest


@inner
def judge_simple_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int, t: int) -> int:
    """Set the truths of a simple page's leaves at t; gives when the first of the true ones lapses, NEVER: none is true.

    Without a branch a leaf: it is true while its n-th latest counts, whatever it was.
    """
    soonest = NEVER
    leaf = np.int64(p.page_leaves[page])
    last = np.int64(p.page_leaves[page + 1])
    while leaf < last:
        first = leaf
        stop = min(last, ((leaf >> 6) + 1) << 6)
        fresh = _ZERO
        while leaf < stop:
            at = place + p.leaf_ends[END_WORDS * leaf + END_PLACE]
            end = s.arena[at] + p.leaf_ends[END_WORDS * leaf + END_SPAN]
            holds = end > t
            fresh |= np.uint64(holds) << np.uint64(leaf & 63)
            soonest = min(soonest, end if holds else NEVER)
            leaf += 1
        _set_leaves(p, s, user, first, stop, fresh)
    return soonest


@inner
def _set_leaves(p: ProgramTable, s: StateTable, user: int, first: int, stop: int, fresh: np.uint64) -> None:
    """Set the truths of leaves `first` to `stop`, all of one word, to those of `fresh`."""
    w = first >> 6
    own = (_ALL << np.uint64(first & 63)) & (_ALL >> np.uint64((64 - stop) & 63))
    flipped = (s.words[user, FIRST_WORD + w] ^ fresh) & own
    if flipped != _ZERO:
        s.words[user, FIRST_WORD + w] ^= flipped
        while flipped != _ZERO:
            mark_leaf(p, s, (w << 6) + trailing_zeros(flipped))
            flipped &= flipped - _ONE


@inner
def judge_narrow_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int, t: int) -> int:
    """Do for a narrow page what `judge_simple_page` does for a simple one."""
    soonest = NEVER
    base = s.arena[place]
    elapsed = t - base
    leaf = np.int64(p.page_leaves[page])
    last = np.int64(p.page_leaves[page + 1])
    while leaf < last:
        first = leaf
        stop = min(last, ((leaf >> 6) + 1) << 6)
        fresh = _ZERO
        while leaf < stop:
            at = 2 * place + p.leaf_ends[END_WORDS * leaf + END_PLACE]
            end = s.offsets[at] + p.leaf_ends[END_WORDS * leaf + END_SPAN]
            holds = end > elapsed
            fresh |= np.uint64(holds) << np.uint64(leaf & 63)
            soonest = min(soonest, end if holds else NEVER)
            leaf += 1
        _set_leaves(p, s, user, first, stop, fresh)
    return soonest + base if soonest != NEVER else NEVER


@inner
def judge_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int, t: int) -> int:
    """Set the truths of a simple or narrow page's leaves at t; gives when the first of the true ones lapses."""
    if p.page_plain[page] == NARROW:
        return judge_narrow_page(p, s, user, page, place, t)
    return judge_simple_page(p, s, user, page, place, t)


@inner
def lapse_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int, t: int) -> int:
    """Make what time makes of a page; gives its due time for the caller to note, NEVER: `refresh_page` saw to it."""
    kind = p.page_plain[page]
    due = NEVER
    if kind >= SIMPLE:
        due = judge_page(p, s, user, page, place, t)
    elif kind == PLAIN:
        due = _lapse_plain_page(p, s, user, page, place, t)
    if due == NEVER:
        refresh_page(p, s, user, page, place, t)
    return due


@kernel
def refresh_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int, t: int) -> int:
    """Set the truths of a page's leaves at t and its due time, which is given; a page of no use any more is freed."""
    soonest = NEVER
    needed = NEVER_BEFORE
    narrow = p.page_plain[page] == NARROW
    if narrow:
        soonest = judge_narrow_page(p, s, user, page, place, t)
    for struct in range(p.page_structs[page], p.page_structs[page + 1]):
        if narrow:
            needed = max(needed, narrow_latest(s, place, p.struct_offset[struct]) + p.struct_reach[struct])
        else:
            due, end = refresh_struct(p, s, user, struct, place, t)
            soonest = min(soonest, due)
            needed = max(needed, end)
    if soonest == NEVER:
        if needed <= t:
            free_page(p, s, user, page, place)
            return NEVER
        soonest = needed
    set_page_due(p, s, user, page, soonest)
    return soonest
