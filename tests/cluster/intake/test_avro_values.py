"""Avro values to events: logical types, what is out of range, what schemas may not be, and bytes that are anything."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.definitions.model import SchemaRegistry
from cluster.intake.avro import AvroRecords, AvroSchema
from cluster.intake.registry import RegistryUnavailable, Schemas
from cluster.wire.records import Record, Unreadable

LONG_MAX = 2**63 - 1


def zigzag(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    text = b""
    while number & ~0x7F:
        text += bytes([number & 0x7F | 0x80])
        number >>= 7
    return text + bytes([number])


class OneSchema:
    """A registry's client that has one schema for every id."""

    def __init__(self, schema: Any) -> None:
        self._schema = Schema(json.dumps(schema), "AVRO")

    def get_schema(self, _: int) -> Schema:
        return self._schema


def records(schema: Any) -> AvroRecords:
    return AvroRecords(Schemas(OneSchema(schema), SchemaRegistry(("http://registry",))))


def read(schema: Any, payload: bytes) -> dict[str, Any]:
    """The event that a record makes."""
    [record] = records(schema).read([(b"\0\0\0\0\1" + payload, None, "t/0/1", 1_764_518_400_000)])
    assert isinstance(record, Record), record
    [text] = record.texts
    event: dict[str, Any] = json.loads(text)
    return event


