"""A topic as a source of a running Usher: applied, read by its edges, seen in status, ended."""

from __future__ import annotations

import json
import time
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.brokers import brokers
from tests.live.usher import Usher, eventually
from tests.registry import registry

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]


def apply(usher: Usher, path: str, **body: Any) -> None:
    code, answer = usher.request("PUT" if body else "DELETE", path, body or None)
    assert code in (200, 201, 204), answer


def test_orders_of_a_topic_make_members(usher: Usher) -> None:
    with brokers() as kafka:
        kafka.make_topic("orders", 2)
        producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
        for number in range(20):
            order = {"type": "track", "event": "order_completed", "userId": f"rich-{number}", "properties": {}}
            producer.produce("orders", json.dumps(order).encode(), partition=number % 2)
        producer.produce("orders", b"no json", partition=0)
        assert producer.flush(30) == 0
        source = {"kind": "kafka", "brokers": kafka.bootstrap.split(","), "topics": ["orders"]}
        apply(usher, "/api/v1/sources/orders", **source)
        try:
            for number in range(20):
                eventually(f"order {number} is read", lambda n=number: usher.is_member("rich_buyers", f"rich-{n}"))
            row = eventually("all is committed", lambda: next(
                (row for row in usher.status()["sources"] if row["records"] == 21 and row["lag"] == 0), None
            ))  # fmt: skip
            assert (row["state"], row["dead_letters"]) == ("reading", {"invalid_json": 1})
            [letters] = (usher.data_dir / "dead-letters").glob("orders.*.ndjson")
            assert json.loads(letters.read_text())["reason"] == "invalid_json"
        finally:
            apply(usher, "/api/v1/sources/orders")
        eventually("nobody reads it any more", lambda: usher.status()["sources"] == [])


def test_orders_in_avro_make_members_by_the_schemas_of_a_registry(usher: Usher) -> None:
    secret = "hunter2hunter2"
    schema = {"type": "record", "name": "order_completed", "namespace": "com.shop", "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ]}  # fmt: skip
    with brokers() as kafka, registry(("usher", secret)) as schemas:
        kafka.make_topic("bills", 1)
        client = SchemaRegistryClient({"url": schemas.url, "basic.auth.user.info": f"usher:{secret}"})
        serialize = AvroSerializer(client, json.dumps(schema))
        producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
        for number in range(20, 30):
            order = {"user_id": f"rich-{number}", "timestamp": int(time.time() * 1000)}
            producer.produce("bills", serialize(order, SerializationContext("bills", MessageField.VALUE)))
        assert producer.flush(30) == 0
        client.close()
        auth = {"username": "usher", "password": secret}
        source = {"kind": "kafka", "brokers": kafka.bootstrap.split(","), "topics": ["bills"], "format": "avro"}
        apply(usher, "/api/v1/sources/bills", **source, schema_registry={"url": schemas.url, "basic_auth": auth})
        try:
            for number in range(20, 30):
                eventually(f"order {number} is read", lambda n=number: usher.is_member("rich_buyers", f"rich-{n}"))
            code, shown = usher.request("GET", "/api/v1/sources/bills")
            assert (code, shown["schema_registry"]["basic_auth"]["username"]) == (200, "usher")
            assert secret not in json.dumps([shown, usher.status(), usher.request("GET", "/api/v1/sources")[1]])
            assert not any(secret in line for line in usher.lines)
        finally:
            apply(usher, "/api/v1/sources/bills")
        eventually("nobody reads it any more", lambda: usher.status()["sources"] == [])
