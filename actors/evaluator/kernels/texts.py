"""Texts against a model's constants and patterns: hashed, compared and searched as bytes of UTF-8.

Bytes do what semantics.md asks of code points: equal texts have equal bytes, and no UTF-8 sequence begins inside
another. Case is folded before. Each distinct value of a batch is looked up once, at some tens of ns.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import load_i32, load_i64, load_u8, load_u64, store_i32
from actors.evaluator.kernels.calls import (
    call_i32,
    call_word,
    column_word,
    facet_word,
    is_text,
    model_i32,
    model_i64,
    model_u64,
    model_word,
    question_of,
    set_call_word,
    text_start,
)
from actors.evaluator.kernels.hashing import mix
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.layout import I32, I64, U8, U64

_BYTE = np.uint64(8)
_LENGTH = np.uint64(0x9E3779B97F4A7C15)
#: The lower half of a slot.
_CLASS_BITS = 0xFFFFFFFF
_CLASS = np.uint64(_CLASS_BITS)
_WORD_BYTES = 8
_UPPER_A, _UPPER_Z, _CASE, _ASCII_END = 65, 90, 32, 128


@inner
def _eight(data: int, stop: int, place: int) -> np.uint64:
    """Give the eight bytes at a place, before `stop`."""
    return load_u64(data + place, (stop - place) >> 3, 0)


@inner
def _hash(data: int, start: int, stop: int) -> np.uint64:
    """Hash bytes. Constants are the author's, not the sender's: no seed has to be secret."""
    result = np.uint64(stop - start) * _LENGTH
    place = start
    while place + _WORD_BYTES < stop:
        result = mix(result ^ _eight(data, stop, place))
        place += _WORD_BYTES
    if stop - start >= _WORD_BYTES:
        return mix(result ^ _eight(data, stop, stop - _WORD_BYTES))
    word = np.uint64(0)
    for rest in range(place, stop):
        word = (word << _BYTE) | np.uint64(load_u8(data, stop, rest))
    return mix(result ^ word)


@kernel
def hash_texts(starts: I32, data: int) -> U64:
    """Give the hash of each text; `starts` has one more, the end."""
    result = np.empty(starts.size - 1, np.uint64)
    for i in range(result.size):
        result[i] = _hash(data, np.int64(starts[i]), np.int64(starts[i + 1]))
    return result


@kernel
def hash_keys(keys: I64) -> U64:
    """Give the hash of each number or time."""
    result = np.empty(keys.size, np.uint64)
    for i in range(keys.size):
        result[i] = mix(np.uint64(keys[i]))
    return result


@kernel
def fill_slots(hashes: U64, slots: U64) -> None:
    """Fill an empty table of a power of two, larger than the hashes: class 1 + place of each."""
    mask = slots.size - 1
    for i in range(hashes.size):
        slot = np.int64(hashes[i] & np.uint64(mask))
        while slots[slot] != 0:
            slot = (slot + 1) & mask
        slots[slot] = (hashes[i] & ~_CLASS) | np.uint64(i + 1)


@kernel
def fold_ascii(starts: int, data: int, count: int) -> tuple[bool, U8]:
    """Give whether `count` texts are ASCII alone, and their bytes in lower case, at the same offsets."""
    first, stop = load_i32(starts, count + 1, 0), load_i32(starts, count + 1, count)
    result = np.empty(max(stop, 1), np.uint8)
    highest = 0
    for i in range(first, stop):
        byte = load_u8(data, stop, i)
        highest = max(highest, byte)
        result[i] = byte + _CASE if _UPPER_A <= byte <= _UPPER_Z else byte
    return highest < _ASCII_END, result


@inner
def _same(left: int, left_start: int, right: int, right_start: int, length: int) -> bool:
    left_stop, right_stop = left_start + length, right_start + length
    if length < _WORD_BYTES:
        for i in range(length):
            if load_u8(left, left_stop, left_start + i) != load_u8(right, right_stop, right_start + i):
                return False
        return True
    for i in range(0, length - _WORD_BYTES, _WORD_BYTES):
        if _eight(left, left_stop, left_start + i) != _eight(right, right_stop, right_start + i):
            return False
    return _eight(left, left_stop, left_stop - _WORD_BYTES) == _eight(right, right_stop, right_stop - _WORD_BYTES)


@kernel
def _find_text(call: int, facet: int, value: int) -> int:
    """Give the class of a text: 1 + its place among the facet's constants, or one more than their number."""
    count = facet_word(call, facet, at.F_COUNT)
    if count == 0:
        return 1
    data, start = column_word(call, facet, at.B_TEXT), text_start(call, facet, value)
    stop = text_start(call, facet, value + 1)
    hashed = _hash(data, start, stop)
    first, table = facet_word(call, facet, at.F_CONSTANTS), facet_word(call, facet, at.F_SLOTS)
    mask = facet_word(call, facet, at.F_SLOT_MASK)
    slot = np.int64(hashed & np.uint64(mask))
    while True:
        entry = model_u64(call, at.SLOTS, table + slot)
        if entry == np.uint64(0):
            return count + 1
        if (entry ^ hashed) & ~_CLASS == np.uint64(0):
            found = model_i64(call, at.SLOTS, table + slot) & _CLASS_BITS
            own = model_i32(call, at.TEXT_STARTS, first + found - 1)
            length = model_i32(call, at.TEXT_STARTS, first + found) - own
            if length == stop - start and _same(data, start, model_word(call, at.TEXT), own, length):
                return found
        slot = (slot + 1) & mask


