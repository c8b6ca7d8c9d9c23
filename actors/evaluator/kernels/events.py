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
from actors.evaluator.kernels.pages import ask_words, directory_growth, find_page, new_page, page_at
from actors.evaluator.kernels.prefetch import prefetch, prefetch_row
from actors.evaluator.kernels.refreshing import refresh_struct
from actors.evaluator.kernels.rings import ring_insert, ring_nth
from actors.evaluator.kernels.tables import ProgramTable, StateTable
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
    FIRST_PAGE,
    FIRST_WORD,
    FLAGS,
    I16,
    I32,
    I64,
    LAST_TS,
    NEED_ROOM,
    NEVER,
    NEVER_BEFORE,
    PAGES,
    PLACE_MASK,
    RING,
    S_ALIVE,
    S_ARENA_TOP,
    S_CLOCK,
    S_FED,
    S_NEED,
    S_POSITION,
    TOO_LATE,
    U8,
    U64,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
#: Hits ahead of which rows and pages are asked for.
_ROWS_AHEAD = 16
_DIRECTORIES_AHEAD = 10
_PAGES_AHEAD = 5


@inner
def _ask(p: ProgramTable, s: StateTable, slots: I32, match_offsets: I32, matches: I32, i: int) -> None:
    """Ask for the memory of hits to come: the row, then the directory, then what the hit's last filter feeds.

    Filters of one page match together mostly, so the last one stands for all; a direct page is asked for by it too.
    """
    ahead = i + _ROWS_AHEAD
    if ahead < slots.size:
        user = np.int64(slots[ahead])
        prefetch_row(s.users, user, 0)
        prefetch_row(s.users, user, p.shape[FIRST_PAGE])
        prefetch_row(s.users, user, p.shape[FIRST_PAGE] + 8)
    ahead = i + _DIRECTORIES_AHEAD
    if ahead < slots.size:
        directory = s.users[slots[ahead], DIRECTORY]
        if directory != 0:
            prefetch(s.arena, directory)
            prefetch(s.arena, directory + 8)
    ahead = i + _PAGES_AHEAD
    if ahead < slots.size and match_offsets[ahead + 1] > match_offsets[ahead]:
        user = np.int64(slots[ahead])
        feed_ = p.filter_feeds[matches[match_offsets[ahead + 1] - 1]]
        page = np.int64(p.struct_page[p.feed_struct[feed_]])
        ask_words(p, s, user, page)
        place = page_at(p, s, user, page)
        if place != 0:
            prefetch(s.arena, place)
            prefetch(s.arena, place + 8)
            prefetch(s.arena, place + 16)


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
    p: ProgramTable, s: StateTable, user: int, page: int, entry: int, soonest: int, needed: int, now: int
) -> int:
    """Bring a page's due time forward to `soonest`; one that has none yet is due when it is no longer needed.

    `entry` is what `find_page` gave.
    """
    column = p.shape[FIRST_PAGE] + 2 * page + 1
    due = s.users[user, column] if entry < 0 else s.arena[entry + 1]
    if due == NEVER:
        due = min(soonest, max(needed, now + 1))
    elif soonest < due:
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
    p: ProgramTable, s: StateTable, user: int, ts: int, position: int, matched: I32, values: I64, live: bool, now: int
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
    for m in range(matched.size):
        for f in range(p.filter_feeds[matched[m]], p.filter_feeds[matched[m] + 1]):
            struct = np.int64(p.feed_struct[f])
            if p.struct_page[struct] != page:
                if page >= 0 and live:
                    least = min(least, _schedule(p, s, user, page, entry, soonest, needed, now))
                page = int(p.struct_page[struct])
                entry = find_page(p, s, user, page)
                if entry == 0:
                    place = new_page(p, s, user, page)
                    entry = find_page(p, s, user, page)
                elif entry < 0:
                    place = s.users[user, p.shape[FIRST_PAGE] + 2 * page]
                else:
                    place = int(s.arena[entry] & PLACE_MASK)
                soonest = NEVER
                needed = NEVER_BEFORE
            if p.struct_kind[struct] == RING and p.struct_delay[struct] == 0:
                soonest = min(soonest, _feed_ring(p, s, user, struct, place, ts, now if live else NEVER))
                needed = max(needed, ts + p.struct_reach[struct])
            else:
                column = p.feed_value[f]
                value = values[column] if column >= 0 else np.int64(0)
                feed(p, s, struct, place, ts, value, position, p.feed_steps[f], now)
                if live:
                    s.fed_struct[s.scalars[S_FED]] = struct
                    s.fed_page[s.scalars[S_FED]] = place
                    s.scalars[S_FED] += 1
    if page >= 0 and live:
        least = min(least, _schedule(p, s, user, page, entry, soonest, needed, now))
    return least


@kernel
def _look_at_fed(p: ProgramTable, s: StateTable, user: int, now: int) -> int:
    """Refresh the structures that the step fed, now that all of it is in; give the soonest due time of their pages."""
    least = NEVER
    for i in range(s.scalars[S_FED]):
        struct = np.int64(s.fed_struct[i])
        soonest, needed = refresh_struct(p, s, user, struct, s.fed_page[i], now)
        page = np.int64(p.struct_page[struct])
        least = min(least, _schedule(p, s, user, page, find_page(p, s, user, page), soonest, needed, now))
    s.scalars[S_FED] = 0
    return least


