"""Chunks of the arena, and deques in them: what structures hold that grow with a user's events.

A chunk is `[words | ...]`, its words a power of two; freed ones wait in a list per size. A deque is three words in its
structure (chunk, head, count) and entries of a fixed width in a chunk, circular, ordered by their first word (a ts).
Nothing here asks for memory: the caller made room for what an insertion may take (`growth`).
"""

from __future__ import annotations

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.layout import (
    CHUNK_BITS_MIN,
    D_CHUNK,
    D_COUNT,
    D_HEAD,
    S_ARENA_TOP,
    S_ARENA_USED,
)


@inner
def chunk_bits(words: int) -> int:
    """Give the size, as a power of two, of the smallest chunk with room for so many words beside its own."""
    bits = CHUNK_BITS_MIN
    while (1 << bits) < words + 1:
        bits += 1
    return bits


@kernel
def new_chunk(s: StateTable, bits: int) -> int:
    """Give a chunk of 2^bits words."""
    chunk = s.chunk_free[bits]
    if chunk != 0:
        s.chunk_free[bits] = s.arena[chunk + 1]
    else:
        chunk = s.scalars[S_ARENA_TOP]
        s.scalars[S_ARENA_TOP] = chunk + (1 << bits)
    s.arena[chunk] = 1 << bits
    s.scalars[S_ARENA_USED] += 1 << bits
    return chunk


@kernel
def free_chunk(s: StateTable, chunk: int) -> None:
    """Give a chunk back."""
    words = s.arena[chunk]
    bits = CHUNK_BITS_MIN
    while (1 << bits) < words:
        bits += 1
    s.arena[chunk + 1] = s.chunk_free[bits]
    s.chunk_free[bits] = chunk
    s.scalars[S_ARENA_USED] -= words


@inner
def clear(s: StateTable, at: int) -> None:
    """Make the deque at `at` an empty one without a chunk."""
    s.arena[at + D_CHUNK] = 0
    s.arena[at + D_HEAD] = 0
    s.arena[at + D_COUNT] = 0


@kernel
def drop(s: StateTable, at: int) -> None:
    """Empty a deque and give its chunk back."""
    if s.arena[at + D_CHUNK] != 0:
        free_chunk(s, s.arena[at + D_CHUNK])
    clear(s, at)


@inner
def room_of(s: StateTable, at: int, width: int) -> int:
    """Give how many entries the deque's chunk holds."""
    chunk = s.arena[at + D_CHUNK]
    return 0 if chunk == 0 else (s.arena[chunk] - 1) // width


@inner
def growth(s: StateTable, at: int, width: int, more: int) -> int:
    """Give the words that may be taken until the deque holds `more` further entries, however often it grows."""
    count = s.arena[at + D_COUNT]
    if count + more <= room_of(s, at, width):
        return 0
    return 8 * width * (count + more) + (2 << CHUNK_BITS_MIN)


@inner
def entry(s: StateTable, at: int, width: int, i: int) -> int:
    """Give the place of the i-th entry, 0 the oldest."""
    chunk = s.arena[at + D_CHUNK]
    place = s.arena[at + D_HEAD] + i
    room = (s.arena[chunk] - 1) // width
    if place >= room:
        place -= room
    return chunk + 1 + place * width


@kernel
def _grow(s: StateTable, at: int, width: int) -> None:
    count = s.arena[at + D_COUNT]
    old = s.arena[at + D_CHUNK]
    fresh = new_chunk(s, chunk_bits((2 * count + 1) * width))
    for i in range(count):
        source = entry(s, at, width, i)
        target = fresh + 1 + i * width
        for w in range(width):
            s.arena[target + w] = s.arena[source + w]
    if old != 0:
        free_chunk(s, old)
    s.arena[at + D_CHUNK] = fresh
    s.arena[at + D_HEAD] = 0


@inner
def place_for(s: StateTable, at: int, width: int, ts: int) -> int:
    """Give the index behind the last entry at or before `ts`; O(1) where that is the last one, else O(log)."""
    low = 0
    high = s.arena[at + D_COUNT]
    if high == 0 or s.arena[entry(s, at, width, high - 1)] <= ts:
        return high
    while low < high:
        middle = (low + high) // 2
        if s.arena[entry(s, at, width, middle)] <= ts:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def insert(s: StateTable, at: int, width: int, index: int) -> int:
    """Open a place for an entry at `index` and give it; O(entries behind it), grown by doubling."""
    count = s.arena[at + D_COUNT]
    if count == room_of(s, at, width):
        _grow(s, at, width)
    s.arena[at + D_COUNT] = count + 1
    i = count
    while i > index:
        target = entry(s, at, width, i)
        source = entry(s, at, width, i - 1)
        for w in range(width):
            s.arena[target + w] = s.arena[source + w]
        i -= 1
    return entry(s, at, width, index)


@inner
def pop_front(s: StateTable, at: int, width: int) -> None:
    """Drop the oldest entry; the last one gives the chunk back."""
    count = s.arena[at + D_COUNT] - 1
    if count == 0:
        drop(s, at)
        return
    head = s.arena[at + D_HEAD] + 1
    s.arena[at + D_HEAD] = 0 if head == room_of(s, at, width) else head
    s.arena[at + D_COUNT] = count
