"""Topics of Avro records: serialized by Confluent's own serializer, schemas from a registry, over mock brokers."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.brokers import Brokers, brokers
from tests.cluster.edge.serving import Site
from tests.cluster.intake.topics import (
    PARTITIONS,
    TOPIC,
    committed,
    counts,
    event,
    intake,
    letters,
    produce,
    reading,
    run,
    until,
)
from tests.registry import Registry, registry

MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
ORDER: dict[str, Any] = {
    "type": "record", "name": "OrderCompleted", "namespace": "com.shop", "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "order_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "amount", "type": MONEY},
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "due", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "STORE"]}},
        {"name": "coupon", "type": ["null", "string"], "default": None},
        {"name": "address", "type": {"type": "record", "name": "Address", "fields": [
            {"name": "city", "type": "string"}, {"name": "tags", "type": {"type": "array", "items": "string"}},
        ]}},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}  # fmt: skip
#: As RudderStack's events are, where its Kafka destination is told to write Avro.
RUDDERSTACK: dict[str, Any] = {
    "type": "record", "name": "Event", "fields": [
        {"name": "type", "type": "string"}, {"name": "event", "type": ["null", "string"], "default": None},
        {"name": "userId", "type": ["null", "string"]}, {"name": "anonymousId", "type": ["null", "string"]},
        {"name": "messageId", "type": "string"}, {"name": "channel", "type": "string"},
        {"name": "properties", "type": ["null", {"type": "map", "values": ["null", "string", "double"]}]},
    ],
}  # fmt: skip


@pytest.fixture
def kafka() -> Iterator[Brokers]:
    with brokers() as running:
        running.make_topic(TOPIC, PARTITIONS)
        yield running


@pytest.fixture
def schemas() -> Iterator[Registry]:
    with registry() as running:
        yield running


def avro(schemas: Registry, **more: Any) -> dict[str, Any]:
    """The keys of a source that reads Avro."""
    return {"format": "avro", "schema_registry": {"url": schemas.url, **more}}


def order(number: int) -> dict[str, Any]:
    return {
        "user_id": f"u{number}", "order_id": str(uuid.UUID(int=number)), "amount": Decimal("12.50"),
        "placed_at": dt.datetime(2025, 11, 30, 16, 0, 0, 123456, dt.UTC), "due": dt.date(2025, 12, 24),
        "channel": "WEB", "coupon": None, "address": {"city": "Łódź", "tags": ["a", "b"]},
        "timestamp": dt.datetime(2025, 11, 30, 16, 0, 0, 500_000, dt.UTC),
    }  # fmt: skip


def serialized(
    schemas: Registry, schema: Any, *values: Any, references: tuple[SchemaReference, ...] = (), subject: str = TOPIC
) -> list[bytes]:
    """What Confluent's serializer makes of values; it registers the schema."""
    client = SchemaRegistryClient({"url": schemas.url})
    text = Schema(json.dumps(schema), "AVRO", list(references)) if references else json.dumps(schema)
    serializer = AvroSerializer(client, text)
    context = SerializationContext(subject, MessageField.VALUE)
    try:
        return [serializer(value, context) for value in values]
    finally:
        client.close()


def raw(site: Site) -> list[dict[str, Any]]:
    return [json.loads(text) for text in site.evaluators[0].raw]


def test_plain_records_become_events_with_the_values_that_their_types_mean(
    kafka: Brokers, schemas: Registry, tmp_path: Path
) -> None:
    produce(kafka, *serialized(schemas, ORDER, *(order(number) for number in range(8))))

    async def test() -> None:
        async with reading(kafka, tmp_path, **avro(schemas)) as here:
            await until(lambda: counts(here).get("accepted") == 8)
            events = {event["user_id"]: event for event in raw(here)}
            assert sorted(events) == [f"u{number}" for number in range(8)]
            assert events["u2"] | {"message_id": ""} == {
                "type": "track", "event": "OrderCompleted", "user_id": "u2", "message_id": "",
                "timestamp": "2025-11-30T16:00:00.500000Z",
                "properties": {
                    "order_id": "00000000-0000-0000-0000-000000000002", "amount": 12.5,
                    "placed_at": "2025-11-30T16:00:00.123456Z", "due": "2025-12-24T00:00:00Z", "channel": "WEB",
                    "address": {"city": "Łódź", "tags": ["a", "b"]},
                },
            }  # fmt: skip
            assert events["u2"]["message_id"].startswith(f"{TOPIC}/2/")
            assert [asked for asked in schemas.asked if asked.startswith("GET /schemas")] == ["GET /schemas/ids/1"]
            await until(lambda: intake(here)["records"] == 8)
            assert letters(tmp_path) == []
        assert committed(kafka) == 8

    run(test)


