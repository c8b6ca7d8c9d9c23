"""Raw JSON values of one column to an Arrow column of a declared type, by the rules of `cluster.model.values`.

The kinds of the values (one `set(map(type, ...))`, 20 ns a value) choose between Arrow's own conversion, where it
gives exactly what the rules give, and the rules themselves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.admission.iso_times import iso_times
from cluster.admission.timestamps import TIME_LIMIT_MS, Bools, Int64s, Times
from cluster.definitions.model import ValueType
from cluster.model.values import SECONDS_MAX, coercer, number_text

ARROW_TYPES: dict[ValueType, pa.DataType] = {
    "string": pa.dictionary(pa.int32(), pa.string()),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.int64(),
    "list": pa.list_(pa.string()),
}
#: Kinds that Arrow converts as the rules would, by declared type.
_PLAIN_KINDS: dict[ValueType, frozenset[type]] = {
    "string": frozenset({str}),
    "number": frozenset({int, float}),
    "boolean": frozenset({bool}),
    "timestamp": frozenset(),
    "list": frozenset(),
}
_NONE = type(None)


class Typed(NamedTuple):
    """A column at its declared type; `invalid` marks the rows that had some other value (None: no row had)."""

    values: pa.Array
    invalid: Bools | None


def id_text(value: Any) -> str | None:
    """Give an id as text: numbers in their shortest form; None for `""` and for what is no text or number."""
    if type(value) is str:
        return value or None
    return number_text(value) if type(value) in (int, float) else None


def id_column(values: list[Any]) -> pa.StringArray:
    """Give ids as text, by `id_text`."""
    if set(map(type, values)) <= {str, _NONE}:
        texts = pa.array(values, pa.string())
        if np.count_nonzero(text_sizes(texts)) == len(texts) - texts.null_count:
            return texts
    return pa.array([id_text(value) for value in values], pa.string())


def typed_column(values: list[Any], kind: ValueType) -> Typed:
    """Give values at the declared type."""
    kinds = set(map(type, values)) - {_NONE}
    if not kinds:
        return Typed(pa.nulls(len(values), ARROW_TYPES[kind]), None)
    if kinds <= _PLAIN_KINDS[kind]:
        converted = _converted(values, kind)
        if converted is not None:
            return Typed(converted, None)
    if kind == "timestamp" and kinds in ({str}, {int}):
        times = _plain_times(values, kinds)
        if times is not None:
            return Typed(times, None)
    return _coerced(values, kind)


def _converted(values: list[Any], kind: ValueType) -> pa.Array | None:
    """Convert values of plain kinds; None where Arrow would refuse or round (integers over 2**53, infinity)."""
    try:
        converted = pa.array(values, ARROW_TYPES[kind])
    except (pa.ArrowInvalid, OverflowError):
        return None
    if kind == "number" and not np.isfinite(np.frombuffer(converted.buffers()[1])).all():
        return None
    return converted


def _plain_times(values: list[Any], kinds: set[type]) -> pa.Int64Array | None:
    """Give the times of all-text or all-integer values; None where one needs the rules."""
    if kinds == {str}:
        return iso_times(pa.array(values, pa.string()))
    try:
        numbers = pa.array(values, pa.int64())
    except (pa.ArrowInvalid, OverflowError):
        return None
    return epoch_times(numbers)


def epoch_times(numbers: pa.Int64Array) -> pa.Int64Array:
    """Read whole numbers as times: ms above SECONDS_MAX in size, else seconds."""
    whole = whole_numbers(numbers)
    ms = np.where((whole > SECONDS_MAX) | (whole < -SECONDS_MAX), whole, whole * 1_000)
    return pa.array(ms, mask=nulls(numbers) if numbers.null_count else None)


def _coerced(values: list[Any], kind: ValueType) -> Typed:
    coerce = coercer(kind)
    coerced = [None if value is None else coerce(value) for value in values]
    invalid = np.fromiter(
        [value is not None and typed is None for value, typed in zip(values, coerced, strict=True)],
        np.bool_, len(values),
    )
    return Typed(pa.array(coerced, ARROW_TYPES[kind]), invalid if invalid.any() else None)


def time_column(values: list[Any]) -> Times:
    """Give values as times; what is no timestamp is unknown."""
    column = typed_column(values, "timestamp").values
    return Times.unknown(len(values)) if column.null_count == len(values) else times_in(column)


def times_in(column: pa.Int64Array) -> Times:
    """Give an int64 column as times, cut to the limit."""
    ms = whole_numbers(column)
    if len(ms) and (ms.min() < -TIME_LIMIT_MS or ms.max() > TIME_LIMIT_MS):
        ms = np.clip(ms, -TIME_LIMIT_MS, TIME_LIMIT_MS)
    return Times(ms, ~nulls(column))


def whole_numbers(column: pa.Int64Array) -> Int64s:
    """Give an int64 column's values, 0 for null; not to be written to."""
    filled = column.fill_null(0) if column.null_count else column
    values: Int64s = filled.to_numpy(zero_copy_only=False)
    return values


def nulls(column: pa.Array) -> Bools:
    """Tell which values are null."""
    if column.null_count in (0, len(column)):
        return np.full(len(column), column.null_count > 0)
    found: Bools = column.is_null().to_numpy(zero_copy_only=False)
    return found


def text_sizes(texts: pa.StringArray) -> npt.NDArray[np.int32]:
    """Give each text's length in bytes, 0 for null."""
    if texts.null_count == len(texts):
        return np.zeros(len(texts), np.int32)
    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset:texts.offset + len(texts) + 1]
    return np.diff(ends) if texts.null_count == 0 else np.where(nulls(texts), np.int32(0), np.diff(ends))
