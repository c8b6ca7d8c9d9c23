"""The timer wheel: two levels of 2^16 slots, exact to the ms; one timer a user, at the user's DUE.

Near slots hold the due times of the wheel's current 65.536 s; far slots hold later ones by their 65.536 s and are dealt
out when the wheel gets there, so a timer is touched at most twice before it fires (more only beyond 49.7 days). The
lists are doubly linked through the users themselves: a timer moves in O(1), and none is ever stale.

The wheel may lag behind the clock: `next_user` gives one user at a time, and stopping in between is harmless, since an
event brings its own user up to date first (`users.py`).
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.prefetch import prefetch_row
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import (
    DEALING,
    DUE,
    NEVER,
    S_TIMERS,
    S_WHEEL,
    U64,
    WAVE_STEP,
    WHEEL_BITS,
    WHEEL_MASK,
    WHEEL_SLOTS,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
#: What the first user of a list has before it: this minus the list.
_HEAD = -2


@inner
def _put(s: StateTable, user: int, list_: int) -> None:
    head = s.wheel[list_]
    s.timer_links[2 * user] = head
    s.timer_links[2 * user + 1] = _HEAD - list_
    if head >= 0:
        s.timer_links[2 * head + 1] = user
    s.wheel[list_] = user


@inner
def _mark(s: StateTable, list_: int, occupied: bool) -> None:
    bit = _ONE << np.uint64(list_ & 63)
    if list_ < WHEEL_SLOTS:
        word = list_ >> 6
        s.near_bits[word] = s.near_bits[word] | bit if occupied else s.near_bits[word] & ~bit
    elif list_ < DEALING:
        word = (list_ - WHEEL_SLOTS) >> 6
        s.far_bits[word] = s.far_bits[word] | bit if occupied else s.far_bits[word] & ~bit


@inner
def _link(s: StateTable, user: int, due: int) -> None:
    """Put a user into the slot of `due`, which is not before the wheel's position."""
    if (due >> WHEEL_BITS) == (s.scalars[S_WHEEL] >> WHEEL_BITS):
        list_ = due & WHEEL_MASK
    else:
        list_ = WHEEL_SLOTS + ((due >> WHEEL_BITS) & WHEEL_MASK)
    _put(s, user, list_)
    _mark(s, list_, True)


@inner
def unlink(s: StateTable, user: int) -> None:
    """Take a user out of its list."""
    following = s.timer_links[2 * user]
    before = s.timer_links[2 * user + 1]
    if following >= 0:
        s.timer_links[2 * following + 1] = before
    if before >= 0:
        s.timer_links[2 * before] = following
        return
    list_ = _HEAD - before
    s.wheel[list_] = following
    if following < 0:
        _mark(s, list_, False)


@inner
def arm(s: StateTable, user: int, due: int) -> None:
    """Let the user's timer fire at `due` and no other time; NEVER takes it out of the wheel."""
    if s.users[user, DUE] != NEVER:
        unlink(s, user)
        s.scalars[S_TIMERS] -= 1
    s.users[user, DUE] = due
    if due != NEVER:
        s.scalars[S_TIMERS] += 1
        _link(s, user, max(due, s.scalars[S_WHEEL]))


@inner
def next_bit(bits: U64, start: int, stop: int) -> int:
    """Give the first set bit in [start, stop), or -1; 64 at a time."""
    position = start
    while position < stop:
        word = bits[position >> 6] >> np.uint64(position & 63)
        if word == _ZERO:
            position = ((position >> 6) + 1) << 6
            continue
        while (word & _ONE) == _ZERO:
            if (word & np.uint64(0xFF)) == _ZERO:
                word >>= np.uint64(8)
                position += 8
            else:
                word >>= _ONE
                position += 1
        return position if position < stop else -1
    return -1


@kernel
def _begin_span(s: StateTable, span: int) -> None:
    """Set the wheel to the start of a span; its timers are to be dealt out to the near slots."""
    s.scalars[S_WHEEL] = span << WHEEL_BITS
    list_ = WHEEL_SLOTS + (span & WHEEL_MASK)
    head = s.wheel[list_]
    s.wheel[DEALING] = head
    if head >= 0:
        s.timer_links[2 * head + 1] = _HEAD - DEALING
        s.wheel[list_] = -1
        _mark(s, list_, False)


@kernel
def _next_span(s: StateTable, span: int, last: int) -> int:
    """Give the first span in (span, last] that has far timers (of any turn), or the last one looked at."""
    last_looked = span + WHEEL_SLOTS - 1 if last - span >= WHEEL_SLOTS else last
    first = (span + 1) & WHEEL_MASK
    stop = first + (last_looked - span)
    found = next_bit(s.far_bits, first, min(stop, WHEEL_SLOTS))
    if found >= 0:
        return span + 1 + (found - first)
    if stop > WHEEL_SLOTS:
        found = next_bit(s.far_bits, 0, stop - WHEEL_SLOTS)
        if found >= 0:
            return span + 1 + (found + WHEEL_SLOTS - first)
    return last_looked


@inner
def deal(s: StateTable) -> int:
    """Move some timers of the span at hand to their places; gives how many, 0: all are dealt out.

    Their due times lie in their rows: memory that is asked for together.
    """
    count = 0
    user = s.wheel[DEALING]
    while user >= 0 and count < WAVE_STEP:
        s.wave[count] = user
        prefetch_row(s.users, user, DUE)
        count += 1
        user = s.timer_links[2 * user]
    for i in range(count):
        user = np.int64(s.wave[i])
        unlink(s, user)
        _link(s, user, max(s.users[user, DUE], s.scalars[S_WHEEL]))
    return count


@inner
def next_user(s: StateTable, until: int) -> int:
    """Give a user whose timer fires at or before `until`, or -1 with the wheel past it; none is left to deal out.

    Gives -2 where a span was begun that is to be dealt out first. The user stays in its list until it is armed anew.
    """
    while s.scalars[S_WHEEL] <= until:
        position = s.scalars[S_WHEEL]
        span = position >> WHEEL_BITS
        if s.scalars[S_TIMERS] == 0:
            s.scalars[S_WHEEL] = until + 1
            return -1
        end = min(until, (span << WHEEL_BITS) | WHEEL_MASK)
        slot = next_bit(s.near_bits, position & WHEEL_MASK, (end & WHEEL_MASK) + 1)
        if slot >= 0:
            s.scalars[S_WHEEL] = (span << WHEEL_BITS) | slot
            return s.wheel[slot]
        if end == until and (until & WHEEL_MASK) != WHEEL_MASK:
            s.scalars[S_WHEEL] = until + 1
            return -1
        _begin_span(s, _next_span(s, span, max(span + 1, (until + 1) >> WHEEL_BITS)))
        if s.wheel[DEALING] >= 0:
            return -2
    return -1


@kernel
def earliest(s: StateTable) -> int:
    """Give a lower bound of the earliest due time, or NEVER: exact within the near slots."""
    if s.scalars[S_TIMERS] == 0:
        return NEVER
    position = s.scalars[S_WHEEL]
    if s.wheel[DEALING] >= 0:
        return position
    span = position >> WHEEL_BITS
    slot = next_bit(s.near_bits, position & WHEEL_MASK, WHEEL_SLOTS)
    if slot >= 0:
        return (span << WHEEL_BITS) | slot
    return _next_span(s, span, span + WHEEL_SLOTS - 1) << WHEEL_BITS
