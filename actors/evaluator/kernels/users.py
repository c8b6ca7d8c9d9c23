"""Bringing users up to date: every change that time alone makes, at its exact ms, user by user.

`advance_user` is called for the user of an event before the event is applied, and by `fire` for those whose timers are
due. So a wave of timers need not be worked off before events go on: order is promised per user only (semantics.md §3).
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.feeding import words_to_mature
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.membership import begin, has_room, mark_parent, settle, touch
from actors.evaluator.kernels.pages import ask_words, directory_count
from actors.evaluator.kernels.prefetch import prefetch, prefetch_row
from actors.evaluator.kernels.refreshing import lapse_plain_page, refresh_page, set_leaf
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.wheel import arm, deal_one, next_user
from actors.evaluator.layout import (
    ALIVE,
    BEHIND,
    CAUSE_TIME,
    DIRECT,
    DIRECTORY,
    DONE,
    DUE,
    FIRST_MEMBER,
    FIRST_PAGE,
    FIRST_TIME,
    FLAGS,
    IN_SNAPSHOT,
    LAST_TS,
    MISSING,
    MORE_THAN_AGO,
    NEED_ROOM,
    NEVER,
    PLACE_BITS,
    PLACE_MASK,
    S_ALIVE,
    S_ARENA_TOP,
    S_INSTANT_LEN,
    S_NEED,
    S_OUT,
    S_WORK,
    WAVE_STEP,
    WITHIN_LAST,
)


@inner
def leaves_universe_at(p: ProgramTable, s: StateTable, user: int) -> int:
    """Give when the user leaves the universe, NEVER: by no time, or it left."""
    flags = s.users[user, FLAGS]
    if (flags & IN_SNAPSHOT) != 0 or (flags & ALIVE) == 0:
        return NEVER
    return s.users[user, LAST_TS] + p.parent_retention[s.user_parent[user]]


@inner
def time_leaf_holds(p: ProgramTable, i: int, value: int, t: int) -> bool:
    """Say whether a trait of this time satisfies the i-th time leaf at t; a missing one satisfies none."""
    if value == MISSING:
        return False
    span = p.time_span[i]
    if p.time_op[i] == WITHIN_LAST:
        return t - span < value and value <= t
    if p.time_op[i] == MORE_THAN_AGO:
        return value <= t - span
    return t < value and value <= t + span


@kernel
def next_trait_change(p: ProgramTable, s: StateTable, user: int, t: int) -> int:
    """Give the first time after t at which a time leaf of the user may flip; O(time leaves of the parent)."""
    parent = s.user_parent[user]
    soonest = NEVER
    for i in range(p.time_leaves[parent], p.time_leaves[parent + 1]):
        value = s.users[user, p.shape[FIRST_TIME] + p.time_column[i]]
        if value != MISSING:
            span = p.time_span[i]
            first = value if p.time_op[i] == WITHIN_LAST else value - span
            last = value + span
            if p.time_op[i] == MORE_THAN_AGO:
                first = last
            elif p.time_op[i] != WITHIN_LAST:
                last = value
            if first > t:
                soonest = min(soonest, first)
            elif last > t:
                soonest = min(soonest, last)
    return soonest


@kernel
def refresh_time_leaves(p: ProgramTable, s: StateTable, user: int, t: int) -> None:
    """Set the truths of the user's time leaves at t."""
    parent = s.user_parent[user]
    for i in range(p.time_leaves[parent], p.time_leaves[parent + 1]):
        value = s.users[user, p.shape[FIRST_TIME] + p.time_column[i]]
        set_leaf(p, s, user, p.time_leaf[i], time_leaf_holds(p, i, value, t))


@inner
def user_due(p: ProgramTable, s: StateTable, user: int, t: int) -> int:
    """Give a lower bound of the user's next change after t, all up to t being made; O(the user's pages)."""
    soonest = leaves_universe_at(p, s, user)
    first = p.shape[FIRST_PAGE]
    for page in range(p.shape[DIRECT]):
        soonest = min(soonest, s.users[user, first + 2 * page + 1])
    directory = s.users[user, DIRECTORY]
    if directory != 0:
        for i in range(s.arena[directory + 1]):
            soonest = min(soonest, s.arena[directory + 3 + 2 * i])
    parent = s.user_parent[user]
    if p.time_leaves[parent + 1] > p.time_leaves[parent]:
        soonest = min(soonest, next_trait_change(p, s, user, t))
    return soonest


@kernel
def _words_for_instant(p: ProgramTable, s: StateTable, user: int, t: int) -> int:
    """Give the words of the arena that working off the user's pages due at t may take."""
    words = 0
    first = p.shape[FIRST_PAGE]
    for page in range(p.shape[DIRECT]):
        if p.page_late[page] != 0 and s.users[user, first + 2 * page + 1] <= t:
            words += words_to_mature(p, s, page, s.users[user, first + 2 * page])
    directory = s.users[user, DIRECTORY]
    for i in range(directory_count(s, user)):
        entry = s.arena[directory + 2 + 2 * i]
        if p.page_late[entry >> PLACE_BITS] != 0 and s.arena[directory + 3 + 2 * i] <= t:
            words += words_to_mature(p, s, entry >> PLACE_BITS, entry & PLACE_MASK)
    return words


