"""Hashing of bytes, and the exact table from user keys to slots.

The hash is seeded by the shell (a sender cannot choose keys that collide); results never depend on it.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.prefetch import prefetch
from actors.evaluator.kernels.tables import BatchKeysTable, ProgramTable, StateTable
from actors.evaluator.layout import (
    DIRECT,
    DUE,
    FIRST_DUE,
    FIRST_TIME,
    FIRST_WORD,
    I32,
    I64,
    LAST_AT,
    LAST_TS,
    LEAF_WORDS,
    MISSING,
    NEVER,
    NEVER_BEFORE,
    ROW_WORDS,
    S_KEY_TOP,
    S_USERS,
    U8,
    U64,
)

_K0 = np.uint64(0x9E3779B97F4A7C15)
_K1 = np.uint64(0xBF58476D1CE4E5B9)
_K2 = np.uint64(0x94D049BB133111EB)
_S30 = np.uint64(30)
_S27 = np.uint64(27)
_S31 = np.uint64(31)
_S32 = np.uint64(32)
_S8 = np.uint64(8)
_LOW = np.uint64(0xFFFFFFFF)
#: A key's place is start << LENGTH_BITS | length.
LENGTH_BITS = 16
LENGTH_MASK = (1 << LENGTH_BITS) - 1
#: Keys ahead of which the table, then the slot, then the bytes are asked for.
_TABLE_AHEAD = 24
_PLACE_AHEAD = 16
_BYTES_AHEAD = 8


@inner
def mix(value: np.uint64) -> np.uint64:
    """Spread a word over all bits (the finaliser of splitmix64)."""
    value = (value ^ (value >> _S30)) * _K1
    value = (value ^ (value >> _S27)) * _K2
    return value ^ (value >> _S31)


@inner
def hash_bytes(data: U8, start: int, length: int, seed: np.uint64) -> np.uint64:
    """Hash `data[start:start + length]`; O(length / 8) multiplications."""
    result = mix(seed ^ (np.uint64(length) * _K0))
    position = start
    end = start + length
    while position + 8 <= end:
        word = np.uint64(0)
        for i in range(8):
            word |= np.uint64(data[position + i]) << np.uint64(8 * i)
        result = mix(result ^ word) + _K0
        position += 8
    if position < end:
        word = np.uint64(0)
        shift = np.uint64(0)
        while position < end:
            word |= np.uint64(data[position]) << shift
            shift += _S8
            position += 1
        result = mix(result ^ word) + _K0
    return mix(result)


@inner
def find_user(s: StateTable, parent: int, data: U8, start: int, length: int, hashed: np.uint64) -> int:
    """Give the slot of a key, or -1. Exact: bytes are compared."""
    mask = s.key_table.size - 1
    tag = hashed & ~_LOW
    place = np.int64(hashed & np.uint64(mask))
    while True:
        entry = s.key_table[place]
        if entry == np.uint64(0):
            return -1
        if (entry & ~_LOW) == tag:
            slot = int(entry & _LOW) - 1
            where = s.key_place[slot]
            if (where & LENGTH_MASK) == length and s.user_parent[slot] == parent:
                at = where >> LENGTH_BITS
                same = True
                for i in range(length):
                    if s.key_bytes[at + i] != data[start + i]:
                        same = False
                        break
                if same:
                    return slot
        place = (place + 1) & mask


@inner
def _fits(s: StateTable, length: int) -> bool:
    """Say whether there is room for one more user, the table at most half full."""
    users = s.scalars[S_USERS] + 1
    bytes_ = s.scalars[S_KEY_TOP] + length
    return users <= s.user_parent.size and 2 * users <= s.key_table.size and bytes_ <= s.key_bytes.size


@inner
def _new_user(
    p: ProgramTable, s: StateTable, parent: int, data: U8, start: int, length: int, hashed: np.uint64
) -> int:
    slot = s.scalars[S_USERS]
    top = s.scalars[S_KEY_TOP]
    for i in range(length):
        s.key_bytes[top + i] = data[start + i]
    s.key_place[slot] = (top << LENGTH_BITS) | length
    s.user_parent[slot] = parent
    s.user_hash[slot] = hashed
    for word in range(p.shape[ROW_WORDS]):
        s.users[slot, word] = 0
    s.users[slot, LAST_TS] = NEVER_BEFORE
    s.users[slot, DUE] = NEVER
    s.users[slot, LAST_AT] = NEVER_BEFORE
    for w in range(p.shape[LEAF_WORDS]):
        s.words[slot, FIRST_WORD + w] = p.default_words[parent, w]
    for page in range(p.shape[DIRECT]):
        s.users[slot, p.shape[FIRST_DUE] + page] = NEVER
    for column in range(p.shape[FIRST_TIME], p.shape[ROW_WORDS]):
        s.users[slot, column] = MISSING
    s.scalars[S_KEY_TOP] = top + length
    s.scalars[S_USERS] = slot + 1
    mask = s.key_table.size - 1
    place = np.int64(hashed & np.uint64(mask))
    while s.key_table[place] != np.uint64(0):
        place = (place + 1) & mask
    s.key_table[place] = (hashed & ~_LOW) | np.uint64(slot + 1)
    return slot


@inner
def _guess(s: StateTable, hashed: np.uint64) -> int:
    """Give the slot in a key's first place of the table, -1: it is empty. Mostly it is the key's own."""
    return int(s.key_table[np.int64(hashed & np.uint64(s.key_table.size - 1))] & _LOW) - 1


@inner
def _ask(s: StateTable, k: BatchKeysTable, i: int) -> None:
    """Ask for the memory of keys to come, a step of the look-up each."""
    if i + _TABLE_AHEAD < k.hashes.size:
        prefetch(s.key_table, np.int64(k.hashes[i + _TABLE_AHEAD] & np.uint64(s.key_table.size - 1)))
    if i + _PLACE_AHEAD < k.hashes.size:
        slot = _guess(s, k.hashes[i + _PLACE_AHEAD])
        if slot >= 0:
            prefetch(s.key_place, slot)
    if i + _BYTES_AHEAD < k.hashes.size:
        slot = _guess(s, k.hashes[i + _BYTES_AHEAD])
        if slot >= 0:
            prefetch(s.key_bytes, s.key_place[slot] >> LENGTH_BITS)


@kernel
def encode_keys(p: ProgramTable, s: StateTable, k: BatchKeysTable, seed: np.uint64, first: int) -> int:
    """Give each key from the `first` on its slot, making new ones. Give how many have theirs.

    Fewer than all: there is no room for a new user; call again from there.
    """
    count = k.slots.size
    for i in range(first, count):
        k.hashes[i] = hash_bytes(k.data, k.offsets[i], k.offsets[i + 1] - k.offsets[i], seed ^ np.uint64(k.parents[i]))
    for i in range(first, count):
        _ask(s, k, i)
        start = k.offsets[i]
        length = k.offsets[i + 1] - start
        hashed = k.hashes[i]
        slot = find_user(s, k.parents[i], k.data, start, length, hashed)
        if slot < 0:
            if not _fits(s, length):
                return i
            slot = _new_user(p, s, k.parents[i], k.data, start, length, hashed)
        k.slots[i] = slot
    return count


@kernel
def hash_strings(offsets: I32, data: U8, seed: np.uint64, hashes: U64) -> None:
    """Write the hash of each string of an Arrow column's buffers."""
    for i in range(hashes.size):
        hashes[i] = hash_bytes(data, offsets[i], offsets[i + 1] - offsets[i], seed)


