"""Rows of Arrow columns in, the filters that match each row out.

Sketch of the cost of a row: for each indexed column its class (a look-up by place in the dictionary, or a binary
search), then a few ns for each node met, candidate tried and filter that matches. What exists and does not match
costs nothing. All inner functions take the address of the call, no arrays: those would be counted each time.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import load_i64, load_u64, store_i32, store_u64
from actors.evaluator.kernels.calls import (
    call_i32,
    call_word,
    column_word,
    facet_word,
    first_element,
    is_present,
    is_true,
    model_i32,
    model_u64,
    model_word,
    node_mask,
    node_word,
    ordered_key,
    set_memo_place,
    value_of,
    word_of,
)
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.programs import ask_all, runs
from actors.evaluator.kernels.texts import find_key, list_patterns, text_class
from actors.evaluator.layout import I32, I64, U64

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
#: De Bruijn's sequence: the upper six bits of its product with a power of two name the power.
_SEQUENCE = 0x03F79D71B4CB0A89
_DE_BRUIJN = np.uint64(_SEQUENCE)
_UPPER_SIX = np.uint64(58)
_BIT_OF = np.zeros(64, np.int64)
for _bit in range(64):
    _BIT_OF[((_SEQUENCE << _bit) & (2**64 - 1)) >> 58] = _bit

#: What a model's rows stop for.
_DONE, _IDS, _LISTS = 0, 1, 2
#: Room at first: ids a row, words of lists of nodes, and questions.
_IDS_A_ROW, _LISTS_MIN, _ASKED_MIN = 4, 64, 64


@inner
def _lowest(word: np.uint64) -> int:
    """Give the place of the lowest bit of a word that is not 0."""
    return _BIT_OF[np.int64(((word & (~word + _ONE)) * _DE_BRUIJN) >> _UPPER_SIX)]


# --- a row -------------------------------------------------------------------------------------------------


@inner
def _place(call: int, start: int, count: int, value: int) -> int:
    """Give the class of a value among ascending constants."""
    constants, words = model_word(call, at.CONSTANTS), model_word(call, at.CONSTANTS + 1)
    low, high = start, start + count
    while low < high:
        middle = (low + high) >> 1
        if load_i64(constants, words, middle) < value:
            low = middle + 1
        else:
            high = middle
    if low < start + count and load_i64(constants, words, low) == value:
        return 2 + 2 * (low - start)
    return 1 + 2 * (low - start)


@inner
def _class_of(call: int, facet: int, row: int) -> int:
    """Give the class of a row; of a list, whether it is there."""
    if not is_present(call, facet, row):
        return 0
    kind = facet_word(call, facet, at.F_KIND)
    if kind == at.STRING:
        return text_class(call, facet, value_of(call, facet, row))
    if kind == at.BOOLEAN:
        return 2 if is_true(call, facet, row) else 1
    count = facet_word(call, facet, at.F_COUNT)
    if kind == at.LIST:
        return count + 1
    word = word_of(call, facet, row)
    if kind == at.NUMBER_VALUE:
        # NaN is no constant.
        return find_key(call, facet, ordered_key(word))
    if kind == at.TIME_VALUE:
        return find_key(call, facet, word)
    if kind == at.NUMBER:
        if word & at.POSITIVE > at.INFINITY:  # NaN
            return 2 * count + 2
        word = ordered_key(word)
    return _place(call, facet_word(call, facet, at.F_CONSTANTS), count, word)


@inner
def _set(call: int, word: int, mask: np.uint64) -> None:
    bits, count = call_word(call, at.CALL_BITS), call_word(call, at.CALL_BITS + 1)
    store_u64(bits, count, word, load_u64(bits, count, word) | mask)
    touched, count = call_word(call, at.CALL_TOUCHED), call_word(call, at.CALL_TOUCHED + 1)
    group = word >> 6
    store_u64(touched, count, group, load_u64(touched, count, group) | _ONE << np.uint64(word & 63))


@inner
def _meet(call: int, row: int, node: int) -> None:
    """Set the bits of what matches by a node and by those above it."""
    while node >= 0:
        mask = node_mask(call, node)
        if mask != _ZERO:
            _set(call, node_word(call, node, at.N_WORD), mask)
            for pair in range(node_word(call, node, at.N_PAIRS), node_word(call, node, at.N_PAIRS_STOP)):
                _set(call, model_i32(call, at.PAIR_WORD, pair), model_u64(call, at.PAIR_MASK, pair))
        for place in range(node_word(call, node, at.N_CANDIDATES), node_word(call, node, at.N_CANDIDATES_STOP)):
            candidate = model_i32(call, at.CANDIDATES, 2 * place)
            entry = model_i32(call, at.CANDIDATES, 2 * place + 1)
            if call_word(call, at.CALL_ASKING) == 1:
                ask_all(call, row, entry)
            if runs(call, row, entry):
                _set(call, candidate >> 6, _ONE << np.uint64(candidate & 63))
        node = node_word(call, node, at.N_UP)


@inner
def _meet_class(call: int, facet: int, row: int, of: int) -> None:
    node = model_i32(call, at.CLASS_NODE, facet_word(call, facet, at.F_CLASSES) + of)
    if node <= at.LONE:
        _set(call, (at.LONE - node) >> 6, _ONE << np.uint64((at.LONE - node) & 63))
    else:
        _meet(call, row, node)


@inner
def _list_of(call: int, facet: int, row: int) -> int:
    """Give where the nodes are listed that a row's value leads to by patterns, -1 if there is no room for them."""
    place = column_word(call, facet, at.B_MEMO) + value_of(call, facet, row)
    found = call_i32(call, at.CALL_MEMO, place)
    if found < 0:
        patterns = facet_word(call, facet, at.F_PATTERNS_STOP) - facet_word(call, facet, at.F_PATTERNS)
        if call_word(call, at.CALL_LISTS + 1) - call_word(call, at.CALL_LISTS_TOP) > patterns:
            found = list_patterns(call, facet, value_of(call, facet, row))
            store_i32(call_word(call, at.CALL_MEMO), call_word(call, at.CALL_MEMO + 1), place, found)
    return found


