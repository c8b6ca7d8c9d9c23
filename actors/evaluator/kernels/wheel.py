"""The timer wheel: two levels of 2^16 slots, exact to the ms.

Near slots hold the due times of the wheel's current 65.536 s; far slots hold later ones by their 65.536 s and are
dealt out when the wheel gets there, so a timer is touched at most twice before it fires (more only beyond 49.7 days).
A timer that is no longer wanted is not searched for: it fires, is seen to be stale, and is dropped. Cost: O(1) to
arm, O(1) a firing, 1/64 of a slot to pass an empty ms.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import (
    NEVER,
    S_NODE_FREE,
    S_NODE_TOP,
    S_NODES,
    S_WHEEL,
    U64,
    WHEEL_BITS,
    WHEEL_MASK,
    WHEEL_SLOTS,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@inner
def _link(s: StateTable, node: int, due: int) -> None:
    if (due >> WHEEL_BITS) == (s.scalars[S_WHEEL] >> WHEEL_BITS):
        slot = due & WHEEL_MASK
        s.node_next[node] = s.wheel_near[slot]
        s.wheel_near[slot] = node
        s.near_bits[slot >> 6] |= _ONE << np.uint64(slot & 63)
    else:
        slot = (due >> WHEEL_BITS) & WHEEL_MASK
        s.node_next[node] = s.wheel_far[slot]
        s.wheel_far[slot] = node
        s.far_bits[slot >> 6] |= _ONE << np.uint64(slot & 63)


@inner
def arm(s: StateTable, target: int, due: int) -> None:
    """Let `target` fire at `due` (never before the wheel's position). The caller made room for a node."""
    node = s.scalars[S_NODE_FREE]
    if node >= 0:
        s.scalars[S_NODE_FREE] = s.node_next[node]
    else:
        node = s.scalars[S_NODE_TOP]
        s.scalars[S_NODE_TOP] = node + 1
    s.scalars[S_NODES] += 1
    s.node_target[node] = target
    s.node_due[node] = due
    _link(s, node, max(due, s.scalars[S_WHEEL]))


@inner
def release(s: StateTable, node: int) -> None:
    """Give a fired node back."""
    s.node_next[node] = s.scalars[S_NODE_FREE]
    s.scalars[S_NODE_FREE] = node
    s.scalars[S_NODES] -= 1


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
def _deal_out(s: StateTable, span: int) -> None:
    """Move the timers of the 65.536 s numbered `span` to the near slots; the wheel stands at its start."""
    slot = span & WHEEL_MASK
    node = s.wheel_far[slot]
    s.wheel_far[slot] = -1
    s.far_bits[slot >> 6] &= ~(_ONE << np.uint64(slot & 63))
    while node >= 0:
        following = s.node_next[node]
        _link(s, node, max(s.node_due[node], s.scalars[S_WHEEL]))
        node = following


@kernel
def _next_span(s: StateTable, span: int, last: int) -> int:
    """Give the first span in (span, last] that has far timers (of any turn), or last."""
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
def next_instant(s: StateTable, until: int) -> int:
    """Move the wheel to its first occupied ms at or before `until` and give it, or -1 with the wheel past `until`."""
    while s.scalars[S_WHEEL] <= until:
        position = s.scalars[S_WHEEL]
        span = position >> WHEEL_BITS
        if s.scalars[S_NODES] == 0:
            s.scalars[S_WHEEL] = until + 1
            return -1
        end = min(until, (span << WHEEL_BITS) | WHEEL_MASK)
        slot = next_bit(s.near_bits, position & WHEEL_MASK, (end & WHEEL_MASK) + 1)
        if slot >= 0:
            s.scalars[S_WHEEL] = (span << WHEEL_BITS) | slot
            return s.scalars[S_WHEEL]
        if end == until and (until & WHEEL_MASK) != WHEEL_MASK:
            s.scalars[S_WHEEL] = until + 1
            return -1
        following = _next_span(s, span, max(span + 1, (until + 1) >> WHEEL_BITS))
        s.scalars[S_WHEEL] = following << WHEEL_BITS
        _deal_out(s, following)
    return -1


@inner
def take_slot(s: StateTable, at: int) -> int:
    """Detach the timers of the near slot of `at`; give the first node."""
    slot = at & WHEEL_MASK
    node = s.wheel_near[slot]
    s.wheel_near[slot] = -1
    s.near_bits[slot >> 6] &= ~(_ONE << np.uint64(slot & 63))
    return node


@kernel
def earliest(s: StateTable) -> int:
    """Give a lower bound of the earliest armed due time, or NEVER: exact within the near slots."""
    if s.scalars[S_NODES] == 0:
        return NEVER
    position = s.scalars[S_WHEEL]
    span = position >> WHEEL_BITS
    slot = next_bit(s.near_bits, position & WHEEL_MASK, WHEEL_SLOTS)
    if slot >= 0:
        return (span << WHEEL_BITS) | slot
    return _next_span(s, span, span + WHEEL_SLOTS - 1) << WHEEL_BITS
