"""Rings: the n latest timestamps of the events that match one filter, for one user.

A ring of capacity n answers "at least k (k <= n) in the last D ms at t" exactly, late events included: true until
its k-th latest + D. Small rings are shifted, latest first; larger ones are circular (word 0: place of the latest),
so an event in order costs O(1) whatever n is, and a late one O(number of later ones kept).
"""

from __future__ import annotations

from actors.evaluator.kernels.jit import inner
from actors.evaluator.layout import I64, NEVER_BEFORE, SMALL_RING


@inner
def ring_clear(arena: I64, at: int, capacity: int) -> None:
    """Make the ring at `at` empty."""
    if capacity <= SMALL_RING:
        for i in range(capacity):
            arena[at + i] = NEVER_BEFORE
    else:
        arena[at] = 0
        for i in range(capacity):
            arena[at + 1 + i] = NEVER_BEFORE


@inner
def ring_insert(arena: I64, at: int, capacity: int, ts: int) -> bool:
    """Add a timestamp; False if it is older than all that are kept and the ring is full."""
    if capacity == 1:
        if ts > arena[at]:
            arena[at] = ts
            return True
        return False
    if capacity <= SMALL_RING:
        place = capacity - 1
        if ts <= arena[at + place]:
            return False
        while place > 0 and arena[at + place - 1] < ts:
            arena[at + place] = arena[at + place - 1]
            place -= 1
        arena[at + place] = ts
        return True
    latest = arena[at]
    base = at + 1
    oldest = latest + 1
    if oldest == capacity:
        oldest = 0
    if ts <= arena[base + oldest]:
        return False
    # The oldest's place becomes the newest's; later ones move up by one until the right place is free.
    hole = oldest
    before = latest
    while before != oldest and arena[base + before] > ts:
        arena[base + hole] = arena[base + before]
        hole = before
        before -= 1
        if before < 0:
            before = capacity - 1
    arena[base + hole] = ts
    arena[at] = oldest
    return True


@inner
def ring_nth(arena: I64, at: int, capacity: int, n: int) -> int:
    """Give the n-th latest timestamp (1 = the latest), NEVER_BEFORE if there are fewer."""
    if capacity <= SMALL_RING:
        return arena[at + n - 1]
    place = arena[at] - (n - 1)
    if place < 0:
        place += capacity
    return arena[at + 1 + place]