def test_events_of_sdks_are_those_and_schemas_may_refer_to_others(
    kafka: Brokers, schemas: Registry, tmp_path: Path
) -> None:
    tracked = {
        "type": "track", "event": "bought", "userId": "u1", "anonymousId": None, "messageId": "m1", "channel": "web",
        "properties": {"price": 9.5, "sku": "x"},
    }  # fmt: skip
    client = SchemaRegistryClient({"url": schemas.url})
    address = ORDER["fields"][7]["type"] | {"namespace": "com.shop"}
    client.register_schema("address", Schema(json.dumps(address), "AVRO"))
    client.close()
    bill = {"type": "record", "name": "Bill", "namespace": "com.shop", "fields": [
        {"name": "user_id", "type": "long"}, {"name": "from", "type": "Address"}, {"name": "to", "type": "Address"},
    ]}  # fmt: skip
    place = {"city": "Rome", "tags": []}
    produce(kafka, *serialized(schemas, RUDDERSTACK, tracked))
    produce(kafka, *serialized(
        schemas, bill, {"user_id": 7, "from": place, "to": place}, subject="bills",
        references=(SchemaReference("com.shop.Address", "address", 1),),
    ))  # fmt: skip
    # several kinds of events in one topic: the schema is a union of their records
    refund = {"type": "record", "name": "Refund", "fields": [{"name": "userId", "type": "string"}]}
    produce(kafka, *serialized(
        schemas, [ORDER, "null", refund],
        ("Refund", {"userId": "u3"}), ("com.shop.OrderCompleted", order(4)), subject="union",
    ))  # fmt: skip

    async def test() -> None:
        async with reading(kafka, tmp_path, **avro(schemas)) as here:
            await until(lambda: intake(here)["records"] == 4)
            assert counts(here)["accepted"] == 4
            events = {event["event"]: event for event in raw(here)}
            assert events["bought"]["properties"] == {"price": 9.5, "sku": "x"}
            assert (events["bought"]["userId"], events["bought"]["messageId"]) == ("u1", "m1")
            assert (events["Bill"]["user_id"], events["Bill"]["properties"]) == (7, {"from": place, "to": place})
            assert events["Refund"]["user_id"] == "u3"
            assert events["OrderCompleted"]["user_id"] == "u4"

    run(test)


def test_a_schema_named_by_its_guid_in_a_header_is_found(kafka: Brokers, schemas: Registry, tmp_path: Path) -> None:
    client = SchemaRegistryClient({"url": schemas.url})
    settings = {"schema.id.serializer": header_schema_id_serializer}
    serializer = AvroSerializer(client, json.dumps(ORDER), conf=settings)
    headers: list[tuple[str, bytes]] = []
    value = serializer(order(1), SerializationContext(TOPIC, MessageField.VALUE, headers))
    client.close()
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(TOPIC, value, headers=headers)
    assert producer.flush(30) == 0

    async def test() -> None:
        async with reading(kafka, tmp_path, **avro(schemas)) as here:
            await until(lambda: counts(here).get("accepted") == 1)
            assert schemas.asked[-1].startswith("GET /schemas/guids/")

    run(test)


def test_poison_is_set_aside_with_its_reason_and_holds_nobody_up(
    kafka: Brokers, schemas: Registry, tmp_path: Path
) -> None:
    [good] = serialized(schemas, ORDER, order(1))
    [number] = serialized(schemas, "long", 7, subject="numbers")
    [node] = serialized(schemas, {"type": "record", "name": "Node", "fields": [
        {"name": "next", "type": ["null", "Node"]},
    ]}, {"next": None}, subject="nodes")  # fmt: skip
    client = SchemaRegistryClient({"url": schemas.url})
    other = client.register_schema("other", Schema('{"type": "object"}', "JSON"))
    client.close()
    poison = [
        (b'{"type":"track","userId":"u1"}', "not_avro"), (b"\0\0\0", "not_avro"), (b"\xff" * 9, "not_avro"),
        (b"\0\0\0\x03\xe7abc", "unknown_schema"), (b"\0\0\0\x03\xe8abc", "unknown_schema"),
        (b"\0\xff\xff\xff\xffabc", "not_avro"), (good[:-3], "undecodable"), (good + b"x", "undecodable"),
        (number, "no_event"), (b"\0" + other.to_bytes(4, "big") + b"{}", "not_avro"),
        (node[:5] + b"\x02" * 100_000, "unusable_schema"), (b"", "empty"),
    ]  # fmt: skip
    produce(kafka, *(value for value, _ in poison), good, partition=1)

    async def test() -> None:
        async with reading(kafka, tmp_path, **avro(schemas)) as here:
            await until(lambda: intake(here)["records"] == len(poison) + 1)
            assert here.evaluators[0].keys == ["u1"]
            assert sum(intake(here)["dead_letters"].values()) == len(poison)
            await until(lambda: intake(here)["problem"] == "")
        found = letters(tmp_path)
        assert [(row["offset"], row["reason"]) for row in found] == [
            (offset, reason) for offset, (_, reason) in enumerate(poison)
        ]
        assert base64.b64decode(found[6]["value_base64"]) == good[:-3]
        # an unknown schema is asked for until that is believed, and not again for each record
        assert 2 <= sum(asked == "GET /schemas/ids/999" for asked in schemas.asked) <= 8
        assert committed(kafka) == len(poison) + 1

    run(test)


