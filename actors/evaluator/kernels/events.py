"""The hot loop: hits in, structures fed, transitions out.

Sketch of the cost per hit that feeds r rings: a user row (two or three cache lines), a page (two lines), r insertions
of a few ns, a program run per audience that reads a flipped leaf. The lines are asked for some hits ahead, so what is
left of the memory's latency is what the queue of outstanding misses lets through.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.dedup import purge, remember, seen
from actors.evaluator.kernels.feeding import feed, words_to_feed
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.membership import begin, has_room, mark_defaults, mark_leaf, settle, touch
from actors.evaluator.kernels.narrow import narrow_insert
from actors.evaluator.kernels.pages import (
    ask_directory,
    ask_place,
    ask_row,
    ask_words,
    direct_place,
    directory_growth,
    find_page,
    new_page,
    page_at,
)
from actors.evaluator.kernels.refreshing import judge_page, refresh_struct
from actors.evaluator.kernels.rings import ring_insert, ring_nth
from actors.evaluator.kernels.tables import HitTable, ProgramTable, StateTable
from actors.evaluator.kernels.users import advance_user, leaves_universe_at
from actors.evaluator.kernels.wheel import arm
from actors.evaluator.kernels.windows import until
from actors.evaluator.layout import (
    ACCEPTED,
    ALIVE,
    CAUSE_EVENT,
    DIRECT,
    DIRECTORY,
    DUE,
    DUPLICATE,
    FEED_CAPACITY,
    FEED_OFFSET,
    FEED_PAGE,
    FEED_REACH,
    FEED_RING,
    FEED_STEPS,
    FEED_STRUCT,
    FEED_VALUE,
    FEED_WORDS,
    FIRST_DUE,
    FIRST_WORD,
    FLAGS,
    LAST_TS,
    NARROW,
    NEED_ROOM,
    NEVER,
    NEVER_BEFORE,
    PAGES,
    PLACE_MASK,
    S_ALIVE,
    S_ARENA_TOP,
    S_CLOCK,
    S_FED,
    S_NEED,
    S_POSITION,
    SIMPLE,
    TOO_LATE,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
#: Hits ahead of which rows and pages are asked for.
_ROWS_AHEAD = 16
_DIRECTORIES_AHEAD = 10
_PAGES_AHEAD = 5


@inner
def _ask(p: ProgramTable, s: StateTable, h: HitTable, i: int) -> None:
    """Ask for the memory of hits to come: the row, then the directory, then what the hit's last filter feeds.

    Filters of one page match together mostly, so the last one stands for all; a direct page is asked for by it too.
    """
    ahead = i + _ROWS_AHEAD
    if ahead < h.slots.size:
        ask_row(p, s, np.int64(h.slots[ahead]))
    ahead = i + _DIRECTORIES_AHEAD
    if ahead < h.slots.size:
        directory = s.users[h.slots[ahead], DIRECTORY]
        if directory != 0:
            ask_directory(s, directory)
    ahead = i + _PAGES_AHEAD
    if ahead < h.slots.size and h.match_offsets[ahead + 1] > h.match_offsets[ahead]:
        user = np.int64(h.slots[ahead])
        feed_ = np.int64(p.filter_feeds[h.matches[h.match_offsets[ahead + 1] - 1]])
        page = p.feeds[FEED_WORDS * feed_ + FEED_PAGE]
        ask_words(p, s, user, page)
        place = page_at(p, s, user, page)
        if place != 0:
            ask_place(p, s, page, place)


@inner
def _feed_ring(p: ProgramTable, s: StateTable, user: int, struct: int, page: int, ts: int, now: int) -> int:
    """Put `ts` into a ring, set the leaves that became true, give the soonest time at which one of them lapses."""
    soonest = NEVER
    at = page + p.struct_offset[struct]
    capacity = p.struct_capacity[struct]
    if ring_insert(s.arena, at, capacity, ts):
        for leaf in range(p.struct_leaves[struct], p.struct_leaves[struct + 1]):
            word = FIRST_WORD + (leaf >> 6)
            bit = np.uint64(leaf & 63)
            if ((s.words[user, word] >> bit) & _ONE) == _ZERO:
                end = until(p, s, leaf, ring_nth(s.arena, at, capacity, p.leaf_n[leaf]))
                if end > now:
                    s.words[user, word] |= _ONE << bit
                    soonest = min(soonest, end)
                    mark_leaf(p, s, leaf)
    return soonest


@inner
def _schedule(
    p: ProgramTable, s: StateTable, user: int, page: int, entry: int, soonest: int, needed: int, now: int, exact: bool
) -> int:
    """Bring a page's due time forward to `soonest`; one that has none yet is due when it is no longer needed.

    `exact`: it is due at `soonest`, be that later than was thought. `entry` is what `find_page` gave.
    """
    column = p.shape[FIRST_DUE] + page
    due = s.users[user, column] if entry < 0 else s.arena[entry + 1]
    if due == NEVER:
        due = min(soonest, max(needed, now + 1))
    elif soonest < due or (exact and soonest != NEVER):
        due = soonest
    else:
        return due
    if entry < 0:
        s.users[user, column] = due
    else:
        s.arena[entry + 1] = due
    return due


@inner
def _feed(
    p: ProgramTable, s: StateTable, h: HitTable, hit: int, user: int, ts: int, position: int, live: bool, now: int
) -> int:
    """Feed all structures of a hit's matching filters; give the soonest due time among their pages.

    Rings answer at once. Others are noted and looked at when the whole step is in (`_look_at_fed`).
    """
    least = NEVER
    page = -1
    place = 0
    entry = 0
    soonest = NEVER
    needed = NEVER_BEFORE
    simple = False
    narrow = False
    for m in range(h.match_offsets[hit], h.match_offsets[hit + 1]):
        matched = np.int64(h.matches[m])
        for f in range(p.filter_feeds[matched], p.filter_feeds[matched + 1]):
            at = np.int64(f) * FEED_WORDS
            if p.feeds[at + FEED_PAGE] != page:
                if page >= 0 and live:
                    if simple:
                        soonest = judge_page(p, s, user, page, place, now)
                    least = min(least, _schedule(p, s, user, page, entry, soonest, needed, now, simple))
                page = p.feeds[at + FEED_PAGE]
                simple = p.page_plain[page] >= SIMPLE
                narrow = p.page_plain[page] == NARROW
                entry = find_page(p, s, user, page)
                if entry == 0:
                    place = new_page(p, s, user, page)
                    entry = find_page(p, s, user, page)
                elif entry < 0:
                    place = direct_place(p, s, user, page)
                else:
                    place = int(s.arena[entry] & PLACE_MASK)
                soonest = NEVER
                needed = NEVER_BEFORE
            if p.feeds[at + FEED_RING] != 0:
                if narrow:
                    offset, capacity = p.feeds[at + FEED_OFFSET], p.feeds[at + FEED_CAPACITY]
                    narrow_insert(p, s, page, place, offset, capacity, ts)
                elif simple or not live:
                    ring_insert(s.arena, place + p.feeds[at + FEED_OFFSET], p.feeds[at + FEED_CAPACITY], ts)
                else:
                    soonest = min(soonest, _feed_ring(p, s, user, p.feeds[at + FEED_STRUCT], place, ts, now))
                needed = max(needed, ts + p.feeds[at + FEED_REACH])
            else:
                struct = p.feeds[at + FEED_STRUCT]
                column = p.feeds[at + FEED_VALUE]
                value = h.values[hit, column] if column >= 0 else np.int64(0)
                feed(p, s, struct, place, ts, value, position, p.feeds[at + FEED_STEPS], now)
                last = s.scalars[S_FED] - 1
                if live and (last < 0 or s.fed_struct[last] != struct or s.fed_page[last] != place):
                    s.fed_struct[last + 1] = struct
                    s.fed_page[last + 1] = place
                    s.scalars[S_FED] = last + 2
    if page >= 0 and live:
        if simple:
            soonest = judge_page(p, s, user, page, place, now)
        least = min(least, _schedule(p, s, user, page, entry, soonest, needed, now, simple))
    return least


@kernel
def _look_at_fed(p: ProgramTable, s: StateTable, user: int, now: int) -> int:
    """Refresh the structures that the step fed, now that all of it is in; give the soonest due time of their pages."""
    least = NEVER
    for i in range(s.scalars[S_FED]):
        struct = np.int64(s.fed_struct[i])
        soonest, needed = refresh_struct(p, s, user, struct, s.fed_page[i], now)
        page = np.int64(p.struct_page[struct])
        least = min(least, _schedule(p, s, user, page, find_page(p, s, user, page), soonest, needed, now, False))
    s.scalars[S_FED] = 0
    return least


@kernel
def _words_for_feeds(p: ProgramTable, s: StateTable, h: HitTable, hit: int, user: int) -> int:
    """Give the words of the arena that the structures of a hit may take beyond the pages themselves."""
    words = 0
    for m in range(h.match_offsets[hit], h.match_offsets[hit + 1]):
        matched = np.int64(h.matches[m])
        for f in range(p.filter_feeds[matched], p.filter_feeds[matched + 1]):
            struct = p.feeds[np.int64(f) * FEED_WORDS + FEED_STRUCT]
            if p.feeds[np.int64(f) * FEED_WORDS + FEED_RING] == 0:
                words += words_to_feed(p, s, struct, page_at(p, s, user, p.struct_page[struct]))
    return words


@inner
def _room(p: ProgramTable, s: StateTable, h: HitTable, user: int, first: int, end: int) -> bool:
    """Say whether the arena has room for all that hits `first` to `end` may take; else S_NEED says how much."""
    words = 0
    for i in range(first, end):
        model = np.int64(h.models[i])
        words += p.model_words[model]
        if p.shape[PAGES] > p.shape[DIRECT]:
            words += directory_growth(s, user, h.match_offsets[i + 1] - h.match_offsets[i])
        if p.model_plain[model] == 0:
            # Each hit may find a deque grown by the one before it: twice covers both.
            words += 2 * _words_for_feeds(p, s, h, i, user)
    if s.scalars[S_ARENA_TOP] + words <= s.arena.size:
        return True
    s.scalars[S_NEED] = words
    return False


@kernel
def apply_hits(
    p: ProgramTable, s: StateTable, h: HitTable, start: int, horizon_ms: int, ids_max: int, live: bool
) -> int:
    """Apply hits `start..` in order; hits of one row and user are one step. Give how many are applied.

    Fewer than all: there is no room (S_NEED words of the arena, 0: in the output); call again from there. Before an
    event is applied its user is brought up to date; nobody else is. Not `live` (loading retained events): no due
    times, leaves or transitions, only structures, greatest ts and ids.
    """
    count = h.rows.size
    i = start
    while i < count:
        _ask(p, s, h, i)
        user = np.int64(h.slots[i])
        clock = max(h.clocks[i], s.scalars[S_CLOCK])
        parent = np.int64(s.user_parent[user])
        end = i + 1
        while end < count and h.rows[end] == h.rows[i] and h.slots[end] == user:
            end += 1
        if i == 0 or h.rows[i] != h.rows[i - 1]:
            # All of a row is judged before any of it registers: one key's id must not be evicted by another's.
            j = i
            while j < count and h.rows[j] == h.rows[i]:
                known = h.first_hash[j] != _ZERO and seen(s, h.first_hash[j], h.second_hash[j], clock - horizon_ms)
                h.outcomes[j] = DUPLICATE if known else ACCEPTED
                j += 1
        s.scalars[S_NEED] = 0
        if live:
            if s.users[user, DUE] <= clock and advance_user(p, s, user, clock) == NEED_ROOM:
                return i
            if not has_room(p, s, parent):
                return i
            begin(s)
        if not _room(p, s, h, user, i, end):
            return i
        s.scalars[S_CLOCK] = clock
        if h.outcomes[i] == DUPLICATE:
            i = end
            continue
        accepted = False
        least = NEVER
        position = s.scalars[S_POSITION] + h.rows[i]
        for j in range(i, end):
            model = np.int64(h.models[j])
            ts = clock
            if h.timed[j] != 0:
                ts = min(clock, h.times[j] + clock if h.relative[j] != 0 else h.times[j])
            if ts <= clock - p.model_retention[model]:
                h.outcomes[j] = TOO_LATE
                continue
            h.outcomes[j] = ACCEPTED
            accepted = True
            s.users[user, LAST_TS] = max(s.users[user, LAST_TS], ts)
            least = min(least, _feed(p, s, h, j, user, ts, position, live, clock))
        if accepted:
            if h.first_hash[i] != _ZERO:
                remember(s, h.first_hash[i], h.second_hash[i], clock)
                # At each acceptance, not once a batch: what is a duplicate must not depend on how the log was cut.
                purge(s, clock - horizon_ms, ids_max, 2)
            if live:
                if (s.users[user, FLAGS] & ALIVE) == 0:
                    s.users[user, FLAGS] |= ALIVE
                    s.scalars[S_ALIVE] += 1
                    mark_defaults(p, s, parent)
                if s.scalars[S_FED] > 0:
                    least = min(least, _look_at_fed(p, s, user, clock))
                settle(p, s, user, clock, CAUSE_EVENT)
                least = min(least, leaves_universe_at(p, s, user))
                if least < s.users[user, DUE]:
                    arm(s, user, least)
                touch(s, user)
        i = end
    return count
