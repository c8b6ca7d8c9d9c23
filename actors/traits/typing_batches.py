"""A batch of a source, checked and at its declared types: what every table's builder begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import pyarrow as pa

from actors.traits.columns import WrongType, convert, is_text, plain, to_text
from actors.traits.wanted import Wanted, first_up
from cluster.definitions.model import ValueType
from cluster.errors import SnapshotError

#: Arrow record batches and arrays; pyarrow ships no types.
Batch: TypeAlias = Any
Array: TypeAlias = Any

_KEYS: Final = "text or whole numbers"


def check_bytes(batch: Batch, wanted: Wanted) -> None:
    """Text must be UTF-8 and offsets in range: a file can say anything, and kernels trust what they get."""
    try:
        batch.select(wanted.names()).validate(full=True)
    except pa.ArrowInvalid as error:
        message = f"{first_up(wanted.where)} are damaged: {error}."
        raise SnapshotError(message, reason="damaged", next_step="Write the source anew.") from error


def typed_keys(batch: Batch, wanted: Wanted) -> Array:
    """Give the keys as text; raises `SnapshotError`, reason `wrong_type`."""
    return _typed(batch, wanted.key, _key_text, "key", wanted)


def typed_columns(batch: Batch, wanted: Wanted) -> Mapping[str, Array]:
    """Give each column to be read at its declared type; raises `SnapshotError`, reason `wrong_type` or `damaged`."""
    return {read.name: _typed(batch, read.column, _converter(read.type), read.type, wanted) for read in wanted.reads}


def _typed(batch: Batch, name: str, convert_array: Callable[[Array], Array], declared: str, wanted: Wanted) -> Array:
    column, where = batch.column(name), first_up(wanted.where)
    try:
        return convert_array(column)
    except WrongType as error:
        message = (f"{where}: the column {name!r} is declared {declared}, "
                   f"found Arrow type {column.type}; allowed: {error.allowed}.")  # fmt: skip
        step = "Change the column's type in the definitions or in the source."
        raise SnapshotError(message, reason="wrong_type", next_step=step) from error
    except pa.ArrowException as error:
        message = f"{where}: the column {name!r} cannot be read as {declared}: {error}."
        raise SnapshotError(message, reason="damaged", next_step="Write the source anew.") from error


def _converter(type_: ValueType) -> Callable[[Array], Array]:
    return lambda array: convert(array, type_)


def _key_text(array: Array) -> Array:
    array = plain(array)
    kind = array.type
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    if not (is_text(kind) or whole or pa.types.is_null(kind)):
        raise WrongType(_KEYS)
    return to_text(array)
