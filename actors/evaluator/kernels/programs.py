"""Programs: what is left to be tested of a filter, on a row that the index selected for it.

Each instruction is a leaf that says where to go on when it is true and when it is not; leaves read the columns as
they are, so a program costs a few ns for each leaf that it comes to.
"""

from __future__ import annotations

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import load_i64
from actors.evaluator.kernels.calls import (
    ask,
    first_element,
    is_asked,
    is_present,
    is_text,
    is_true,
    model_i32,
    model_word,
    ordered_key,
    value_of,
    word_of,
)
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.texts import holds_pattern, text_class


@inner
def _within(call: int, start: int, stop: int, value: int) -> bool:
    """Say whether one of the ranges `start..stop`, ascending and disjoint, holds the value."""
    ranges, words = model_word(call, at.RANGES), model_word(call, at.RANGES + 1)
    low, high = start, stop
    while low < high:
        middle = (low + high) >> 1
        if load_i64(ranges, words, 2 * middle) <= value:
            low = middle + 1
        else:
            high = middle
    return low > start and value <= load_i64(ranges, words, 2 * low - 1)


@inner
def _leaf(call: int, row: int, kind: int, facet: int, start: int, stop: int) -> bool:
    """Say whether an instruction's test is true for a row."""
    if not is_present(call, facet, row):
        return False
    if kind == at.IS_SET:
        return True
    if kind == at.PATTERN:
        return holds_pattern(call, facet, start, value_of(call, facet, row))
    if kind == at.LIST:
        for element in range(first_element(call, facet, row), first_element(call, facet, row + 1)):
            if _within(call, start, stop, text_class(call, facet, element)):
                return True
        return False
    if kind == at.STRING:
        value = text_class(call, facet, value_of(call, facet, row))
    elif kind == at.NUMBER:
        value = ordered_key(word_of(call, facet, row))
    elif kind == at.TIME:
        value = word_of(call, facet, row)
    else:
        value = 1 if is_true(call, facet, row) else 0
    return _within(call, start, stop, value)


@kernel
def runs(call: int, row: int, entry: int) -> bool:
    """Run a program, from its entry until it accepts or rejects the row."""
    line = entry
    while line >= 0:
        c = line * at.C_WIDTH
        holds = _leaf(
            call,
            row,
            model_i32(call, at.CODE, c + at.C_KIND),
            model_i32(call, at.CODE, c + at.C_FACET),
            model_i32(call, at.CODE, c + at.C_START),
            model_i32(call, at.CODE, c + at.C_STOP),
        )
        line = model_i32(call, at.CODE, c + (at.C_YES if holds else at.C_NO))
    return line == at.ACCEPT


@kernel
def ask_all(call: int, row: int, entry: int) -> None:
    """Ask every regular expression that a program may come to for a row and that is not known beforehand."""
    for line in range(model_i32(call, at.CODE, entry * at.C_WIDTH + at.C_LAST), entry + 1):
        c = line * at.C_WIDTH
        pattern, facet = model_i32(call, at.CODE, c + at.C_START), model_i32(call, at.CODE, c + at.C_FACET)
        if model_i32(call, at.CODE, c + at.C_KIND) == at.PATTERN and is_asked(call, pattern):
            value = value_of(call, facet, row)
            if is_text(call, facet, value):
                ask(call, pattern, value)