def a_record(**types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Row", "fields": [{"name": name, "type": type_} for name, type_ in types.items()]}


def logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


@pytest.mark.parametrize(
    ("type_", "payload", "expected"),
    [
        (logical("long", "timestamp-millis"), zigzag(1), "1970-01-01T00:00:00.001000Z"),
        (logical("long", "timestamp-millis"), zigzag(-1), "1969-12-31T23:59:59.999000Z"),
        (logical("long", "timestamp-millis"), zigzag(LONG_MAX), None),
        (logical("long", "timestamp-micros"), zigzag(1_764_518_400_000_001), "2025-11-30T16:00:00.000001Z"),
        (logical("long", "timestamp-nanos"), zigzag(1_764_518_400_000_001_999), "2025-11-30T16:00:00.000001Z"),
        (logical("long", "local-timestamp-millis"), zigzag(0), "1970-01-01T00:00:00"),
        (logical("int", "date"), zigzag(20_422), "2025-11-30T00:00:00Z"),
        (logical("int", "date"), zigzag(2**31 - 1), None),
        (logical("int", "time-millis"), zigzag(3_600_001), "01:00:00.001000"),
        (logical("long", "time-micros"), zigzag(-1), "23:59:59.999999"),
        (logical("bytes", "decimal", precision=6, scale=2), b"\x04\x04\xd2", 12.34),
        (logical("bytes", "decimal", precision=6, scale=2), b"\x02\xff", -0.01),
        (logical("bytes", "decimal", precision=60), zigzag(20) + b"\x7f" * 20, int("7f" * 20, 16)),
        (logical("bytes", "decimal", precision=6), zigzag(2_000) + b"\x7f" * 2_000, None),
        ({"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 3}, b"\x04\xd2",
         1.234),
        ({"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}, bytes(15) + b"\1",
         "00000000-0000-0000-0000-000000000001"),
        (logical("string", "uuid"), b"\x06abc", "abc"),
        (logical("string", "whatever"), b"\x06abc", "abc"),
        ("bytes", b"\x04\x00\xff", "AP8="),
        ("double", b"\0\0\0\0\0\0\xf8\x7f", None),
        (["null", "long"], b"\0", None),
        (["null", "long"], b"\2" + zigzag(9_007_199_254_740_993), 9_007_199_254_740_993),
        ({"type": "map", "values": "int"}, b"\2\2a\2\0", {"a": 1}),
    ],
    ids=lambda value: value.hex()[:24] if isinstance(value, bytes) else None,
)  # fmt: skip
def test_values_are_what_their_types_mean(type_: Any, payload: bytes, expected: Any) -> None:
    event = read(a_record(value=type_, last="string"), payload + b"\x04ok")
    assert event["properties"].get("value") == expected
    assert event["properties"]["last"] == "ok"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"userId": "u", "n": 1}, {"user_id": "u", "properties": {"n": 1}}),
        ({"user_id": 7, "event_name": "bought"}, {"user_id": 7, "event": "bought"}),
        ({"type": "identify", "user_id": "u", "traits": {"a": "b"}},
         {"type": "identify", "event": None, "user_id": "u", "traits": {"a": "b"}}),
        ({"type": "retail", "event": "", "user_id": "u"},
         {"user_id": "u", "properties": {"type": "retail", "event": ""}}),
        ({"source": "web", "context": "none", "timestamp": "soon", "message_id": "m"},
         {"message_id": "m", "properties": {"source": "web", "context": "none", "timestamp": "soon"}}),
        ({"timestamp": "2025-11-30T16:00:00Z"}, {"timestamp": "2025-11-30T16:00:00Z"}),
        ({"properties": {"a": "1"}, "a": "2", "b": "3"}, {"properties": {"a": "1", "b": "3"}}),
        ({"receivedAt": "2025-11-30T16:00:00Z"},
         {"received_at": "2025-11-30T16:00:00Z", "timestamp": "2025-11-30T16:00:00Z"}),
        ({"batch": ["a"], "schema": "x", "data": ["y"]},
         {"properties": {"batch": ["a"], "schema": "x", "data": ["y"]}}),
    ],
    ids=lambda value: "-".join(value)[:40],
)  # fmt: skip
def test_a_rows_fields_are_those_of_an_event_or_its_properties(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    kinds = {str: "string", int: "long", dict: {"type": "map", "values": "string"}}
    schema = a_record(**{
        name: {"type": "array", "items": "string"} if isinstance(value, list) else kinds[type(value)]
        for name, value in fields.items()
    })  # fmt: skip
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, fields)
    whole = {"type": "track", "event": "Row", "message_id": "t/0/1", "timestamp": 1_764_518_400_000} | expected
    assert read(schema, stream.getvalue()) == {key: value for key, value in whole.items() if value is not None}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (a_record(next=["null", "Row"]), "Row refers to itself"),
        (a_record(more={"type": "map", "values": {"type": "array", "items": "Row"}}), "Row refers to itself"),
        (a_record(nothing={"type": "array", "items": "null"}), "any number of values in no bytes"),
        (a_record(nothing={"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
         "any number of values in no bytes"),
        (a_record(a={"type": "record", "name": "A", "fields": []}, b="A"), "Row holds values in no bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_schemas_by_which_few_bytes_could_be_very_much_are_not_used(schema: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AvroSchema([schema])
    [found] = records(schema).read([(b"\0\0\0\0\1\0", None, "t/0/1", 0)])
    assert str(found) == "unusable_schema"


@pytest.mark.parametrize(
    "schema", [7, None, "nonsense", {"type": "record"}, {"fields": []}, [[]], {"type": []}], ids=str
)
def test_schemas_that_are_none_are_said_to_be(schema: Any) -> None:
    [found] = records(schema).read([(b"\0\0\0\0\1\0", None, "t/0/1", 0)])
    assert str(found) in ("unusable_schema", "no_event", "undecodable")


ANYTHING = AvroRecords(Schemas(OneSchema([
    a_record(
        user_id=["null", "string", "long"], amount=logical("bytes", "decimal", precision=20, scale=2),
        at=logical("long", "timestamp-millis"), day=logical("int", "date"),
        kind={"type": "enum", "name": "Kind", "symbols": ["A", "B"]},
        parts={"type": "array", "items": {"type": "record", "name": "Part", "fields": [
            {"name": "sku", "type": "string"}, {"name": "price", "type": ["null", "double"]},
        ]}},
        notes={"type": "map", "values": ["null", "bytes", "boolean"]},
    ),
    {"type": "record", "name": "Other", "fields": [{"name": "type", "type": "string"}, {"name": "batch", "type": [
        "null", {"type": "array", "items": {"type": "map", "values": "string"}},
    ]}]},
]), SchemaRegistry(("http://registry",))))  # fmt: skip


@given(st.binary(max_size=120), st.sampled_from([b"\0\0\0\0\1", b"\0\0\0\0\1\0", b"\0\0\0\0\1\2", b""]))
@example(b"\2\2\xff" + b"\xff" * 12, b"\0\0\0\0\1\0")
@example(b"\x0atrack\2\2\2\x08type\x0atrack\0\0", b"\0\0\0\0\1\2")
def test_whatever_the_bytes_are_they_are_events_or_have_a_reason(rest: bytes, start: bytes) -> None:
    [found] = ANYTHING.read([(start + rest, None, "t/0/1", 1_764_518_400_000)])
    if isinstance(found, Unreadable):
        reasons = ("empty", "not_avro", "undecodable", "invalid", "no_event")
        assert str(found) in reasons
    else:
        assert all(json.loads(text)["type"] for text in found.texts)


class Follower:
    """A registry's client that learns of schemas late."""

    def __init__(self) -> None:
        self.asked = 0
        self.known: set[int] = set()
        self.failure: Exception | None = None

    def get_schema(self, number: int) -> Schema:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        if number not in self.known:
            raise SchemaRegistryError(404, 40403, "Schema not found")
        return Schema(json.dumps(a_record(a="int")), "AVRO")


def test_a_schema_is_unknown_once_the_registry_has_said_so_for_a_while() -> None:
    client, now = Follower(), [0.0]
    schemas = Schemas(client, SchemaRegistry(("http://registry",)), lambda: now[0])
    with pytest.raises(RegistryUnavailable, match="does not know the schema 5; it is asked again"):
        schemas.learn([5])
    client.known.add(5)
    schemas.learn([5, 5])
    assert schemas.get(5).decode(b"\2", 0) == ("Row", {"a": 1})
    with pytest.raises(RegistryUnavailable):
        schemas.learn([6, 7])
    now[0] = 3.0
    schemas.learn([6, 7])
    asked = client.asked
    schemas.learn([5, 6, 7])
    assert client.asked == asked
    with pytest.raises(Unreadable, match="unknown_schema"):
        schemas.get(6)
    # and is asked for again later: somebody may have registered it by then
    now[0] = 100.0
    client.known.add(6)
    schemas.learn([6])
    assert schemas.get(6)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError("Connection refused"), "http://registry gives no answer: Connection refused"),
        (TimeoutError(), "gives no answer: TimeoutError"),
        (SchemaRegistryError(500, 50001, "Error in the backend"), "answers 500: Error in the backend"),
        (SchemaRegistryError(404, 404, "HTTP 404 Not Found"), "answers 404: HTTP 404 Not Found"),
        (SchemaRegistryError(403, 40301, "x"), r"refuses the credentials \(403\)"),
        (ValueError("no JSON" * 500), "gives no answer: no JSON.{0,200}$"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whatever_else_a_registry_does_is_waited_for(failure: Exception, message: str) -> None:
    client = Follower()
    client.failure = failure
    with pytest.raises(RegistryUnavailable, match=message):
        Schemas(client, SchemaRegistry(("http://registry",))).learn([1])


def test_dates_of_decoded_records_are_exact() -> None:
    at = dt.datetime(2025, 11, 30, 16, 0, 0, 123_000, dt.UTC)
    stream = io.BytesIO()
    schema = a_record(at=logical("long", "timestamp-millis"), cost=logical("bytes", "decimal", precision=30, scale=9))
    fastavro.schemaless_writer(stream, schema, {"at": at, "cost": Decimal("12345678901234567890.123456789")})
    [record] = records(schema).read([(b"\0\0\0\0\1" + stream.getvalue(), None, "t/0/1", 0)])
    assert isinstance(record, Record)
    assert b'"cost":12345678901234567890.123456789' in record.texts[0]
