"""Events that came as Arrow columns, read at canonical paths: structs, maps and JSON text alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NoReturn, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from cluster.admission.decoder import parse_events
from cluster.admission.plan import CANONICAL_FIELDS, TIMESTAMP_PATH, EventPlan
from cluster.admission.sources import Sources, sources_of
from cluster.admission.structs import PathReader, StructTree
from cluster.admission.timestamps import Bools, EventTimes, Int64s, Times
from cluster.admission.typing_columns import Typed, id_column, nulls, time_column, times_in, typed_column
from cluster.definitions.model import Path, ValueType
from cluster.errors import EventFileError
from cluster.replay.arrow_values import encoded_texts, id_texts, is_number, is_text, is_time, text_column, typed_values

#: Canonical fields that are objects.
OBJECT_FIELDS = ("properties", "traits", "context")
_TEXT_FIELDS = ("type", "event", "source")
_TIME_FIELDS = ("timestamp", "received_at")


def check_fields(schema: pa.Schema, file: str) -> list[str]:
    """Give the canonical fields among a file's columns. Raises EventFileError for none, or one of a useless type."""
    fields = [name for name in schema.names if name in CANONICAL_FIELDS]
    if not fields:
        message = f"{file}: none of its columns is a field of an event; found {_listed(schema.names)}."
        raise EventFileError(message, next_step=f"An event file has columns such as {_listed(CANONICAL_FIELDS)}.")
    for name in fields:
        if schema.names.count(name) > 1:
            message = f"{file}: it has more than one column {name}."
            raise EventFileError(message)
        found, allowed = schema.field(name).type, _allowed(name)
        if not kinds.is_null(found) and not _useful(name, found):
            message = f"{file}: column {name} has type {found}; allowed: {allowed}."
            raise EventFileError(message)
    return fields


def _useful(name: str, found: pa.DataType) -> bool:
    if name in OBJECT_FIELDS:
        return is_text(found) or kinds.is_struct(found) or kinds.is_map(found)
    if name in _TIME_FIELDS:
        return is_text(found) or is_number(found) or is_time(found)
    if name in _TEXT_FIELDS:
        return is_text(found)
    return is_text(found) or is_number(found)


def _allowed(name: str) -> str:
    if name in OBJECT_FIELDS:
        return "a struct, a map or JSON text"
    if name in _TIME_FIELDS:
        return "a timestamp, a number or text"
    return "text" if name in _TEXT_FIELDS else "text or a number"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "") if shown else "no column"


class RowNames:
    """Where rows came from, for error messages: the file, and their numbers in it, from 0."""

    def __init__(self, file: str, rows: Int64s) -> None:
        self.file = file
        self.rows = rows

    def no_json(self, field: str, column: pa.Array, row: int) -> NoReturn:
        """Refuse the file for a text that is no JSON."""
        found = repr(column[row].as_py())
        message = (f"{self.file}: row {self.rows[row] + 1}: column {field} is read as JSON text, "
                   f"but found {found[:60]}{'...' if len(found) > 60 else ''}.")
        raise EventFileError(message)

    def select(self, rows: Int64s) -> RowNames:
        """Name some of the rows."""
        return RowNames(self.file, self.rows[rows])