@kernel
def _meet_all(call: int, row: int) -> bool:
    """Set the bits of all filters that match a row. Say whether there was room; else it can be done again."""
    _meet(call, row, 0)
    for facet in range(model_word(call, at.S_INDEXED)):
        kind = facet_word(call, facet, at.F_KIND)
        if kind == at.PATTERN:
            start = _list_of(call, facet, row)
            if start < 0:
                return False
            for place in range(start + 1, start + 1 + call_i32(call, at.CALL_LISTS, start)):
                _meet(call, row, call_i32(call, at.CALL_LISTS, place))
            continue
        found = _class_of(call, facet, row)
        _meet_class(call, facet, row, found)
        if kind == at.LIST and found > 0:
            for element in range(first_element(call, facet, row), first_element(call, facet, row + 1)):
                of = text_class(call, facet, element)
                if 0 < of <= facet_word(call, facet, at.F_COUNT):
                    _meet_class(call, facet, row, of)
    return True


# --- a model's rows ------------------------------------------------------------------------------------------


@kernel
def _match_model(
    call: I64, rows: I32, starts: I32, stops: I32, ids: I32, asked: I64, memo: I32, bits: U64, touched: U64, lists: I32
) -> int:
    """Match the rows of one model from the CALL_NEXT-th on: `row`'s filters go to `ids[starts[row]:stops[row]]`.

    Gives what it stopped for: to be called again with more room for that. The arrays are the caller's, who keeps
    them while they are read by address.
    """
    call[at.CALL_ASKED], call[at.CALL_ASKED + 1] = asked.ctypes.data, asked.size
    call[at.CALL_MEMO], call[at.CALL_MEMO + 1] = memo.ctypes.data, memo.size
    call[at.CALL_BITS], call[at.CALL_BITS + 1] = bits.ctypes.data, bits.size
    call[at.CALL_TOUCHED], call[at.CALL_TOUCHED + 1] = touched.ctypes.data, touched.size
    call[at.CALL_LISTS], call[at.CALL_LISTS + 1] = lists.ctypes.data, lists.size
    address = call.ctypes.data
    first_filter = call[at.CALL_FILTER]
    top = call[at.CALL_TOP]
    for number in range(call[at.CALL_NEXT], rows.size):
        call[at.CALL_NEXT], call[at.CALL_TOP] = number, top
        if not _meet_all(address, np.int64(rows[number])):
            return _LISTS
        starts[rows[number]] = top
        for group in range(touched.size):
            words = touched[group]
            while words != _ZERO:
                word = (group << 6) + _lowest(words)
                words &= words - _ONE
                if ids.size - top < 64:
                    return _IDS
                mask = bits[word]
                while mask != _ZERO:
                    ids[top] = first_filter + (word << 6) + _lowest(mask)
                    top += 1
                    mask &= mask - _ONE
                bits[word] = _ZERO
            touched[group] = _ZERO
        stops[rows[number]] = top
    call[at.CALL_NEXT], call[at.CALL_TOP] = rows.size, top
    return _DONE


@inner
def _more_i32(array: I32, room: int) -> I32:
    """Give a copy with room for `room` more, and at least twice what it has."""
    result = np.empty(max(2 * array.size, array.size + room), np.int32)
    for i in range(array.size):
        result[i] = array[i]
    return result


@inner
def _more_i64(array: I64, size: int) -> I64:
    result = np.empty(size, np.int64)
    for i in range(array.size):
        result[i] = array[i]
    return result


