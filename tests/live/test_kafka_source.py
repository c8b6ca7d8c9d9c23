"""A topic as a source of a running Usher: applied, read by its edges, seen in status, ended."""

from __future__ import annotations

import json
from typing import Any

import confluent_kafka
import pytest

from tests.brokers import brokers
from tests.live.usher import Usher, eventually

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
