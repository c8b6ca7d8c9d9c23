"""One Arrow array of a trait file to an array of the declared type, by the coercions of semantics.md §2.

Value by value this is `cluster.model.values.coerce`, for whole arrays: numbers, booleans and times are converted in
columns; texts that must be read (and floats that must be written out) once per distinct value. An Arrow type of which
no value could ever be of the declared type is not data with missing values but a wrong column: `WrongType`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.definitions.model import ValueType
from cluster.model.values import (
    SECONDS_MAX,
    coerce_boolean,
    coerce_list,
    coerce_number,
    coerce_string,
    coerce_timestamp,
)

#: An Arrow array; pyarrow ships no types.
Array: TypeAlias = Any
DataType: TypeAlias = Any

#: The Arrow types that snapshots hold, by declared type.
ARROW_TYPES: Final[dict[ValueType, DataType]] = {
    "string": pa.string(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.int64(),
    "list": pa.list_(pa.string()),
}
_TICKS_A_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_INT64_MIN: Final = -(2**63)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
#: Where the first digit of each of a UUID's 16 bytes stands in its text.
_UUID_HIGH: Final = np.array([0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34])

#: What each declared type can be read from, for messages.
_TEXTS: Final = "text, numbers or booleans"
_NUMBERS: Final = "numbers, or text that holds numbers"
_BOOLEANS: Final = "booleans, or the texts true and false"
_TIMES: Final = "times, dates, numbers (s or ms since 1970) or RFC 3339 text"
_LISTS: Final = "lists of text, numbers or booleans"


class WrongType(Exception):
    """No value of this Arrow type is ever a value of the declared type. `allowed` names those that are."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


def convert(array: Array, type_: ValueType) -> Array:
    """Give `array` (any Arrow type) at the declared type, null where a value is missing. Raises `WrongType`."""
    array = plain(array)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), ARROW_TYPES[type_])
    return _CONVERT[type_](array)


def plain(array: Array) -> Array:
    """Undo what is only storage: extension types, dictionaries, run ends, string views. UUIDs become text."""
    if array.type == pa.uuid():
        return _uuid_text(array)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
    elif pa.types.is_run_end_encoded(kind):
        array = pc.run_end_decode(array)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    return array


def list_of_json(array: Array) -> Array | None:
    """Give texts read as JSON arrays, what is none missing; None where the array holds no texts.

    For sources that have no lists of their own. Elements become text, nulls among them are dropped.
    """
    array = plain(array)
    return _each_distinct(array, _read_list, ARROW_TYPES["list"]) if is_text(array.type) else None


def _read_list(text: object) -> list[str] | None:
    if not isinstance(text, str):
        return None
    try:
        return coerce_list(json.loads(text))
    except (ValueError, RecursionError):
        return None