def test_while_the_registry_is_away_records_wait(kafka: Brokers, tmp_path: Path) -> None:
    with registry() as schemas:
        values = serialized(schemas, ORDER, *(order(number) for number in range(20)))
        port = int(schemas.url.rpartition(":")[2])
    produce(kafka, *values)

    async def test() -> None:
        async with reading(kafka, tmp_path, **avro(schemas)) as here:
            await until(lambda: intake(here)["problem"] != "")
            assert intake(here)["state"] == "waiting"
            assert f"The schema registry {schemas.url} gives no answer" in intake(here)["problem"]
            with registry(port=port) as back:
                back.failing = 503
                await until(lambda: "answers 503" in intake(here)["problem"])
                assert (counts(here), letters(tmp_path)) == ({}, [])
                assert await asyncio.to_thread(committed, kafka) == 0
                back.register(TOPIC, ORDER)
                back.failing = None
                await until(lambda: counts(here).get("accepted") == 20)
                await until(lambda: intake(here)["problem"] == "" and intake(here)["records"] == 20)
            # what is known needs no registry
            produce(kafka, *values)
            await until(lambda: intake(here)["records"] == 40)
            assert (sorted(here.evaluators[0].keys)[:2], letters(tmp_path)) == (["u0", "u0"], [])

    run(test)


def test_the_registry_is_asked_with_credentials_that_nobody_sees(
    kafka: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with registry(("usher", "hunter22:secret")) as schemas:
        locked = schemas.credentials
        schemas.credentials = None
        produce(kafka, *serialized(schemas, ORDER, order(1)))
        schemas.credentials = locked

        async def wrong() -> None:
            auth = {"username": "usher", "password": "hunter23secret"}
            async with reading(kafka, tmp_path, **avro(schemas, basic_auth=auth)) as here:
                await until(lambda: intake(here)["problem"] != "")
                assert "refuses the credentials (401)" in intake(here)["problem"]
                assert "hunter23secret" not in intake(here)["problem"]
                assert "hunter23secret" not in repr(here.server.watcher.current.definitions)

        async def right() -> None:
            auth = {"username": "usher", "password": "hunter22:secret"}
            async with reading(kafka, tmp_path, **avro(schemas, basic_auth=auth)) as here:
                await until(lambda: counts(here).get("accepted") == 1)

        caplog.set_level("DEBUG")
        run(wrong)
        run(right)
    assert not any(secret in caplog.text for secret in ("hunter22", "hunter23"))
    assert letters(tmp_path) == []


def test_a_registry_is_trusted_by_the_authority_that_is_named(kafka: Brokers, tmp_path: Path) -> None:
    signed = certificate(tmp_path / "registry.pem")
    with registry() as schemas:
        produce(kafka, *serialized(schemas, ORDER, order(1)))
    with registry(certificate=signed) as schemas:
        schemas.register(TOPIC, ORDER)

        async def test() -> None:
            async with reading(kafka, tmp_path / "letters", **avro(schemas)) as here:
                await until(lambda: "certificate verify failed" in intake(here)["problem"])
            async with reading(kafka, tmp_path / "letters", **avro(schemas, ca=str(signed))) as here:
                await until(lambda: counts(here).get("accepted") == 1)
            async with reading(kafka, tmp_path / "letters", **avro(schemas, ca=str(tmp_path / "none.pem"))) as here:
                await until(lambda: "client of the schema registry cannot be made" in intake(here)["problem"])

        run(test)


def certificate(path: Path) -> Path:
    """A certificate of localhost, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*form) + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_json_source_takes_no_avro(kafka: Brokers, schemas: Registry, tmp_path: Path) -> None:
    produce(kafka, *serialized(schemas, ORDER, order(1)), event("u2"), partition=0)

    async def test() -> None:
        async with reading(kafka, tmp_path, format="json") as here:
            await until(lambda: intake(here)["records"] == 2)
            assert intake(here)["dead_letters"] == {"invalid_json": 1}

    run(test)
