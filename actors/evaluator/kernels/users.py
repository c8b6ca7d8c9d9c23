"""Bringing users up to date: every change that time alone makes, at its exact ms, user by user.

`advance_user` is called for the user of an event before the event is applied, and by `fire` for those whose timers are
due. So a wave of timers need not be worked off before events go on: order is promised per user only (semantics.md §3).
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.feeding import words_to_mature
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.membership import begin, has_room, mark_parent, settle, touch
from actors.evaluator.kernels.pages import ask_directory, ask_place, ask_row, ask_words, direct_place, directory_count
from actors.evaluator.kernels.refreshing import lapse_page
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.trait_rows import give_fresh_row, next_trait_change, refresh_time_leaves
from actors.evaluator.kernels.wheel import arm, deal, next_bit, next_user
from actors.evaluator.layout import (
    AHEAD_STEP,
    ALIVE,
    ANY_LATE,
    BEHIND,
    CAUSE_TIME,
    DIRECT,
    DIRECTORY,
    DONE,
    DUE,
    FIRST_DUE,
    FIRST_MEMBER,
    FLAGS,
    FRESH,
    IN_SNAPSHOT,
    LAST_AT,
    LAST_TS,
    NEED_ROOM,
    NEVER,
    PAGES,
    PLACE_BITS,
    PLACE_MASK,
    S_AHEAD,
    S_AHEAD_MS,
    S_AHEAD_USER,
    S_ALIVE,
    S_ARENA_TOP,
    S_INSTANT_LEN,
    S_LISTED,
    S_NEED,
    S_OUT,
    S_PAGED,
    S_TRAITS_AT,
    S_TRAITS_ON,
    S_WHEEL,
    S_WORK,
    WHEEL_BITS,
    WHEEL_MASK,
)

#: Users ahead of which rows, directories and pages are asked for.
_ROWS_AHEAD = 24
_DIRECTORIES_AHEAD = 14
_PAGES_AHEAD = 6
#: Transitions that are as much work as a user: those of a user who leaves an audience or two by time are free.
_TRANSITIONS_A_USER = 3


@inner
def leaves_universe_at(p: ProgramTable, s: StateTable, user: int) -> int:
    """Give when the user leaves the universe, NEVER: by no time, or it left."""
    flags = s.users[user, FLAGS]
    if (flags & IN_SNAPSHOT) != 0 or (flags & ALIVE) == 0:
        return NEVER
    return s.users[user, LAST_TS] + p.parent_retention[s.user_parent[user]]


@inner
def user_due(p: ProgramTable, s: StateTable, user: int, t: int) -> int:
    """Give a lower bound of the user's next change after t, all up to t being made; O(the user's pages)."""
    soonest = leaves_universe_at(p, s, user)
    first = p.shape[FIRST_DUE]
    for page in range(p.shape[DIRECT]):
        soonest = min(soonest, s.users[user, first + page])
    directory = s.users[user, DIRECTORY]
    if directory != 0:
        for i in range(s.arena[directory + 1]):
            soonest = min(soonest, s.arena[directory + 3 + 2 * i])
    parent = s.user_parent[user]
    if p.time_leaves[parent + 1] > p.time_leaves[parent]:
        soonest = min(soonest, next_trait_change(p, s, user, t))
    if (s.users[user, FLAGS] & FRESH) != 0 and s.scalars[S_TRAITS_AT] > t:
        soonest = min(soonest, s.scalars[S_TRAITS_AT])
    return soonest


@inner
def _words_for_instant(p: ProgramTable, s: StateTable, user: int, t: int) -> int:
    """Give the words of the arena that working off the user's pages due at t may take."""
    words = 0
    if p.shape[ANY_LATE] == 0:
        return words
    first = p.shape[FIRST_DUE]
    for page in range(p.shape[DIRECT]):
        if p.page_late[page] != 0 and s.users[user, first + page] <= t:
            words += words_to_mature(p, s, page, direct_place(p, s, user, page))
    directory = s.users[user, DIRECTORY]
    for i in range(directory_count(s, user)):
        entry = s.arena[directory + 2 + 2 * i]
        if p.page_late[entry >> PLACE_BITS] != 0 and s.arena[directory + 3 + 2 * i] <= t:
            words += words_to_mature(p, s, entry >> PLACE_BITS, entry & PLACE_MASK)
    return words


@inner
def _refresh_due_pages(p: ProgramTable, s: StateTable, user: int, t: int) -> None:
    """Refresh the pages due at t. Which they are is found without a branch a page: no predictor could guess it."""
    first = p.shape[FIRST_DUE]
    count = 0
    for page in range(p.shape[DIRECT]):
        s.due_pages[count] = page
        count += int(s.users[user, first + page] <= t)
    for i in range(count):
        found = np.int64(s.due_pages[i])
        due = lapse_page(p, s, user, found, direct_place(p, s, user, found), t)
        if due != NEVER:
            s.users[user, first + found] = due
    directory = s.users[user, DIRECTORY]
    if directory == 0:
        return
    count = 0
    for i in range(s.arena[directory + 1]):
        s.due_pages[count] = i
        count += int(s.arena[directory + 3 + 2 * i] <= t)
    # From the end: a page that is freed leaves the directory.
    while count > 0:
        count -= 1
        at = directory + 2 + 2 * s.due_pages[count]
        entry = s.arena[at]
        due = lapse_page(p, s, user, entry >> PLACE_BITS, entry & PLACE_MASK, t)
        if due != NEVER:
            s.arena[at + 1] = due


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
        if (s.users[user, FLAGS] & FRESH) != 0 and s.scalars[S_TRAITS_ON] != 0 and s.scalars[S_TRAITS_AT] <= t:
            # All of this instant but its traits is made: done again it is nothing.
            if not has_room(p, s, parent):
                arm(s, user, t)
                return NEED_ROOM
            give_fresh_row(p, s, user, t)
        t = user_due(p, s, user, t)
    arm(s, user, t)
    touch(s, user)
    return DONE


