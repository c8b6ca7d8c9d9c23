"""The Arrow columns of a batch as the matching kernels read them: addresses, with case folded where it is ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import address_of
from actors.evaluator.kernels.texts import fold_ascii
from actors.evaluator.matching.operators import folded
from cluster.errors import InternalError

_STRINGS: Final = pa.dictionary(pa.int32(), pa.string())
_FLAT: Final = {at.NUMBER: pa.DoubleArray, at.TIME: pa.Int64Array, at.BOOLEAN: pa.BooleanArray}
#: Facets that read a column as another kind does.
_FORMS: Final = {at.PATTERN: at.STRING, at.NUMBER_VALUE: at.NUMBER, at.TIME_VALUE: at.TIME}
#: An offset for texts that have none: the buffers of an empty array may be missing.
_NO_OFFSETS: Final = np.zeros(2, np.int32)
_NO_TEXT: Final = np.zeros(1, np.uint8)


class BatchColumns:
    """What lies where in a batch of `rows` rows. Each column is looked at once, and kept while kernels read it."""

    def __init__(self, column_of: Callable[[str], pa.Array], rows: int) -> None:
        self._column_of = column_of
        self._rows = rows
        self._kept: list[Any] = []
        self._columns: dict[str, pa.Array] = {}
        self._words: dict[tuple[str, int, bool], tuple[int, ...]] = {}

    def words(self, column: str, kind: int, folds: bool) -> tuple[int, ...]:
        """Give the B_WIDTH words of a facet. Raises InternalError for a column of another type or length."""
        key = (column, _FORMS.get(kind, kind), folds)
        known = self._words.get(key)
        if known is None:
            known = self._words[key] = self._read(column, key[1], folds)
        return known

    def dictionary(self, column: str) -> pa.Array:
        """Give the distinct values of a string column."""
        return self._array(column).dictionary

    def _array(self, name: str) -> pa.Array:
        column = self._columns.get(name)
        if column is None:
            column = self._column_of(name)
            if len(column) != self._rows:
                message = f"a column of {self._rows} events has {len(column)} rows"
                raise InternalError(message)
            if isinstance(column, pa.StringArray):
                column = column.dictionary_encode()
            self._columns[name] = column
        return column

    def _read(self, name: str, kind: int, folds: bool) -> tuple[int, ...]:
        column = self._array(name)
        if kind == at.STRING and column.type == _STRINGS:
            return (*self._flat(column), *self._texts(column.dictionary, folds), 0)
        if kind == at.LIST and isinstance(column, pa.ListArray) and isinstance(column.values, pa.StringArray):
            return (*self._flat(column), *self._texts(column.values, folds), 0)
        if kind in _FLAT and isinstance(column, _FLAT[kind]):
            return (*self._flat(column), 0, 0, 0, 0, 0, 0)
        message = f"a column of event data came as {column.type}"
        raise InternalError(message)

    def _flat(self, column: pa.Array) -> tuple[int, int, int, int]:
        valid, values = column.buffers()[:2]
        offset = column.offset
        return (_address(values), offset, offset + len(column), _address(valid))

    def _texts(self, values: pa.Array, folds: bool) -> tuple[int, int, int, int, int]:
        valid, starts, data = values.buffers()
        offset, count = values.offset, len(values)
        starts_at = starts.address + 4 * offset if starts is not None and starts.size else address_of(_NO_OFFSETS)
        data_at = data.address if data is not None and data.size else address_of(_NO_TEXT)
        if folds:
            ascii_only, text = fold_ascii(starts_at, data_at, count)
            if not ascii_only:
                values = folded(values)
                self._kept.append(values)
                return self._texts(values, False)
            self._kept.append(text)
            data_at = address_of(text)
        return (starts_at, data_at, _address(valid), offset, count)


def _address(buffer: pa.Buffer | None) -> int:
    return 0 if buffer is None else int(buffer.address)