@kernel
def _words_for_feeds(p: ProgramTable, s: StateTable, user: int, matched: I32) -> int:
    """Give the words of the arena that the structures of a hit may take beyond the pages themselves."""
    words = 0
    for m in range(matched.size):
        for f in range(p.filter_feeds[matched[m]], p.filter_feeds[matched[m] + 1]):
            struct = np.int64(p.feed_struct[f])
            if p.struct_kind[struct] != RING or p.struct_delay[struct] > 0:
                words += words_to_feed(p, s, struct, page_at(p, s, user, p.struct_page[struct]))
    return words


@inner
def _room(
    p: ProgramTable, s: StateTable, user: int, first: int, end: int, models: I16, match_offsets: I32, matches: I32
) -> bool:
    """Say whether the arena has room for all that hits `first` to `end` may take; else S_NEED says how much."""
    words = 0
    for i in range(first, end):
        model = np.int64(models[i])
        words += p.model_words[model]
        if p.shape[PAGES] > p.shape[DIRECT]:
            words += directory_growth(s, user, match_offsets[i + 1] - match_offsets[i])
        if p.model_plain[model] == 0:
            # Each hit may find a deque grown by the one before it: twice covers both.
            words += 2 * _words_for_feeds(p, s, user, matches[match_offsets[i] : match_offsets[i + 1]])
    if s.scalars[S_ARENA_TOP] + words <= s.arena.size:
        return True
    s.scalars[S_NEED] = words
    return False


@kernel
def apply_hits(
    p: ProgramTable,
    s: StateTable,
    start: int,
    rows: I32,
    models: I16,
    slots: I32,
    clocks: I64,
    times: I64,
    relative: U8,
    timed: U8,
    match_offsets: I32,
    matches: I32,
    values: I64,
    first_hash: U64,
    second_hash: U64,
    horizon_ms: int,
    ids_max: int,
    live: bool,
    outcomes: U8,
) -> int:
    """Apply hits `start..` in order; hits of one row and user are one step. Give how many are applied.

    Fewer than all: there is no room (S_NEED words of the arena, 0: in the output); call again from there. `times` is
    read by `timed` (0: the clock is the ts) and `relative` (an offset to the clock). `matches` are filters by hit
    (CSR), `values` a row a hit. Before an event is applied its user is brought up to date; nobody else is. Not `live`
    (loading retained events): no due times, leaves or transitions, only structures, greatest ts and ids.
    """
    count = rows.size
    i = start
    while i < count:
        _ask(p, s, slots, match_offsets, matches, i)
        user = np.int64(slots[i])
        clock = max(clocks[i], s.scalars[S_CLOCK])
        parent = np.int64(s.user_parent[user])
        end = i + 1
        while end < count and rows[end] == rows[i] and slots[end] == user:
            end += 1
        s.scalars[S_NEED] = 0
        if live:
            if s.users[user, DUE] <= clock and advance_user(p, s, user, clock) == NEED_ROOM:
                return i
            if not has_room(p, s, parent):
                return i
            begin(s)
        if not _room(p, s, user, i, end, models, match_offsets, matches):
            return i
        s.scalars[S_CLOCK] = clock
        if first_hash[i] != _ZERO and seen(s, first_hash[i], second_hash[i], clock - horizon_ms):
            for j in range(i, end):
                outcomes[j] = DUPLICATE
            i = end
            continue
        accepted = False
        row = s.users[user]
        least = NEVER
        position = s.scalars[S_POSITION] + rows[i]
        for j in range(i, end):
            model = np.int64(models[j])
            ts = clock
            if timed[j] != 0:
                ts = min(clock, times[j] + clock if relative[j] != 0 else times[j])
            if ts <= clock - p.model_retention[model]:
                outcomes[j] = TOO_LATE
                continue
            outcomes[j] = ACCEPTED
            accepted = True
            row[LAST_TS] = max(row[LAST_TS], ts)
            matched = matches[match_offsets[j] : match_offsets[j + 1]]
            least = min(least, _feed(p, s, user, ts, position, matched, values[j], live, clock))
        if accepted:
            if first_hash[i] != _ZERO:
                remember(s, first_hash[i], second_hash[i], clock)
                # At each acceptance, not once a batch: what is a duplicate must not depend on how the log was cut.
                purge(s, clock - horizon_ms, ids_max, 2)
            if live:
                if (row[FLAGS] & ALIVE) == 0:
                    row[FLAGS] |= ALIVE
                    s.scalars[S_ALIVE] += 1
                    mark_defaults(p, s, parent)
                if s.scalars[S_FED] > 0:
                    least = min(least, _look_at_fed(p, s, user, clock))
                settle(p, s, user, clock, CAUSE_EVENT)
                least = min(least, leaves_universe_at(p, s, user))
                if least < row[DUE]:
                    arm(s, user, least)
                touch(s, user)
        i = end
    return count