def is_text(kind: DataType) -> bool:
    """Say whether it is one of Arrow's string types (once `plain`)."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def to_text(array: Array) -> Array:
    """Give a `plain` array as strings, numbers in their shortest form."""
    kind = array.type
    if is_text(kind):
        return array.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.string())
    if pa.types.is_decimal(kind):
        return _decimal_text(array)
    if pa.types.is_floating(kind):
        return _each_distinct(array.cast(pa.float64()), coerce_string, pa.string())
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    raise WrongType(_TEXTS)


def _to_number(array: Array) -> Array:
    kind = array.type
    if is_text(kind):
        return _each_distinct(array, coerce_number, pa.float64())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise WrongType(_NUMBERS)
    numbers = array.cast(pa.float64(), safe=False)
    if pa.types.is_integer(kind):
        return numbers
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _to_boolean(array: Array) -> Array:
    if pa.types.is_boolean(array.type):
        return array
    if is_text(array.type):
        return _each_distinct(array, coerce_boolean, pa.bool_())
    raise WrongType(_BOOLEANS)


def _to_timestamp(array: Array) -> Array:
    kind = array.type
    if is_text(kind):
        return _each_distinct(array, coerce_timestamp, pa.int64())
    if pa.types.is_timestamp(kind):
        return _ticks_to_ms(array.cast(pa.int64()), _TICKS_A_SECOND[kind.unit])
    if pa.types.is_date32(kind):
        return pc.multiply(array.cast(pa.int32()).cast(pa.int64()), 86_400_000)
    if pa.types.is_date64(kind):
        return array.cast(pa.int64())
    if pa.types.is_integer(kind):
        return _whole_numbers_to_ms(array)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _floats_to_ms(array.cast(pa.float64()))
    raise WrongType(_TIMES)


def _to_list(array: Array) -> Array:
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        array = array.cast(pa.list_(kind.value_type))
    elif not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise WrongType(_LISTS)
    try:
        elements = to_text(plain(array.flatten()))
    except WrongType:
        raise WrongType(_LISTS) from None
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    # flatten() leaves out what null lists hold, so lengths and elements agree.
    kept = pc.is_valid(elements)
    rows = np.repeat(np.arange(len(array)), lengths)[kept.to_numpy(zero_copy_only=False)]
    offsets = np.zeros(len(array) + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=len(array)), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), elements.filter(kept), mask=array.is_null())


_CONVERT: Final[dict[ValueType, Callable[[Array], Array]]] = {
    "string": to_text,
    "number": _to_number,
    "boolean": _to_boolean,
    "timestamp": _to_timestamp,
    "list": _to_list,
}


def _each_distinct(array: Array, coerce: Callable[[object], object], kind: DataType) -> Array:
    """Apply a function once per distinct value: 0.1 to 1.5 µs each, the rest is a gather."""
    encoded = array.dictionary_encode()
    values = pa.array([coerce(value) for value in encoded.dictionary.to_pylist()], kind)
    return values.take(encoded.indices)


def _ticks_to_ms(ticks: Array, ticks_a_second: int) -> Array:
    """Cut to ms downwards, before 1970 too (Arrow's own cast cuts towards zero)."""
    if ticks_a_second == 1:
        return _scaled_up(ticks)
    if ticks_a_second == 1_000:
        return ticks
    values = pc.fill_null(ticks, 0).to_numpy(zero_copy_only=False)
    return pa.array(values // (ticks_a_second // 1_000), pa.int64(), mask=_missing(ticks))


def _scaled_up(seconds: Array) -> Array:
    """Seconds to ms; what leaves int64 is missing."""
    values = pc.fill_null(seconds, 0).to_numpy(zero_copy_only=False)
    fits = (values >= _INT64_MIN // 1_000 + 1) & (values <= -_INT64_MIN // 1_000)
    return pa.array(np.where(fits, values, 0) * 1_000, pa.int64(), mask=_missing(seconds) | ~fits)


def _whole_numbers_to_ms(array: Array) -> Array:
    """Above 1e11 in size: ms, else s. Unsigned numbers beyond int64 are missing."""
    values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    missing = _missing(array)
    if values.dtype == np.uint64:
        too_large = values > np.uint64(2**63 - 1)
        values, missing = np.where(too_large, np.uint64(0), values), missing | too_large
    values = values.astype(np.int64)
    in_ms = (values > SECONDS_MAX) | (values < -SECONDS_MAX)
    return pa.array(np.where(in_ms, values, np.where(in_ms, 0, values) * 1_000), pa.int64(), mask=missing)


def _floats_to_ms(array: Array) -> Array:
    """As for whole numbers, cut downwards; NaN, infinities and what leaves int64 are missing."""
    values = pc.fill_null(array, np.nan).to_numpy(zero_copy_only=False)
    at_ms = np.floor(np.where(np.abs(values) > SECONDS_MAX, values, values * 1_000.0))
    fits = (at_ms >= float(_INT64_MIN)) & (at_ms < -float(_INT64_MIN))  # NaN fits neither
    return pa.array(np.where(fits, at_ms, 0.0).astype(np.int64), pa.int64(), mask=~fits)


def _decimal_text(array: Array) -> Array:
    """Whole decimals exactly (ids are often decimal(38, 0)), others as their float64."""
    if array.type.scale == 0:
        return array.cast(pa.string())
    return _each_distinct(array.cast(pa.float64()), coerce_string, pa.string())


def _uuid_text(array: Array) -> Array:
    """Write UUIDs as databases do: 32 lower-case hexadecimal digits in groups of 8, 4, 4, 4 and 12."""
    storage = array.storage
    raw = pc.fill_null(storage, b"\0" * 16).cast(pa.binary())
    octets = np.frombuffer(raw.buffers()[2], np.uint8)[raw.offset * 16 : (raw.offset + len(raw)) * 16].reshape(-1, 16)
    texts = np.full((len(array), 36), ord("-"), np.uint8)
    texts[:, _UUID_HIGH] = _HEX[octets >> 4]
    texts[:, _UUID_HIGH + 1] = _HEX[octets & 15]
    offsets = pa.array(np.arange(len(array) + 1, dtype=np.int32) * 36)
    whole = pa.StringArray.from_buffers(len(array), offsets.buffers()[1], pa.py_buffer(texts.tobytes()))
    return pc.if_else(storage.is_valid(), whole, pa.scalar(None, pa.string()))


def _missing(array: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found: np.ndarray[Any, np.dtype[np.bool_]] = array.is_null().to_numpy(zero_copy_only=False)
    return found
