"""What is done to all users at once: first truth after loading retained events, and trait snapshots."""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.feeding import words_to_mature
from actors.evaluator.kernels.jit import kernel
from actors.evaluator.kernels.membership import (
    begin,
    evaluate,
    has_room,
    settle,
    touch,
)
from actors.evaluator.kernels.pages import direct_place, directory_count
from actors.evaluator.kernels.refreshing import refresh_page
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.trait_rows import (
    come_into_snapshot,
    leave_snapshot,
    refresh_time_leaves,
    replace_times,
    replace_words,
)
from actors.evaluator.kernels.users import advance_user, user_due
from actors.evaluator.kernels.wheel import arm
from actors.evaluator.layout import (
    ALIVE,
    CAUSE_TRAITS,
    DIRECT,
    DIRECTORY,
    DUE,
    FIRST_MEMBER,
    FLAGS,
    I32,
    I64,
    IN_SNAPSHOT,
    LAST_TS,
    LOADED,
    NEED_ROOM,
    NEVER_BEFORE,
    PLACE_BITS,
    PLACE_MASK,
    S_ALIVE,
    S_ARENA_TOP,
    S_NEED,
    S_USERS,
    U64,
)

_ONE = np.uint64(1)


@kernel
def _words_for_all(p: ProgramTable, s: StateTable, user: int) -> int:
    words = 0
    for page in range(p.shape[DIRECT]):
        place = direct_place(p, s, user, page)
        if place != 0 and p.page_late[page] != 0:
            words += words_to_mature(p, s, page, place)
    directory = s.users[user, DIRECTORY]
    for i in range(directory_count(s, user)):
        entry = s.arena[directory + 2 + 2 * i]
        if p.page_late[entry >> PLACE_BITS] != 0:
            words += words_to_mature(p, s, entry >> PLACE_BITS, entry & PLACE_MASK)
    return words


@kernel
def _refresh_all_pages(p: ProgramTable, s: StateTable, user: int, now: int) -> None:
    for page in range(p.shape[DIRECT]):
        place = direct_place(p, s, user, page)
        if place != 0:
            refresh_page(p, s, user, page, place, now)
    i = directory_count(s, user) - 1
    while i >= 0:
        entry = s.arena[s.users[user, DIRECTORY] + 2 + 2 * i]
        refresh_page(p, s, user, entry >> PLACE_BITS, entry & PLACE_MASK, now)
        i -= 1


@kernel
def finish_loading(p: ProgramTable, s: StateTable, start: int, stop: int, now: int) -> int:
    """Give users `start..stop` the truth and membership that hold at `now` and arm their timers; no transitions.

    Gives the user to go on from: before `stop` where the arena lacks S_NEED words.
    """
    for user in range(start, stop):
        s.scalars[S_NEED] = 0
        words = _words_for_all(p, s, user)
        if s.scalars[S_ARENA_TOP] + words > s.arena.size:
            s.scalars[S_NEED] = words
            return user
        parent = np.int64(s.user_parent[user])
        begin(s)
        _refresh_all_pages(p, s, user, now)
        refresh_time_leaves(p, s, user, now)
        fresh = s.users[user, LAST_TS] != NEVER_BEFORE and s.users[user, LAST_TS] + p.parent_retention[parent] > now
        if (fresh or (s.users[user, FLAGS] & IN_SNAPSHOT) != 0) and (s.users[user, FLAGS] & ALIVE) == 0:
            s.users[user, FLAGS] |= ALIVE
            s.scalars[S_ALIVE] += 1
        # Ascending is in order of dependency.
        for i in range(p.parent_audiences[parent], p.parent_audiences[parent + 1]):
            audience = p.parent_audience[i]
            if evaluate(p, s, user, audience):
                s.words[user, p.shape[FIRST_MEMBER] + (audience >> 6)] |= _ONE << np.uint64(audience & 63)
        arm(s, user, user_due(p, s, user, now))
        touch(s, user)
    return stop


@kernel
def _settle_traits(p: ProgramTable, s: StateTable, user: int, now: int) -> None:
    """Make the changes of new traits and arm the user's timer anew."""
    refresh_time_leaves(p, s, user, now)
    settle(p, s, user, now, CAUSE_TRAITS)
    arm(s, user, user_due(p, s, user, now))
    touch(s, user)


@kernel
def apply_snapshot(
    p: ProgramTable, s: StateTable, parent: int, slots: I32, words: U64, times: I64, start: int, now: int, live: bool
) -> int:
    """Give a snapshot's users their trait truths ([rows, leaf words]) and times ([rows, time columns]).

    Each user is brought up to date first. Resume from `start` as `apply_hits` does.
    """
    for i in range(start, slots.size):
        user = np.int64(slots[i])
        if live:
            s.scalars[S_NEED] = 0
            if s.users[user, DUE] <= now and advance_user(p, s, user, now) == NEED_ROOM:
                return i
            if not has_room(p, s, parent):
                return i
        begin(s)
        s.users[user, FLAGS] |= LOADED
        replace_words(p, s, user, parent, words, i)
        replace_times(p, s, user, parent, times, i)
        come_into_snapshot(p, s, user, parent)
        if live:
            _settle_traits(p, s, user, now)
    return slots.size


@kernel
def retire_missing(p: ProgramTable, s: StateTable, parent: int, start: int, now: int, live: bool) -> int:
    """Take the traits from users of the parent that the snapshot no longer has; ends the LOADED marks. Resumable."""
    for user in range(start, s.scalars[S_USERS]):
        if s.user_parent[user] != parent:
            continue
        if (s.users[user, FLAGS] & LOADED) != 0:
            s.users[user, FLAGS] &= ~LOADED
            continue
        if (s.users[user, FLAGS] & IN_SNAPSHOT) == 0:
            continue
        if live:
            s.scalars[S_NEED] = 0
            if s.users[user, DUE] <= now and advance_user(p, s, user, now) == NEED_ROOM:
                return user
            if not has_room(p, s, parent):
                return user
        begin(s)
        leave_snapshot(p, s, user, parent, now)
        if live:
            _settle_traits(p, s, user, now)
    return s.scalars[S_USERS]