@inner
def _ask_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int) -> None:
    ask_words(p, s, user, page)
    ask_place(p, s, page, place)


@inner
def _foresee(s: StateTable, until: int) -> int:
    """Give the next user who will be brought up to date, as far as the near slots say now; -1: none is known.

    A guess: whoever is armed anew before that time is missed.
    """
    user = s.scalars[S_AHEAD_USER]
    if user < 0:
        span = s.scalars[S_WHEEL] >> WHEEL_BITS
        at = max(s.scalars[S_AHEAD_MS], s.scalars[S_WHEEL])
        if (at >> WHEEL_BITS) != span:
            return -1
        end = min(until, (span << WHEEL_BITS) | WHEEL_MASK)
        slot = next_bit(s.near_bits, at & WHEEL_MASK, (end & WHEEL_MASK) + 1)
        if slot < 0:
            s.scalars[S_AHEAD_MS] = max(at, end + 1)
            return -1
        s.scalars[S_AHEAD_MS] = ((span << WHEEL_BITS) | slot) + 1
        user = np.int64(s.wheel[slot])
    s.scalars[S_AHEAD_USER] = s.timer_links[2 * user]
    return user


@inner
def _ask_rows(p: ProgramTable, s: StateTable, fired: int, until: int) -> None:
    if s.scalars[S_AHEAD] < fired:
        # More users came in between than were foreseen.
        s.scalars[S_AHEAD] = s.scalars[S_LISTED] = s.scalars[S_PAGED] = fired
        s.scalars[S_AHEAD_USER] = -1
        s.scalars[S_AHEAD_MS] = s.scalars[S_WHEEL]
    while s.scalars[S_AHEAD] < fired + _ROWS_AHEAD:
        user = _foresee(s, until)
        if user < 0:
            break
        s.ahead[s.scalars[S_AHEAD] & (AHEAD_STEP - 1)] = user
        s.scalars[S_AHEAD] += 1
        ask_row(p, s, user)


@inner
def _ask(p: ProgramTable, s: StateTable, fired: int, until: int) -> None:
    """Ask for the memory of the users to come: rows, then directories and direct pages due, then listed pages due."""
    _ask_rows(p, s, fired, until)
    first = p.shape[FIRST_DUE]
    while s.scalars[S_LISTED] < min(s.scalars[S_AHEAD], fired + _DIRECTORIES_AHEAD):
        user = np.int64(s.ahead[s.scalars[S_LISTED] & (AHEAD_STEP - 1)])
        s.scalars[S_LISTED] += 1
        for page in range(p.shape[DIRECT]):
            if s.users[user, first + page] <= until:
                _ask_page(p, s, user, page, direct_place(p, s, user, page))
        directory = s.users[user, DIRECTORY]
        if directory != 0:
            ask_directory(s, directory)
    if p.shape[PAGES] == p.shape[DIRECT]:
        return
    while s.scalars[S_PAGED] < min(s.scalars[S_LISTED], fired + _PAGES_AHEAD):
        user = np.int64(s.ahead[s.scalars[S_PAGED] & (AHEAD_STEP - 1)])
        s.scalars[S_PAGED] += 1
        directory = s.users[user, DIRECTORY]
        for i in range(directory_count(s, user)):
            if s.arena[directory + 3 + 2 * i] <= until:
                entry = s.arena[directory + 2 + 2 * i]
                _ask_page(p, s, user, entry >> PLACE_BITS, entry & PLACE_MASK)


@kernel
def fire(p: ProgramTable, s: StateTable, until: int, most: int) -> int:
    """Bring every user up to date whose timer is due at or before `until`; BEHIND after `most` users' worth of work.

    S_WORK counts the work across calls (NEED_ROOM asks to be called again). Dealing a timer out counts as a user.
    """
    fired = 0
    s.scalars[S_AHEAD] = -1
    while True:
        while s.scalars[S_WORK] < most:
            dealt = deal(s)
            if dealt == 0:
                break
            s.scalars[S_WORK] += dealt
        if s.scalars[S_WORK] >= most:
            return BEHIND
        user = next_user(s, until)
        if user == -1:
            return DONE
        if user >= 0:
            _ask(p, s, fired, until)
            made = s.scalars[S_OUT]
            noted = s.scalars[S_INSTANT_LEN]
            if advance_user(p, s, np.int64(user), until) == NEED_ROOM:
                return NEED_ROOM
            if s.users[user, LAST_AT] < until:
                # The user is past its last instant, and nobody comes back to it: a wave need not be kept in the chains.
                s.scalars[S_INSTANT_LEN] = min(noted, s.scalars[S_INSTANT_LEN])
            fired += 1
            # What is made is also logged: a user whose traits change may be in and out of many audiences.
            s.scalars[S_WORK] += 1 + (s.scalars[S_OUT] - made) // _TRANSITIONS_A_USER


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