@inner
def _refresh_due_pages(p: ProgramTable, s: StateTable, user: int, t: int) -> None:
    first = p.shape[FIRST_PAGE]
    for page in range(p.shape[DIRECT]):
        if s.users[user, first + 2 * page + 1] <= t:
            place = s.users[user, first + 2 * page]
            if p.page_plain[page] != 0:
                due = lapse_plain_page(p, s, user, page, place, t)
                if due != NEVER:
                    s.users[user, first + 2 * page + 1] = due
            else:
                refresh_page(p, s, user, page, place, t)
    # From the end: a page that is freed leaves the directory.
    i = directory_count(s, user) - 1
    while i >= 0:
        directory = s.users[user, DIRECTORY]
        if s.arena[directory + 3 + 2 * i] <= t:
            entry = s.arena[directory + 2 + 2 * i]
            page = entry >> PLACE_BITS
            if p.page_plain[page] != 0:
                due = lapse_plain_page(p, s, user, page, entry & PLACE_MASK, t)
                if due != NEVER:
                    s.arena[directory + 3 + 2 * i] = due
            else:
                refresh_page(p, s, user, page, entry & PLACE_MASK, t)
        i -= 1


@inner
def _room(p: ProgramTable, s: StateTable, user: int, t: int) -> bool:
    """Say whether one more instant of the user fits; else S_NEED says what the arena lacks (0: it is the output)."""
    s.scalars[S_NEED] = 0
    if not has_room(p, s, s.user_parent[user]):
        return False
    words = _words_for_instant(p, s, user, t)
    if s.scalars[S_ARENA_TOP] + words > s.arena.size:
        s.scalars[S_NEED] = words
        return False
    return True


@kernel
def advance_user(p: ProgramTable, s: StateTable, user: int, until: int) -> int:
    """Make all changes of a user due at or before `until`, each at its exact ms; then its timer is armed anew.

    NEED_ROOM asks to be called again; what is left is still due then.
    """
    t = s.users[user, DUE]
    while t <= until:
        if not _room(p, s, user, t):
            arm(s, user, t)
            return NEED_ROOM
        begin(s)
        _refresh_due_pages(p, s, user, t)
        parent = s.user_parent[user]
        if p.time_leaves[parent + 1] > p.time_leaves[parent]:
            refresh_time_leaves(p, s, user, t)
        if leaves_universe_at(p, s, user) <= t:
            s.users[user, FLAGS] &= ~ALIVE
            s.scalars[S_ALIVE] -= 1
            mark_parent(p, s, parent)
        settle(p, s, user, t, CAUSE_TIME)
        t = user_due(p, s, user, t)
    arm(s, user, t)
    touch(s, user)
    return DONE


@inner
def _ask_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int) -> None:
    ask_words(p, s, user, page)
    prefetch(s.arena, place)
    prefetch(s.arena, place + 8)
    prefetch(s.arena, place + 16)


@inner
def _ask(p: ProgramTable, s: StateTable, first: int, until: int) -> int:
    """Ask for the memory of the users of a list from `first` on: rows, then pages due; give how many are in `wave`."""
    count = 0
    user = first
    while user >= 0 and count < WAVE_STEP:
        s.wave[count] = user
        count += 1
        prefetch_row(s.users, user, 0)
        for column in range(p.shape[FIRST_PAGE], p.shape[FIRST_TIME], 8):
            prefetch_row(s.users, user, column)
        user = s.timer_next[user]
    column = p.shape[FIRST_PAGE]
    for i in range(count):
        for page in range(p.shape[DIRECT]):
            if s.users[s.wave[i], column + 2 * page + 1] <= until:
                _ask_page(p, s, s.wave[i], page, s.users[s.wave[i], column + 2 * page])
        directory = s.users[s.wave[i], DIRECTORY]
        if directory != 0:
            prefetch(s.arena, directory)
            prefetch(s.arena, directory + 8)
    for i in range(count):
        directory = s.users[s.wave[i], DIRECTORY]
        if directory != 0:
            for j in range(s.arena[directory + 1]):
                if s.arena[directory + 3 + 2 * j] <= until:
                    entry = s.arena[directory + 2 + 2 * j]
                    _ask_page(p, s, s.wave[i], entry >> PLACE_BITS, entry & PLACE_MASK)
    return count


@kernel
def fire(p: ProgramTable, s: StateTable, until: int, most: int) -> int:
    """Bring every user up to date whose timer is due at or before `until`; BEHIND after `most` users' worth of work.

    S_WORK counts the work across calls (NEED_ROOM asks to be called again). Dealing a timer out counts as a user.
    """
    while True:
        while s.scalars[S_WORK] < most and deal_one(s):
            s.scalars[S_WORK] += 1
        if s.scalars[S_WORK] >= most:
            return BEHIND
        user = next_user(s, until)
        if user == -1:
            return DONE
        if user >= 0:
            for i in range(min(_ask(p, s, user, until), most - s.scalars[S_WORK])):
                if advance_user(p, s, np.int64(s.wave[i]), until) == NEED_ROOM:
                    return NEED_ROOM
                s.scalars[S_WORK] += 1


@kernel
def next_flip(p: ProgramTable, s: StateTable, audience: int, now: int, most: int) -> int:
    """Let time run for user 0 until membership in an audience flips; give that ms, NEVER: not within `most` instants.

    For arrays that hold that user alone. -1 where the arena lacks S_NEED words: call again, what was looked at is done.
    """
    word = p.shape[FIRST_MEMBER] + (audience >> 6)
    bit = np.uint64(audience & 63)
    was = (s.words[0, word] >> bit) & np.uint64(1)
    t = user_due(p, s, 0, now)
    for _ in range(most):
        if t == NEVER:
            break
        arm(s, 0, t)
        s.scalars[S_OUT] = 0
        s.scalars[S_INSTANT_LEN] = 0
        if advance_user(p, s, 0, t) == NEED_ROOM:
            return -1
        if ((s.words[0, word] >> bit) & np.uint64(1)) != was:
            return t
        t = s.users[0, DUE]
    return NEVER