@kernel
def rebuild_table(hashes: U64, first: int, users: int, table: U64) -> None:
    """Enter the users `first..users` in a larger table by their hashes."""
    mask = table.size - 1
    for slot in range(first, users):
        hashed = hashes[slot]
        place = np.int64(hashed & np.uint64(mask))
        while table[place] != np.uint64(0):
            place = (place + 1) & mask
        table[place] = (hashed & ~_LOW) | np.uint64(slot + 1)


@kernel
def gather_keys(slots: I32, key_place: I64, key_bytes: U8, offsets: I32, data: U8) -> None:
    """Write the keys of `slots` as an Arrow string column (`offsets` already filled from the lengths)."""
    for i in range(slots.size):
        at = key_place[slots[i]] >> LENGTH_BITS
        to = offsets[i]
        for j in range(offsets[i + 1] - to):
            data[to + j] = key_bytes[at + j]


@kernel
def find_keys(s: StateTable, parent: int, offsets: I32, data: U8, seed: np.uint64) -> I32:
    """Give the slot of each key of a parent, -1 where it has none."""
    result = np.empty(offsets.size - 1, np.int32)
    for i in range(result.size):
        start = offsets[i]
        length = offsets[i + 1] - start
        hashed = hash_bytes(data, start, length, seed ^ np.uint64(parent))
        result[i] = find_user(s, parent, data, start, length, hashed)
    return result
