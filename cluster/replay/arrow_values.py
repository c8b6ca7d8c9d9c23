"""Arrow columns of any type to columns of a declared type, vectorised, by the rules of `cluster.model.values`.

A value counts as the JSON value it stands for: numbers of any width as numbers, text as text; timestamps and dates
are times already. Columns that need a rule of their own (texts as numbers) go through their distinct values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from cluster.admission.iso_times import iso_times
from cluster.admission.timestamps import Bools
from cluster.admission.typing_columns import ARROW_TYPES, Typed, epoch_times, nulls, text_sizes
from cluster.definitions.model import ValueType
from cluster.model.values import SECONDS_MAX, coerce_list, coercer, number_text


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds text, plain or dictionary-encoded."""
    if kinds.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column holds numbers (booleans are none)."""
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))


def is_time(kind: pa.DataType) -> bool:
    """Tell whether a column holds instants or dates."""
    return bool(kinds.is_timestamp(kind) or kinds.is_date(kind))


def text_column(column: pa.Array) -> pa.StringArray:
    """Give a text column as plain strings."""
    return column if kinds.is_string(column.type) else column.cast(pa.string())


def encoded_texts(column: pa.Array) -> pa.DictionaryArray:
    """Give a text column dictionary-encoded, as `ARROW_TYPES` has it."""
    wanted = ARROW_TYPES["string"]
    if column.type == wanted:
        return column
    if kinds.is_dictionary(column.type) and column.dictionary.null_count == 0:
        return pa.DictionaryArray.from_arrays(
            column.indices.cast(pa.int32()), column.dictionary.cast(pa.string())
        )
    return text_column(column).dictionary_encode()


def id_texts(column: pa.Array) -> pa.StringArray:
    """Give ids as text: numbers in their shortest form; null for `""` and for what is no text or number."""
    if is_text(column.type):
        texts = text_column(column)
        empty = (text_sizes(texts) == 0) & ~nulls(texts)
        return pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), texts) if empty.any() else texts
    if is_number(column.type):
        return typed_values(column, "string").values.cast(pa.string())
    return pa.nulls(len(column), pa.string())


def typed_values(column: pa.Array, kind: ValueType) -> Typed:
    """Give a column at a declared type."""
    if kinds.is_null(column.type):
        return Typed(pa.nulls(len(column), ARROW_TYPES[kind]), None)
    if kinds.is_dictionary(column.type) and not is_text(column.type):
        column = column.dictionary_decode()
    convert = _converter(column.type, kind)
    values = convert(column) if convert else pa.nulls(len(column), ARROW_TYPES[kind])
    if values.null_count == column.null_count:
        return Typed(values, None)
    invalid: Bools = nulls(values) & ~nulls(column)
    return Typed(values, invalid if invalid.any() else None)


def _converter(found: pa.DataType, kind: ValueType) -> Callable[[pa.Array], pa.Array] | None:
    """Give the conversion from a type of columns to a declared type; None if no value of it counts."""
    if is_text(found):
        return _OF_TEXT.get(kind)
    if kinds.is_integer(found):
        return _OF_INTEGERS.get(kind)
    if is_number(found):
        return _OF_FLOATS.get(kind)
    if kinds.is_boolean(found):
        return _OF_BOOLEANS.get(kind)
    if is_time(found):
        return _ms_of_instants if kind == "timestamp" else None
    if kinds.is_list(found) or kinds.is_large_list(found):
        return _lists if kind == "list" else None
    return None


def _by_distinct(column: pa.Array, convert: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
    """Convert each distinct value once."""
    encoded = column if kinds.is_dictionary(column.type) else column.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    converted = pa.array([None if value is None else convert(value) for value in distinct], kind)
    return converted.take(encoded.indices)


def _numbers_of_text(column: pa.Array) -> pa.Array:
    return _by_distinct(column, coercer("number"), pa.float64())


def _booleans_of_text(column: pa.Array) -> pa.Array:
    return _by_distinct(column, coercer("boolean"), pa.bool_())


def _times_of_text(column: pa.Array) -> pa.Array:
    texts = text_column(column)
    times = iso_times(texts)
    return _by_distinct(texts, coercer("timestamp"), pa.int64()) if times is None else times


def _floats(column: pa.Array) -> pa.Array:
    """Give finite float64s; NaN and infinities are null."""
    numbers = column.cast(pa.float64(), safe=False)
    finite = np.isfinite(numbers.fill_null(0.0).to_numpy(zero_copy_only=False))
    return numbers if finite.all() else pc.if_else(pa.array(finite), numbers, pa.scalar(None, pa.float64()))


def _texts_of_integers(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()).dictionary_encode()


def _texts_of_floats(column: pa.Array) -> pa.Array:
    return _by_distinct(column.cast(pa.float64(), safe=False), number_text, pa.string()).dictionary_encode()


def _times_of_integers(column: pa.Array) -> pa.Array:
    if kinds.is_uint64(column.type):
        fits = pc.less_equal(column, pa.scalar(2**63 - 1, pa.uint64()))
        column = pc.if_else(fits, column, pa.scalar(None, pa.uint64()))
    return epoch_times(column.cast(pa.int64()))


def _times_of_floats(column: pa.Array) -> pa.Array:
    numbers = _floats(column)
    values = numbers.fill_null(0.0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        ms = np.floor(np.where(np.abs(values) > SECONDS_MAX, values, values * 1_000))
    fits = (ms >= -(2.0**63)) & (ms < 2.0**63)
    return pa.array(np.where(fits, ms, 0).astype(np.int64), mask=nulls(numbers) | ~fits)


def _ms_of_instants(column: pa.Array) -> pa.Array:
    """Give ms, cut downwards; a column without a zone is UTC."""
    if kinds.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    unit = column.type.unit
    counted = column.cast(pa.int64())
    if unit == "ms":
        return counted
    whole = (counted.fill_null(0) if counted.null_count else counted).to_numpy(zero_copy_only=False)
    if unit == "s":
        ms = np.clip(whole, -(2**53), 2**53) * 1_000
    else:
        ms = np.floor_divide(whole, 1_000 if unit == "us" else 1_000_000)
    return pa.array(ms, mask=nulls(counted) if counted.null_count else None)


def _texts_of_booleans(column: pa.Array) -> pa.Array:
    return pc.if_else(column, "true", "false").dictionary_encode()


def _same(column: pa.Array) -> pa.Array:
    return column


def _lists(column: pa.Array) -> pa.Array:
    """Give lists of text without nulls."""
    wanted = ARROW_TYPES["list"]
    if is_text(column.type.value_type) and column.flatten().null_count == 0:
        return column.cast(wanted)
    return pa.array([None if value is None else coerce_list(value) for value in column.to_pylist()], wanted)


_OF_TEXT: dict[str, Callable[[pa.Array], pa.Array]] = {
    "string": encoded_texts, "number": _numbers_of_text, "boolean": _booleans_of_text, "timestamp": _times_of_text,
}
_OF_INTEGERS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "string": _texts_of_integers, "number": _floats, "timestamp": _times_of_integers,
}
_OF_FLOATS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "string": _texts_of_floats, "number": _floats, "timestamp": _times_of_floats,
}
_OF_BOOLEANS: dict[str, Callable[[pa.Array], pa.Array]] = {"string": _texts_of_booleans, "boolean": _same}
