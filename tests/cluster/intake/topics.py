"""An edge that reads a topic of mock brokers, and how its tests wait and look."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import confluent_kafka

from tests.brokers import Brokers
from tests.cluster.edge.serving import DOCUMENT, Site, site

TOPIC = "shop.events"
PATIENCE_S = 90
PARTITIONS = 4


def document(kafka: Brokers, **more: Any) -> dict[str, Any]:
    """Definitions with one source of the kind kafka; short sessions, so that tests need not wait for long ones."""
    own = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500", "reconnect.backoff.max.ms": "500"}
    source = {"id": "orders", "kind": "kafka", "brokers": kafka.bootstrap.split(","), "topics": TOPIC, "config": own}
    result = copy.deepcopy(DOCUMENT)
    result["sources"].append({**source, **more})
    return result


@asynccontextmanager
async def reading(kafka: Brokers, folder: Path, **more: Any) -> AsyncIterator[Site]:
    async with site(document=document(kafka, **more), dead_letters=folder) as here:
        yield here


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(within())


async def until(what: Callable[[], bool]) -> None:
    while not what():
        await asyncio.sleep(0.02)


def event(user: str, message_id: str | None = None, **more: Any) -> dict[str, Any]:
    named = {"messageId": message_id} if message_id else {}
    return {"type": "track", "event": "bought", "userId": user, **named, **more}


def produce(kafka: Brokers, *values: Any, topic: str = TOPIC, partition: int | None = None) -> None:
    """Write records (objects as JSON), dealt over the partitions unless one is named."""
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
    for number, value in enumerate(values):
        raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        producer.produce(topic, raw, partition=number % PARTITIONS if partition is None else partition)
    assert producer.flush(30) == 0


def committed(kafka: Brokers, group: str = "usher-orders") -> int:
    """How many records the group is done with, over all partitions."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    partitions = [confluent_kafka.TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    try:
        return sum(max(0, found.offset) for found in consumer.committed(partitions, timeout=20))
    finally:
        consumer.close()


def counts(site: Site) -> dict[str, int]:
    return site.server.metrics.events


def intake(site: Site) -> dict[str, Any]:
    assert site.server._intakes is not None
    (status,) = site.server._intakes.status()
    return status


def letters(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.ndjson")) for line in path.read_text().splitlines()]