class TableColumns:
    """A slice of a file. `columns` are its canonical fields; `where` says which rows of which file these are."""

    def __init__(self, columns: Mapping[str, pa.Array], row_count: int, plan: EventPlan, where: RowNames) -> None:
        self._columns = columns
        self._row_count = row_count
        self._plan = plan
        self._where = where
        self._parsed: dict[str, PathReader] = {}
        self._ids: dict[Path, pa.StringArray] = {}

    @property
    def row_count(self) -> int:
        """The number of events."""
        return self._row_count

    def select(self, rows: Int64s) -> Self:
        """Give some of the events."""
        taken = pa.array(rows)
        columns = {name: column.take(taken) for name, column in self._columns.items()}
        return type(self)(columns, len(rows), self._plan, self._where.select(rows))

    def codes(self, field: str, code_of: Mapping[str, int]) -> Int64s:
        """See `EventColumns`."""
        column = self._columns.get(field)
        if column is None or kinds.is_null(column.type):
            return np.zeros(self._row_count, np.int64)
        encoded = encoded_texts(column)
        codes = np.array([*(code_of[name] for name in encoded.dictionary.to_pylist()), 0], np.int64)
        places = encoded.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)
        found: Int64s = codes[places]
        return found

    def ids(self, path: Path) -> pa.StringArray:
        """See `EventColumns`."""
        found = self._ids.get(path)
        if found is None:
            values = self._at(path)
            found = self._ids[path] = id_column(values) if isinstance(values, list) else id_texts(values)
        return found

    def typed(self, path: Path, kind: ValueType) -> Typed:
        """See `EventColumns`."""
        values = self._at(path)
        return typed_column(values, kind) if isinstance(values, list) else typed_values(values, kind)

    def objects(self, path: Path) -> list[Any]:
        """See `EventColumns`: of a struct, the fields that are not null."""
        values = self._at(path)
        return values if isinstance(values, list) else [_json_value(value) for value in values.to_pylist()]

    def present(self, path: Path) -> Bools:
        """See `EventColumns`; a field of a struct that is null is not there, since every row of it has all fields."""
        column = self._columns.get(path[0])
        if column is None:
            return np.zeros(self._row_count, np.bool_)
        if path[0] in OBJECT_FIELDS and is_text(column.type):
            return np.array(self._json(path[0], column).present(path), np.bool_)
        holder = _below(column, path[1:-1])
        if kinds.is_map(holder.type) and is_text(holder.type.key_type):
            found = _below(_keys_of(holder), path[-1:])
        else:
            found = _below(holder, path[-1:])
        return ~nulls(found)

    def times(self) -> EventTimes:
        """See `EventColumns`; a file's times are taken as they are."""
        ms, known = self.times_at(TIMESTAMP_PATH)
        return EventTimes(ms, known, np.zeros(self._row_count, np.bool_))

    def times_at(self, path: Path) -> Times:
        """See `EventColumns`."""
        values = self._at(path)
        return time_column(values) if isinstance(values, list) else times_in(typed_values(values, "timestamp").values)

    def sources(self, plan: EventPlan) -> Sources:
        """See `EventColumns`."""
        column = self._columns.get("source")
        if column is None or kinds.is_null(column.type):
            return sources_of(plan, pa.nulls(self._row_count, pa.string()))
        return sources_of(plan, encoded_texts(column))

    def _at(self, path: Path) -> pa.Array | list[Any]:
        """Give what is at a path: an Arrow column, or raw JSON values where the field is JSON text."""
        column = self._columns.get(path[0])
        if column is None:
            return pa.nulls(self._row_count)
        if path[0] in OBJECT_FIELDS and is_text(column.type):
            return self._json(path[0], column).values(path)
        return _below(column, path[1:])

    def _json(self, field: str, column: pa.Array) -> PathReader:
        """Parse a column of JSON text once, for all paths that are read in it."""
        reader, plan = self._parsed.get(field), self._plan
        if reader is None:
            read, watched = ({path for path in paths if path[0] == field} for paths in (plan.paths, plan.presences))
            tree = StructTree(read, watched)
            events, broken = parse_events(tree, _as_events(field, column))
            if broken is not None:
                self._where.no_json(field, column, int(np.flatnonzero(broken)[0]))
            reader = self._parsed[field] = tree.reader(events)
        return reader


def _json_value(value: Any) -> Any:
    """Give an Arrow value as JSON would have held it."""
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        if value and all(isinstance(pair, tuple) for pair in value):
            return {str(key): _json_value(item) for key, item in value}
        return [_json_value(item) for item in value]
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    return float(value) if isinstance(value, Decimal) else str(value)


def _as_events(field: str, column: pa.Array) -> pa.BinaryArray:
    """Give JSON texts as events that hold nothing else; null and empty text is none."""
    texts = text_column(column)
    texts = pc.if_else(pc.equal(pc.binary_length(texts), 0), "null", texts).fill_null("null")
    return pc.binary_join_element_wise(f'{{"{field}":', texts, "}", "").cast(pa.binary())


def _keys_of(column: pa.MapArray) -> pa.MapArray:
    """Give maps of each key to itself: it is there whatever the value is."""
    whole = pa.MapArray.from_arrays(column.offsets, column.keys, column.keys)
    return pc.if_else(column.is_valid(), whole, pa.scalar(None, whole.type)) if column.null_count else whole


def _below(column: pa.Array, keys: Path) -> pa.Array:
    """Follow keys into structs and maps; of a key that a map holds twice the last counts."""
    for key in keys:
        found = column.type
        if kinds.is_struct(found) and found.get_field_index(key) >= 0:
            column = pc.struct_field(column, [found.get_field_index(key)])
        elif kinds.is_map(found) and is_text(found.key_type):
            column = pc.map_lookup(column, pa.scalar(key, found.key_type), "last")
        else:
            return pa.nulls(len(column))
    return column
