"""Message ids seen within the horizon: a table of 128-bit hashes with clocks, and a queue to forget by.

The identity is (source, parent model, user key, message id); two different ones share 128 bits with probability
2^-128 a pair. An id counts as seen while it was accepted at a clock above `clock - horizon` (semantics.md §3),
whether or not it was purged yet.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.hashing import hash_bytes, mix
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import (
    I16,
    I32,
    I64,
    NEVER_BEFORE,
    S_DEDUP_COUNT,
    S_DEDUP_EVICTED,
    S_DEDUP_HEAD,
    S_DEDUP_HORIZON_FROM,
    S_DEDUP_LEN,
    U8,
    U64,
)

_LANE = np.uint64(0xA0761D6478BD642F)


@kernel
def hash_messages(
    offsets: I32, data: U8, valid: U8, sources: I16, key_hashes: U64, seed: np.uint64, first: U64, second: U64
) -> None:
    """Write the two hashes of each hit's identity; (0, 0) where there is no message id."""
    for i in range(valid.size):
        if valid[i] == 0:
            first[i] = np.uint64(0)
            second[i] = np.uint64(0)
            continue
        start = offsets[i]
        length = offsets[i + 1] - start
        owner = mix(key_hashes[i] + np.uint64(np.int64(sources[i]) + 2) * _LANE)
        first[i] = hash_bytes(data, start, length, seed ^ owner) | np.uint64(1)
        second[i] = hash_bytes(data, start, length, mix(seed ^ _LANE) + owner)


@inner
def _find(s: StateTable, first: np.uint64, second: np.uint64) -> int:
    """Give the place of an id, or -(place of the empty slot) - 1."""
    mask = s.dedup_first.size - 1
    place = int(first >> np.uint64(20)) & mask
    while s.dedup_clock[place] != NEVER_BEFORE:
        if s.dedup_first[place] == first and s.dedup_second[place] == second:
            return place
        place = (place + 1) & mask
    return -place - 1


@inner
def seen(s: StateTable, first: np.uint64, second: np.uint64, after_ms: int) -> bool:
    """Say whether the id was accepted at a clock above `after_ms`."""
    place = _find(s, first, second)
    return place >= 0 and s.dedup_clock[place] > after_ms


@inner
def remember(s: StateTable, first: np.uint64, second: np.uint64, clock: int) -> None:
    """Register an accepted id; the caller made room in table and queue."""
    place = _find(s, first, second)
    if place < 0:
        place = -place - 1
        s.dedup_first[place] = first
        s.dedup_second[place] = second
        s.scalars[S_DEDUP_COUNT] += 1
    s.dedup_clock[place] = clock
    size = s.dedup_queue_clock.size
    tail = (s.scalars[S_DEDUP_HEAD] + s.scalars[S_DEDUP_LEN]) & (size - 1)
    s.dedup_queue_first[tail] = first
    s.dedup_queue_second[tail] = second
    s.dedup_queue_clock[tail] = clock
    s.scalars[S_DEDUP_LEN] += 1


@inner
def _forget(s: StateTable, place: int) -> None:
    """Remove an entry, closing the gap (linear probing needs no tombstones that way)."""
    mask = s.dedup_first.size - 1
    hole = place
    look = (place + 1) & mask
    while s.dedup_clock[look] != NEVER_BEFORE:
        home = np.int64(s.dedup_first[look] >> np.uint64(20)) & mask
        if ((look - home) & mask) >= ((look - hole) & mask):
            s.dedup_first[hole] = s.dedup_first[look]
            s.dedup_second[hole] = s.dedup_second[look]
            s.dedup_clock[hole] = s.dedup_clock[look]
            hole = look
        look = (look + 1) & mask
    s.dedup_clock[hole] = NEVER_BEFORE
    s.scalars[S_DEDUP_COUNT] -= 1


@inner
def purge(s: StateTable, until_clock: int, most_kept: int, most_work: int) -> None:
    """Forget ids accepted at or before `until_clock` (`most_work` at most), and the oldest beyond `most_kept`."""
    size = s.dedup_queue_clock.size
    work = 0
    while s.scalars[S_DEDUP_LEN] > 0:
        head = s.scalars[S_DEDUP_HEAD]
        clock = s.dedup_queue_clock[head]
        crowded = s.scalars[S_DEDUP_COUNT] > most_kept
        if not crowded and (clock > until_clock or work >= most_work):
            return
        work += 1
        place = _find(s, s.dedup_queue_first[head], s.dedup_queue_second[head])
        if place >= 0 and s.dedup_clock[place] == clock:
            _forget(s, place)
            if clock > until_clock:
                s.scalars[S_DEDUP_EVICTED] += 1
                s.scalars[S_DEDUP_HORIZON_FROM] = clock
        s.scalars[S_DEDUP_HEAD] = (head + 1) & (size - 1)
        s.scalars[S_DEDUP_LEN] -= 1


@kernel
def refill(
    old_first: U64, old_second: U64, old_clock: I64, new_first: U64, new_second: U64, new_clock: I64
) -> None:
    """Move all entries of a table into an empty, larger one."""
    mask = new_first.size - 1
    for i in range(old_first.size):
        if old_clock[i] != NEVER_BEFORE:
            place = np.int64(old_first[i] >> np.uint64(20)) & mask
            while new_clock[place] != NEVER_BEFORE:
                place = (place + 1) & mask
            new_first[place] = old_first[i]
            new_second[place] = old_second[i]
            new_clock[place] = old_clock[i]