@inner
def find_key(call: int, facet: int, key: int) -> int:
    """Give the class of a number or time by equality: as of a text."""
    hashed = mix(np.uint64(key))
    first, table = facet_word(call, facet, at.F_CONSTANTS), facet_word(call, facet, at.F_SLOTS)
    mask = facet_word(call, facet, at.F_SLOT_MASK)
    slot = np.int64(hashed & np.uint64(mask))
    while True:
        entry = model_u64(call, at.SLOTS, table + slot)
        if entry == np.uint64(0):
            return facet_word(call, facet, at.F_COUNT) + 1
        if (entry ^ hashed) & ~_CLASS == np.uint64(0):
            found = model_i64(call, at.SLOTS, table + slot) & _CLASS_BITS
            if model_i64(call, at.CONSTANTS, first + found - 1) == key:
                return found
        slot = (slot + 1) & mask


@inner
def text_class(call: int, facet: int, value: int) -> int:
    """Give the class of value `value` of a column's dictionary, or of its lists' elements; 0 where it is missing."""
    place = column_word(call, facet, at.B_MEMO) + value
    found = call_i32(call, at.CALL_MEMO, place)
    if found < 0:
        found = _find_text(call, facet, value) if is_text(call, facet, value) else 0
        store_i32(call_word(call, at.CALL_MEMO), call_word(call, at.CALL_MEMO + 1), place, found)
    return found


# --- patterns --------------------------------------------------------------------------------------------


@inner
def _is_known(call: int, question: int) -> bool:
    known, count = call_word(call, at.CALL_KNOWN), call_word(call, at.CALL_KNOWN_COUNT)
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if load_i64(known, count, middle) < question:
            low = middle + 1
        else:
            high = middle
    return low < count and load_i64(known, count, low) == question


@kernel
def holds_pattern(call: int, facet: int, pattern: int, value: int) -> bool:
    """Say whether a pattern is true for a value of a column's dictionary; the value after the last is missing.

    A regular expression is true where that is known. Searching costs the value's length, times the pattern's at
    worst.
    """
    if not is_text(call, facet, value):
        return False
    row = pattern * at.P_WIDTH
    op = model_i32(call, at.PATTERNS, row + at.P_OP)
    if op == at.REGEX:
        return _is_known(call, question_of(call, pattern, value))
    own = model_i32(call, at.PATTERNS, row + at.P_START)
    length = model_i32(call, at.PATTERNS, row + at.P_STOP) - own
    text, sought = column_word(call, facet, at.B_TEXT), model_word(call, at.TEXT)
    first, last = text_start(call, facet, value), text_start(call, facet, value + 1) - length
    if op == at.STARTS:
        last = min(first, last)
    elif op == at.ENDS:
        first = max(first, last)
    place = first
    while place <= last and not _same(text, place, sought, own, length):
        place += 1
    return place <= last


@kernel
def list_patterns(call: int, facet: int, value: int) -> int:
    """Write the list of a value, which has room: the number, then the nodes, of the patterns that select it.

    Gives where the list is.
    """
    lists, room = call_word(call, at.CALL_LISTS), call_word(call, at.CALL_LISTS + 1)
    start = call_word(call, at.CALL_LISTS_TOP)
    top = start + 1
    for pattern in range(facet_word(call, facet, at.F_PATTERNS), facet_word(call, facet, at.F_PATTERNS_STOP)):
        row = pattern * at.P_WIDTH
        selects_true = model_i32(call, at.PATTERNS, row + at.P_POSITIVE) == 1
        if holds_pattern(call, facet, pattern, value) == selects_true:
            store_i32(lists, room, top, model_i32(call, at.PATTERNS, row + at.P_NODE))
            top += 1
    store_i32(lists, room, start, top - start - 1)
    set_call_word(call, at.CALL_LISTS_TOP, top)
    return start
