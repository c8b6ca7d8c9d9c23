"""A user's traits: truths and times as they come with a snapshot, and the times at which time alone changes them.

A snapshot of many users is taken without a stop: who has other traits in it is marked FRESH beforehand, due at
S_TRAITS_AT, and from then on given them as everybody is who is due (`users.advance_user`): for an event, a question, or
in the wave that it is. So it holds from one instant on for all, whoever's turn comes when.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.membership import begin, mark_defaults, mark_leaf, mark_parent, settle, touch
from actors.evaluator.kernels.refreshing import set_leaf
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.wheel import arm
from actors.evaluator.layout import (
    ALIVE,
    CAUSE_TRAITS,
    DUE,
    FIRST_TIME,
    FIRST_WORD,
    FLAGS,
    FRESH,
    GONE,
    I32,
    I64,
    IN_SNAPSHOT,
    LAST_TS,
    LEAF_WORDS,
    MISSING,
    MORE_THAN_AGO,
    NEVER,
    NEVER_BEFORE,
    S_ALIVE,
    S_TRAITS_AT,
    S_TRAITS_LEFT,
    U8,
    U64,
    WITHIN_LAST,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)


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


@kernel
def replace_words(p: ProgramTable, s: StateTable, user: int, parent: int, words: U64, row: int) -> None:
    """Set the snapshot words of a user and mark the audiences of the leaves that flipped."""
    for w in range(p.shape[LEAF_WORDS]):
        if p.word_parent[w] != parent:
            continue
        flipped = s.words[user, FIRST_WORD + w] ^ words[row, w]
        if flipped == _ZERO:
            continue
        s.words[user, FIRST_WORD + w] = words[row, w]
        for bit in range(64):
            if ((flipped >> np.uint64(bit)) & _ONE) == _ONE:
                mark_leaf(p, s, (w << 6) | bit)


@inner
def replace_times(p: ProgramTable, s: StateTable, user: int, parent: int, times: I64, row: int) -> None:
    """Set the trait times of a user."""
    for i in range(p.time_leaves[parent], p.time_leaves[parent + 1]):
        s.users[user, p.shape[FIRST_TIME] + p.time_column[i]] = times[row, p.time_column[i]]


@inner
def come_into_snapshot(p: ProgramTable, s: StateTable, user: int, parent: int) -> None:
    """Note that a snapshot has the user, who is in the universe by it."""
    if (s.users[user, FLAGS] & IN_SNAPSHOT) == 0:
        s.users[user, FLAGS] |= IN_SNAPSHOT
        if (s.users[user, FLAGS] & ALIVE) == 0:
            s.users[user, FLAGS] |= ALIVE
            s.scalars[S_ALIVE] += 1
            mark_parent(p, s, parent)
            mark_defaults(p, s, parent)


@kernel
def leave_snapshot(p: ProgramTable, s: StateTable, user: int, parent: int, now: int) -> None:
    """Take the traits from a user; who has no event that is retained leaves the universe."""
    s.users[user, FLAGS] &= ~IN_SNAPSHOT
    replace_words(p, s, user, parent, p.default_words, parent)
    for i in range(p.time_leaves[parent], p.time_leaves[parent + 1]):
        s.users[user, p.shape[FIRST_TIME] + p.time_column[i]] = MISSING
    lapsed = s.users[user, LAST_TS] == NEVER_BEFORE or s.users[user, LAST_TS] + p.parent_retention[parent] <= now
    if lapsed and (s.users[user, FLAGS] & ALIVE) != 0:
        s.users[user, FLAGS] &= ~ALIVE
        s.scalars[S_ALIVE] -= 1
        mark_parent(p, s, parent)


# --- a snapshot that is prepared -----------------------------------------------------------------


@kernel
def give_fresh_row(p: ProgramTable, s: StateTable, user: int, now: int) -> None:
    """Give a FRESH user, brought up to `now`, what the snapshot that is prepared has of it, and make the changes."""
    parent = np.int64(s.user_parent[user])
    row = np.int64(s.fresh_row[user])
    begin(s)
    s.users[user, FLAGS] &= ~FRESH
    s.scalars[S_TRAITS_LEFT] -= 1
    if row == GONE:
        leave_snapshot(p, s, user, parent, now)
    else:
        replace_words(p, s, user, parent, s.fresh_words, row - 1)
        replace_times(p, s, user, parent, s.fresh_times, row - 1)
        come_into_snapshot(p, s, user, parent)
    refresh_time_leaves(p, s, user, now)
    settle(p, s, user, now, CAUSE_TRAITS)


@kernel
def _has_row(p: ProgramTable, s: StateTable, user: int, parent: int, by_time: U64, row: int) -> bool:
    """Say whether a row of the snapshot says what the user has; bits in `by_time` are those that time decides."""
    if (s.users[user, FLAGS] & IN_SNAPSHOT) == 0:
        return False
    for w in range(p.shape[LEAF_WORDS]):
        if p.word_parent[w] == parent:
            differs = s.words[user, FIRST_WORD + w] ^ s.fresh_words[row, w]
            if (differs & ~by_time[w]) != _ZERO:
                return False
    for i in range(p.time_leaves[parent], p.time_leaves[parent + 1]):
        column = np.int64(p.time_column[i])
        if s.users[user, p.shape[FIRST_TIME] + column] != s.fresh_times[row, column]:
            return False
    return True


@inner
def _mark(s: StateTable, user: int, row: int) -> None:
    s.fresh_row[user] = row
    s.users[user, FLAGS] |= FRESH
    s.scalars[S_TRAITS_LEFT] += 1


@kernel
def mark_rows(
    p: ProgramTable, s: StateTable, parent: int, slots: I32, first: int, by_time: U64, seen: U8, marked: I32
) -> int:
    """Mark the users of rows `first..` who have other traits in them; `seen` (a byte a slot) notes all of them.

    Writes those who are marked to `marked`, gives how many.
    """
    count = 0
    for i in range(slots.size):
        user = np.int64(slots[i])
        seen[user] = 1
        if not _has_row(p, s, user, parent, by_time, first + i):
            _mark(s, user, first + i + 1)
            marked[count] = user
            count += 1
    return count


@kernel
def mark_gone(s: StateTable, parent: int, start: int, stop: int, seen: U8, marked: I32) -> int:
    """Mark the users among slots `start..stop` who are in the snapshot in force and were not seen in the next one."""
    count = 0
    for user in range(start, stop):
        if seen[user] == 0 and s.user_parent[user] == parent and (s.users[user, FLAGS] & IN_SNAPSHOT) != 0:
            _mark(s, user, GONE)
            marked[count] = user
            count += 1
    return count


@kernel
def arm_marked(s: StateTable, marked: I32) -> None:
    """Have marked users be due at S_TRAITS_AT at the latest."""
    for i in range(marked.size):
        user = np.int64(marked[i])
        if s.users[user, DUE] > s.scalars[S_TRAITS_AT]:
            arm(s, user, s.scalars[S_TRAITS_AT])
            touch(s, user)


@kernel
def unmark(s: StateTable, marked: I32) -> None:
    """Take the marks away: users have the traits that they have. Some are due for nothing, which is harmless."""
    for i in range(marked.size):
        s.users[marked[i], FLAGS] &= ~FRESH
    s.scalars[S_TRAITS_LEFT] = 0
    s.scalars[S_TRAITS_AT] = NEVER
