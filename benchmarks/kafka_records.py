"""How many records of a topic one core turns into events, in JSON and in Avro: `python -m benchmarks.kafka_records`.

Brokers, registry and evaluators are not part of it. What Avro gives is checked against what the same records give in
JSON, and the exit code is 1 if they differ. Needs the extra `avro`.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import fastavro

from benchmarks.machine import describe, in_words
from cluster.definitions.model import SchemaRegistry
from cluster.intake.avro import Arrived, AvroRecords
from cluster.intake.registry import Schemas
from cluster.wire.records import Record, Unreadable, read_record

#: Records of a cycle of an intake, and how often they are read: the best counts.
_RECORDS: Final = 1_000
_TURNS: Final = 30
_AT_MS: Final = 1_764_518_400_000
_PLACE: Final = "shop.events/0/123456"
_SCHEMA: Final[dict[str, Any]] = {
    "type": "record", "name": "OrderCompleted", "fields": [
        {"name": "user_id", "type": "string"}, {"name": "amount", "type": "double"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "STORE"]}},
        {"name": "coupon", "type": ["null", "string"]},
        {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Item", "fields": [
            {"name": "sku", "type": "string"}, {"name": "quantity", "type": "int"},
        ]}}},
    ],
}  # fmt: skip


class _Client:
    """Stands for a registry's client: there is one schema."""

    def get_schema(self, _: int) -> Any:
        from confluent_kafka.schema_registry import Schema

        return Schema(json.dumps(_SCHEMA), "AVRO")


def main() -> int:
    """Measure, print, and say whether both gave the same."""
    rows = [_row(number) for number in range(_RECORDS)]
    schema = fastavro.parse_schema(_SCHEMA)
    arrived: list[Arrived] = [(_avro(schema, row), None, _PLACE, _AT_MS) for row in rows]
    texts = [_json(row) for row in rows]
    avro = AvroRecords(Schemas(_Client(), SchemaRegistry(("http://registry",))))
    found, avro_s = _best(lambda: avro.read(arrived))
    expected, json_s = _best(lambda: [read_record(text, _PLACE, _AT_MS) for text in texts])
    print(in_words(describe()))
    print(f"Avro: {_RECORDS / avro_s:,.0f} records/s, JSON: {_RECORDS / json_s:,.0f} records/s")
    right = [_event(record) for record in found] == [_event(record) for record in expected]
    print("both gave the same events" if right else "Avro gave other events than JSON")
    return 0 if right else 1


def _row(number: int) -> dict[str, Any]:
    items = [{"sku": f"sku-{number % 97}", "quantity": 1 + number % 3}, {"sku": "gift", "quantity": 1}]
    return {
        "user_id": f"user-{number}", "amount": number / 4, "timestamp": _AT_MS + number, "channel": "WEB",
        "coupon": "spring" if number % 2 else None, "items": items,
    }  # fmt: skip


def _avro(schema: Any, row: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, row)
    return b"\0\0\0\0\1" + stream.getvalue()


def _json(row: dict[str, Any]) -> bytes:
    properties = {key: value for key, value in row.items() if key not in ("user_id", "timestamp") and value is not None}
    at = f"2025-11-30T16:00:00.{row['timestamp'] - _AT_MS:03}000Z"
    at = at.replace(".000000Z", "Z")
    event = {"type": "track", "event": "OrderCompleted", "user_id": row["user_id"], "timestamp": at}
    return json.dumps(event | {"properties": properties}).encode()


def _event(record: Record | Unreadable) -> Any:
    return json.loads(record.texts[0]) if isinstance(record, Record) else str(record)


def _best(work: Callable[[], list[Any]]) -> tuple[list[Any], float]:
    best_s, result = float("inf"), []
    for _ in range(_TURNS):
        begun_s = time.perf_counter()
        result = work()
        best_s = min(best_s, time.perf_counter() - begun_s)
    return result, best_s


if __name__ == "__main__":
    sys.exit(main())
