"""What a matching kernel sees of a call: its model's table and its columns, by address (`filter_layout.py`)."""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import load_i32, load_i64, load_u8, load_u64, store_i64
from actors.evaluator.kernels.jit import inner

_WORD_BYTES = 8
_HALF_BYTES = 4

# --- the call, its model's table, the facets and their columns: words and arrays by their places ----------------


@inner
def call_word(call: int, place: int) -> int:
    """Give word `place` of CALL_WIDTH."""
    return load_i64(call, at.CALL_WIDTH, place)


@inner
def set_call_word(call: int, place: int, value: int) -> None:
    """Set word `place` of CALL_WIDTH."""
    store_i64(call, at.CALL_WIDTH, place, value)


@inner
def call_i32(call: int, array: int, place: int) -> int:
    """Give an element of an array of the call's, its address and length being words `array` and the next."""
    return load_i32(call_word(call, array), call_word(call, array + 1), place)


@inner
def model_word(call: int, place: int) -> int:
    """Give word `place` of M_WORDS."""
    return load_i64(call_word(call, at.CALL_TABLE), at.M_WORDS, place)


@inner
def model_i32(call: int, array: int, place: int) -> int:
    """Give an element of an array of the model's."""
    return load_i32(model_word(call, array), model_word(call, array + 1), place)


@inner
def model_i64(call: int, array: int, place: int) -> int:
    """Give an element of an array of the model's."""
    return load_i64(model_word(call, array), model_word(call, array + 1), place)


@inner
def model_u64(call: int, array: int, place: int) -> np.uint64:
    """Give an element of an array of the model's."""
    return load_u64(model_word(call, array), model_word(call, array + 1), place)


@inner
def node_word(call: int, node: int, place: int) -> int:
    """Give word `place` of N_WIDTH."""
    return model_i32(call, at.NODES, node * at.N_WIDTH + place)


@inner
def node_mask(call: int, node: int) -> np.uint64:
    """Give the mask of a node's first pair."""
    nodes, words = model_word(call, at.NODES), model_word(call, at.NODES + 1)
    return load_u64(nodes, words >> 1, (node * at.N_WIDTH + at.N_MASK) >> 1)


@inner
def facet_word(call: int, facet: int, place: int) -> int:
    """Give word `place` of F_WIDTH."""
    return model_i32(call, at.FACETS, facet * at.F_WIDTH + place)


@inner
def column_word(call: int, facet: int, place: int) -> int:
    """Give word `place` of B_WIDTH of a facet's column."""
    return load_i64(call_word(call, at.CALL_COLUMNS) + facet * at.B_WIDTH * _WORD_BYTES, at.B_WIDTH, place)


@inner
def set_memo_place(call: int, facet: int, value: int) -> None:
    """Set where the memo of a facet's column begins."""
    columns = call_word(call, at.CALL_COLUMNS)
    store_i64(columns + facet * at.B_WIDTH * _WORD_BYTES, at.B_WIDTH, at.B_MEMO, value)


# --- a row of a column ---------------------------------------------------------------------------------------


@inner
def bit(bits: int, place: int, count: int) -> bool:
    """Read bit `place` of `count` at the address `bits`, where 0 stands for all ones."""
    return bits == 0 or (load_u8(bits, (count + 7) >> 3, place >> 3) >> (place & 7)) & 1 == 1


@inner
def is_present(call: int, facet: int, row: int) -> bool:
    """Say whether a column has a value in a row."""
    bits = column_word(call, facet, at.B_VALID)
    return bit(bits, column_word(call, facet, at.B_OFFSET) + row, column_word(call, facet, at.B_COUNT))


@inner
def word_of(call: int, facet: int, row: int) -> int:
    """Give the 64 bits of a row's number or time."""
    place, count = column_word(call, facet, at.B_OFFSET) + row, column_word(call, facet, at.B_COUNT)
    return load_i64(column_word(call, facet, at.B_VALUES), count, place)


@inner
def is_true(call: int, facet: int, row: int) -> bool:
    """Give a row's boolean."""
    place, count = column_word(call, facet, at.B_OFFSET) + row, column_word(call, facet, at.B_COUNT)
    return bit(column_word(call, facet, at.B_VALUES), place, count)


@inner
def value_of(call: int, facet: int, row: int) -> int:
    """Give a row's place in its column's dictionary, the place after the last where it is missing."""
    if not is_present(call, facet, row):
        return column_word(call, facet, at.B_TEXT_COUNT)
    place, count = column_word(call, facet, at.B_OFFSET) + row, column_word(call, facet, at.B_COUNT)
    return load_i32(column_word(call, facet, at.B_VALUES), count, place)


@inner
def first_element(call: int, facet: int, row: int) -> int:
    """Give where a row's elements begin among all its column's; those of the next row begin where they end."""
    place, count = column_word(call, facet, at.B_OFFSET) + row, column_word(call, facet, at.B_COUNT)
    return load_i32(column_word(call, facet, at.B_VALUES), count + 1, place)


@inner
def is_text(call: int, facet: int, value: int) -> bool:
    """Say whether a value of a column's dictionary (or of its lists' elements) is there, and a text."""
    offset, count = column_word(call, facet, at.B_TEXT_OFFSET), column_word(call, facet, at.B_TEXT_COUNT)
    return value < count and bit(column_word(call, facet, at.B_TEXT_VALID), offset + value, offset + count)


@inner
def text_start(call: int, facet: int, value: int) -> int:
    """Give where a text begins in its column's bytes; the next one begins where it ends."""
    return load_i32(column_word(call, facet, at.B_STARTS), column_word(call, facet, at.B_TEXT_COUNT) + 1, value)


@inner
def ordered_key(bits: int) -> int:
    """Give an integer that is ordered as the float64 of these bits is, NaN beyond both infinities; -0.0 is 0.0."""
    if bits == at.NEGATIVE_ZERO:
        return 0
    return bits ^ ((bits >> 63) & at.POSITIVE)


# --- questions -------------------------------------------------------------------------------------------------


@inner
def is_asked(call: int, pattern: int) -> bool:
    """Say whether a pattern is a regular expression that is not known beforehand."""
    row = pattern * at.P_WIDTH
    return (
        model_i32(call, at.PATTERNS, row + at.P_OP) == at.REGEX and model_i32(call, at.PATTERNS, row + at.P_NODE) < 0
    )


@inner
def question_of(call: int, pattern: int, value: int) -> int:
    """Name a regular expression and a value of its column's dictionary."""
    return ((call_word(call, at.CALL_PATTERN) + pattern) << at.VALUE_BITS) | value


@inner
def ask(call: int, pattern: int, value: int) -> None:
    """Ask a regular expression of a value; without room it is only counted, and the model is run again."""
    count, room = call_word(call, at.CALL_ASKED_COUNT), call_word(call, at.CALL_ASKED + 1)
    if count < room:
        store_i64(call_word(call, at.CALL_ASKED), room, count, question_of(call, pattern, value))
    set_call_word(call, at.CALL_ASKED_COUNT, count + 1)
