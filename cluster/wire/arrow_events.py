"""Native events as an Arrow IPC stream: a column a canonical field, `properties` a struct, a map or JSON text."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.types as kinds

from cluster.errors import WireError
from cluster.limits import BODY_BYTES_MAX
from cluster.wire.arrow_guard import claimed_bytes
from cluster.wire.events import NO_EVENT, check_count

_FIELDS = frozenset({
    "type", "event", "user_id", "anonymous_id", "group_id", "previous_id", "message_id", "source", "timestamp",
    "received_at", "properties", "traits", "context",
})
_OBJECT_FIELDS = ("properties", "traits", "context")
#: Rows made into Python objects at once: a dictionary may repeat a large text in each.
_STEP_ROWS = 16
_encode = msgspec.json.Encoder().encode
#: By field: what its values become.
_Turns = dict[str, Callable[[Any], Any]]
_RAW: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)
_UNREADABLE = (pa.ArrowException, OSError, ValueError, struct.error, IndexError)


def arrow_texts(body: bytes) -> tuple[list[bytes], int]:
    """Give each row as a JSON object of its fields that are not null (some µs a row). Other columns are ignored.

    Raises WireError for what is no Arrow stream, is cut off, or would unpack to more than BODY_BYTES_MAX.
    """
    try:
        _check_size(claimed_bytes(body))
        with pa.ipc.open_stream(body) as reader:
            _check_fields(reader.schema)
            return list(_texts(reader)), 0
    except _UNREADABLE as error:
        message = f"The body is no Arrow IPC stream of events: {error}."
        raise WireError(400, "invalid_arrow", message) from error


def _texts(reader: pa.RecordBatchStreamReader) -> Iterator[bytes]:
    row_count = size = 0
    for batch in reader:
        row_count += batch.num_rows
        check_count(row_count)
        batch.validate(full=True)  # offsets and indices come from the network
        _check_size(sum(_elements(column) for column in batch.columns))
        readable = _readable(batch)
        turns = _turns(readable.schema)
        for start in range(0, readable.num_rows, _STEP_ROWS):
            for text in _step(readable.slice(start, _STEP_ROWS), turns):
                size += len(text)
                _check_size(size)
                yield text


def _check_fields(schema: pa.Schema) -> None:
    found = [name for name in schema.names if name in _FIELDS]
    if not found or len(set(found)) < len(found):
        message = f"The stream needs columns named {', '.join(sorted(_FIELDS))}, each once; found {schema.names[:12]}."
        raise WireError(400, "invalid_arrow", message)


def _check_size(size: int) -> None:
    if size > BODY_BYTES_MAX:
        message = f"The Arrow stream unpacks to more than {BODY_BYTES_MAX:,} bytes or values."
        raise WireError(413, "body_too_large", message, next_step="Send smaller batches.")


def _elements(column: pa.Array) -> int:
    """Count the values of a column at every level: nulls and empty structs take no bytes however many they are."""
    kind = column.type
    if kinds.is_struct(kind):
        return len(column) + sum(_elements(column.field(index)) for index in range(kind.num_fields))
    if kinds.is_map(kind):
        return len(column) + _elements(column.keys) + _elements(column.items)
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return len(column) + _elements(column.values)
    if kinds.is_nested(kind) or kinds.is_run_end_encoded(kind):
        message = f"columns of type {kind} are not read"
        raise ValueError(message)
    return len(column)


def _readable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Keep the fields of events; instants become UTC in µs, which is what Python's datetime holds."""
    table = pa.Table.from_batches([batch]).select([name for name in batch.schema.names if name in _FIELDS])
    wanted = pa.schema([pa.field(field.name, _readable_type(field.type)) for field in table.schema])
    return table.cast(wanted, safe=False).combine_chunks().to_batches()[0] if batch.num_rows else batch


def _readable_type(kind: pa.DataType) -> pa.DataType:
    if kinds.is_timestamp(kind) or kinds.is_date(kind):
        return pa.timestamp("us", "UTC")
    if kinds.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return pa.struct([pa.field(field.name, _readable_type(field.type)) for field in fields])
    if kinds.is_map(kind):
        return pa.map_(kind.key_type, _readable_type(kind.item_type))
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return pa.list_(_readable_type(kind.value_type))
    return kind.value_type if kinds.is_dictionary(kind) else kind


def _step(rows: pa.RecordBatch, turns: _Turns) -> list[bytes]:
    try:
        return [_text(row, turns) for row in rows.to_pylist()]
    except (ValueError, OverflowError):  # an instant out of datetime's range; in one row, it refuses only that one
        return [NO_EVENT] if rows.num_rows == 1 else [
            text for index in range(rows.num_rows) for text in _step(rows.slice(index, 1), turns)
        ]


def _text(row: dict[str, Any], turns: _Turns) -> bytes:
    for name, turn in turns.items():
        row[name] = turn(row[name])
    return _encode({name: value for name, value in row.items() if value is not None})


def _turns(schema: pa.Schema) -> _Turns:
    """Give what has to be done to the values of some fields, before they are JSON."""
    turns: _Turns = {}
    for field in schema:
        if field.name in _OBJECT_FIELDS and (kinds.is_string(field.type) or kinds.is_large_string(field.type)):
            turns[field.name] = _object
        elif _holds_maps(field.type):
            turns[field.name] = partial(_plain, kind=field.type)
    return turns


def _object(text: str | None) -> Any:
    """Give an object that came as JSON text."""
    return _RAW.decode(text) if text and text.strip() else None


def _holds_maps(kind: pa.DataType) -> bool:
    if kinds.is_struct(kind):
        return any(_holds_maps(kind.field(index).type) for index in range(kind.num_fields))
    return kinds.is_map(kind) or (kinds.is_nested(kind) and _holds_maps(kind.value_type))


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Turn a map's pairs into an object, at any depth."""
    if value is None or not kinds.is_nested(kind):
        return value
    if kinds.is_map(kind):
        return {str(key): _plain(item, kind.item_type) for key, item in value}
    if kinds.is_struct(kind):
        return {name: _plain(item, kind.field(name).type) for name, item in value.items()}
    return [_plain(item, kind.value_type) for item in value]
