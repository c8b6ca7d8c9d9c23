"""Avro values in Confluent's wire format: a byte 0, the schema's id (4 bytes), the record. Needs the extra `avro`.

What a hostile or broken record could do to the decoder is ruled out by its schema: one that refers to itself (the
decoder, which is C, would go down into it without end), or under which no bytes stand for many values, is not used.
"""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Final

import fastavro

from cluster.intake.registry import SchemaName, Schemas
from cluster.intake.rows import read_fields
from cluster.limits import BODY_BYTES_MAX
from cluster.wire.records import Record, Unreadable

#: Where newer serializers may put the schema's name instead of in front of the value.
_HEADER: Final = "__value_schema_id"
_BY_ID, _BY_GUID = 0, 1
#: Ids are Java's int: a larger number is none, and no registry need be asked.
_ID_MAX: Final = 2**31 - 1
_NUMBER_BYTES_MAX: Final = 1_024

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_LOCAL: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a local time has no zone
_PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_EXACT: Final = Context(prec=4 * _NUMBER_BYTES_MAX)


#: A record as it came: value, headers, what names it, when the broker got it (ms).
Arrived = tuple[bytes | None, Sequence[tuple[str, bytes | None]] | None, str, int]


class AvroSchema:
    """A schema that records are decoded by. `definitions`: those that it refers to, then its own.

    Raises ValueError, or what fastavro raises, if records must not or cannot be decoded by it.
    """

    def __init__(self, definitions: Sequence[Any]) -> None:
        *referred, own = map(_prepared, definitions)
        named: dict[str, dict[str, Any]] = {}
        for definition in referred:
            fastavro.parse_schema(definition, named_schemas=named)
        self._is_union = isinstance(own, list)
        self._branches: list[tuple[str, Any]] = []
        for number, branch in enumerate(own if isinstance(own, list) else [own]):
            # A record of one field is written as that field alone: so any type has a name to be decoded by.
            wrapped = {"type": "record", "name": f"UsherValue{number}", "fields": [{"name": "value", "type": branch}]}
            parsed: Any = fastavro.parse_schema(wrapped, named_schemas=named)
            _Check(named).check(parsed)
            self._branches.append((_record_name(parsed["fields"][0]["type"], named), parsed))

    def decode(self, value: bytes, start: int) -> tuple[str, dict[str, Any]]:
        """Give a record's name, without its namespace, and its fields. Raises Unreadable."""
        stream = io.BytesIO(value)
        stream.seek(start)
        try:
            name, schema = self._branches[_index(stream) if self._is_union else 0]
            wrapped: Any = fastavro.schemaless_reader(stream, schema, None)
        except Exception as error:
            # fastavro raises whatever the bytes lead it to; whatever it is, this is no record of that schema.
            reason = "undecodable"
            raise Unreadable(reason) from error
        if stream.tell() != len(value):
            reason = "undecodable"
            raise Unreadable(reason)
        if not name:
            reason = "no_event"
            raise Unreadable(reason)
        return name, wrapped["value"]


class AvroRecords:
    """Reads records by the schemas of a registry. Blocks."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def read(self, arrived: Sequence[Arrived]) -> list[Record | Unreadable]:
        """Read some records, their schemas asked for together. Raises RegistryUnavailable."""
        named = [_named(value, headers) for value, headers, _, _ in arrived]
        self._schemas.learn({found[0] for found in named if not isinstance(found, Unreadable)})
        return [self._record(record, found) for record, found in zip(arrived, named, strict=True)]

    def close(self) -> None:
        """End the registry's connections."""
        self._schemas.close()

    def _record(self, record: Arrived, found: tuple[SchemaName, int] | Unreadable) -> Record | Unreadable:
        if isinstance(found, Unreadable):
            return found
        schema, start = found
        value, _, place, received_ms = record
        try:
            name, fields = self._schemas.get(schema).decode(value or b"", start)
            return read_fields(fields, name, place, received_ms)
        except Unreadable as error:
            return error


def _named(
    value: bytes | None, headers: Sequence[tuple[str, bytes | None]] | None
) -> tuple[SchemaName, int] | Unreadable:
    """Give the schema's name and where the record begins in its value."""
    if not value:
        return Unreadable("empty")
    if len(value) > BODY_BYTES_MAX:
        return Unreadable("too_large")
    for key, said in headers or ():
        if key == _HEADER:
            found = _name_in(said or b"")
            return (found[0], 0) if found else Unreadable("not_avro")
    return _name_in(value) or Unreadable("not_avro")


def _name_in(text: bytes) -> tuple[SchemaName, int] | None:
    """Give a schema's name at the start of some bytes, and how many of them it takes."""
    if len(text) >= 5 and text[0] == _BY_ID:
        number = int.from_bytes(text[1:5], "big")
        return (number, 5) if number <= _ID_MAX else None
    if len(text) >= 17 and text[0] == _BY_GUID:
        return str(uuid.UUID(bytes=text[1:17])), 17
    return None


def _index(stream: io.BytesIO) -> int:
    """Read which type of a union follows; raises IndexError if there is no such number."""
    index = shift = 0
    while True:
        byte = stream.read(1)[0]
        index |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            break
    if index & 1:
        raise IndexError(index)  # negative
    return index >> 1