@inner
def _place_memos(call: int) -> int:
    """Give each facet's column its part of the memo, with a place for what is missing. Give the memo's size."""
    size = 0
    for facet in range(model_word(call, at.FACETS + 1) // at.F_WIDTH):
        set_memo_place(call, facet, size)
        size += column_word(call, facet, at.B_TEXT_COUNT) + 1
    return size


@inner
def _longest_list(call: int) -> int:
    """Give the most words that one value's list of nodes can take."""
    longest = 0
    for facet in range(model_word(call, at.S_INDEXED)):
        patterns = facet_word(call, facet, at.F_PATTERNS_STOP) - facet_word(call, facet, at.F_PATTERNS)
        longest = max(longest, patterns)
    return longest + 1


@inner
def _look_up(call: int, rows: int) -> None:
    """Look up the distinct values of short dictionaries beforehand.

    One after the other the look-ups overlap in the processor, which rows between them would prevent: a third less
    for ten thousand values. A dictionary with more values than there are rows is of other models too.
    """
    for facet in range(model_word(call, at.S_INDEXED)):
        count = column_word(call, facet, at.B_TEXT_COUNT)
        if facet_word(call, facet, at.F_KIND) == at.STRING and count <= rows:
            for value in range(count):
                text_class(call, facet, value)


@kernel
def _match_whole(call: I64, rows: I32, starts: I32, stops: I32, ids: I32, asked: I64) -> tuple[I32, I64]:
    """Match all rows of one model, making room as needed. Gives `ids` and `asked`, or larger ones."""
    address = call.ctypes.data
    bits = np.zeros((model_word(address, at.S_FILTERS) + 63) >> 6, np.uint64)
    touched = np.zeros((bits.size + 63) >> 6, np.uint64)
    memo = np.full(_place_memos(address), -1, np.int32)
    lists = np.empty(_LISTS_MIN, np.int32)
    first, before = call[at.CALL_TOP], call[at.CALL_ASKED_COUNT]
    call[at.CALL_MEMO], call[at.CALL_MEMO + 1] = memo.ctypes.data, memo.size
    _look_up(address, rows.size)
    while True:
        wants = _match_model(call, rows, starts, stops, ids, asked, memo, bits, touched, lists)
        if wants == _IDS:
            ids = _more_i32(ids, 64)
        elif wants == _LISTS:
            lists = _more_i32(lists, _longest_list(address))
        elif call[at.CALL_ASKED_COUNT] > asked.size:
            # Questions were lost: all of them once more, now that their number is known.
            asked = _more_i64(asked, call[at.CALL_ASKED_COUNT])
            for i in range(memo.size):
                memo[i] = -1
            call[at.CALL_NEXT], call[at.CALL_TOP] = 0, first
            call[at.CALL_LISTS_TOP], call[at.CALL_ASKED_COUNT] = 0, before
        else:
            return ids, asked


# --- a batch -------------------------------------------------------------------------------------------------


@inner
def _by_model(models: I64, count: int) -> tuple[I32, I64]:
    """Give the rows in order of models, and where each model's begin, then the end."""
    starts = np.zeros(count + 1, np.int64)
    for model in models:
        starts[model + 1] += 1
    for model in range(count):
        starts[model + 1] += starts[model]
    free = starts.copy()
    order = np.empty(models.size, np.int32)
    for row in range(models.size):
        order[free[models[row]]] = row
        free[models[row]] += 1
    return order, starts


@kernel
def match_rows(calls: I64, models: I64) -> tuple[I32, I32, I64]:
    """Give each row's filters as offsets and ids, and what had to be known for that, repeated, in no order.

    `calls`: CALL_WIDTH words a model, as `filter_layout` says; `models`: of each row. Where questions come back,
    the rest is of no use.
    """
    order, begins = _by_model(models, calls.size // at.CALL_WIDTH)
    starts, stops = np.empty(models.size, np.int32), np.empty(models.size, np.int32)
    ids = np.empty(_IDS_A_ROW * models.size + 64, np.int32)
    asked = np.empty(_ASKED_MIN, np.int64)
    top = questions = present = 0
    for model in range(begins.size - 1):
        if begins[model] < begins[model + 1]:
            present += 1
            call = calls[model * at.CALL_WIDTH : (model + 1) * at.CALL_WIDTH]
            call[at.CALL_NEXT], call[at.CALL_TOP] = 0, top
            call[at.CALL_LISTS_TOP], call[at.CALL_ASKED_COUNT] = 0, questions
            rows = order[begins[model] : begins[model + 1]]
            ids, asked = _match_whole(call, rows, starts, stops, ids, asked)
            top, questions = call[at.CALL_TOP], call[at.CALL_ASKED_COUNT]
    offsets = np.zeros(models.size + 1, np.int32)
    for row in range(models.size):
        offsets[row + 1] = offsets[row] + stops[row] - starts[row]
    if present <= 1:
        return offsets, ids[:top], asked[:questions]
    result = np.empty(top, np.int32)
    for row in range(models.size):
        for place in range(stops[row] - starts[row]):
            result[offsets[row] + place] = ids[starts[row] + place]
    return offsets, result, asked[:questions]