def _record_name(schema: Any, named: Mapping[str, Any]) -> str:
    """Give the name of a type that is a record, without its namespace; else an empty one."""
    if isinstance(schema, str):
        schema = named.get(schema)
    if not isinstance(schema, Mapping):
        return ""
    if schema["type"] not in ("record", "error"):
        return _record_name(schema["type"], named) if isinstance(schema["type"], Mapping) else ""
    return re.sub(r".*\.", "", str(schema["name"]))


class _Check:
    """Walks a parsed schema, each of its named types once; raises ValueError for what must not be decoded by."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._open: set[str] = set()
        #: By name, whether a value may take no bytes at all.
        self._hollow: dict[str, bool] = {}

    def check(self, schema: Any) -> bool:
        """Tell whether a value may take no bytes."""
        if isinstance(schema, list):
            for branch in schema:
                self.check(branch)
            return False
        if isinstance(schema, str):
            return schema == "null" if schema in _PRIMITIVES else self._check_named(schema, self._named[schema])
        kind = schema["type"]
        if kind == "array":
            if self.check(schema["items"]):
                message = "its arrays may hold any number of values in no bytes"
                raise ValueError(message)
            return False
        if kind == "map":
            self.check(schema["values"])
            return False
        if kind in ("record", "error", "fixed", "enum"):
            return self._check_named(str(schema["name"]), schema)
        return self.check(kind)

    def _check_named(self, name: str, schema: Mapping[str, Any]) -> bool:
        if name in self._open:
            message = f"{name} refers to itself"
            raise ValueError(message)
        if name not in self._hollow:
            self._open.add(name)
            self._hollow[name] = self._is_hollow(name, schema)
            self._open.remove(name)
        return self._hollow[name]

    def _is_hollow(self, name: str, schema: Mapping[str, Any]) -> bool:
        if schema["type"] == "fixed":
            return int(schema["size"]) == 0
        if schema["type"] == "enum":
            return False
        types = [field["type"] for field in schema["fields"]]
        hollow = [self.check(type_) for type_ in types]
        if len(hollow) > 1 and all(hollow) and any(type_ != "null" for type_ in types):
            message = f"{name} holds values in no bytes"
            raise ValueError(message)
        return all(hollow)


def _prepared(schema: Any) -> Any:
    """Give a schema in which the logical types that we read are ours, and others what they are written as.

    fastavro's own readers refuse the whole record for one value out of range; that value alone is missing.
    """
    if isinstance(schema, list):
        return [_prepared(branch) for branch in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {key: value for key, value in schema.items() if key != "logicalType"}
    if f"{schema.get('type')}-usher-{schema.get('logicalType')}" in _READERS:
        result["logicalType"] = f"usher-{schema['logicalType']}"
    for key in ("type", "items", "values"):
        if key in result:
            result[key] = _prepared(result[key])
    if isinstance(result.get("fields"), list):
        result["fields"] = [_prepared(field) for field in result["fields"]]
    return result


def _forgiving(read: Callable[[Any, Mapping[str, Any]], Any]) -> Callable[..., Any]:
    def forgive(data: Any, schema: Mapping[str, Any], _: Any = None) -> Any:
        try:
            return read(data, schema)
        except (ArithmeticError, ValueError):
            return None

    return forgive


def _decimal(data: bytes, schema: Mapping[str, Any]) -> Decimal | None:
    if len(data) > _NUMBER_BYTES_MAX:
        return None
    return Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-int(schema.get("scale", 0)), _EXACT)


def _time(microseconds: int) -> str:
    return (_EPOCH_LOCAL + timedelta(microseconds=microseconds)).time().isoformat()


def _day(days: int) -> str:
    return f"{date.fromordinal(days + _EPOCH_LOCAL.toordinal()).isoformat()}T00:00:00Z"


_MILLI, _MICRO = timedelta(milliseconds=1), timedelta(microseconds=1)
#: Instants become times, days their midnight in UTC, decimals numbers.
_READERS: Final[dict[str, Callable[..., Any]]] = {
    "long-usher-timestamp-millis": _forgiving(lambda data, _: _EPOCH + data * _MILLI),
    "long-usher-timestamp-micros": _forgiving(lambda data, _: _EPOCH + data * _MICRO),
    "long-usher-timestamp-nanos": _forgiving(lambda data, _: _EPOCH + data // 1000 * _MICRO),
    "long-usher-local-timestamp-millis": _forgiving(lambda data, _: _EPOCH_LOCAL + data * _MILLI),
    "long-usher-local-timestamp-micros": _forgiving(lambda data, _: _EPOCH_LOCAL + data * _MICRO),
    "long-usher-local-timestamp-nanos": _forgiving(lambda data, _: _EPOCH_LOCAL + data // 1000 * _MICRO),
    "int-usher-date": _forgiving(lambda data, _: _day(data)),
    "int-usher-time-millis": _forgiving(lambda data, _: _time(1000 * data)),
    "long-usher-time-micros": _forgiving(lambda data, _: _time(data)),
    "bytes-usher-decimal": _forgiving(_decimal),
    "fixed-usher-decimal": _forgiving(_decimal),
    "fixed-usher-uuid": _forgiving(lambda data, _: str(uuid.UUID(bytes=data))),
}
fastavro.read.LOGICAL_READERS.update(_READERS)
