"""Topics as sources, over librdkafka's mock brokers and a real edge: nothing lost, nothing twice, nothing silent."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import confluent_kafka
import pytest

from cluster.admission.outcomes import RowOutcomes
from cluster.definitions.parsing import parse_document
from cluster.intake.dead_letters import DeadLetter, DeadLetterFile
from cluster.intake.kafka import KafkaIntake
from cluster.wire.envelope import RawEvents
from destinations.registry import KINDS
from tests.brokers import ILLEGAL_GENERATION, OFFSET_COMMIT, STORAGE_ERROR, Brokers, brokers
from tests.cluster.edge.serving import DOCUMENT, FakeEvaluator, Site, site
from tests.cluster.intake.topics import (
    PARTITIONS,
    PATIENCE_S,
    TOPIC,
    committed,
    counts,
    document,
    event,
    intake,
    letters,
    produce,
    reading,
    run,
    until,
)


@pytest.fixture
def kafka() -> Iterator[Brokers]:
    with brokers() as running:
        running.make_topic(TOPIC, PARTITIONS)
        yield running


def test_records_of_every_shape_are_taken_and_then_committed(kafka: Brokers, tmp_path: Path) -> None:
    produce(
        kafka, event("u1", "m1"), {"batch": [event("u2"), event("u3")], "sentAt": "2025-11-30T16:00:00Z"},
        {"type": "track", "event": "bought", "user_id": "u4"},
        {"e": "se", "tv": "t", "se_ca": "shop", "se_ac": "bought", "uid": "u5"},
        {"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
         "data": [{"e": "se", "se_ca": "shop", "se_ac": "bought", "uid": "u6", "eid": "e6"}]},
    )  # fmt: skip

    async def test() -> None:
        async with reading(kafka, tmp_path) as here:
            await until(lambda: counts(here).get("accepted") == 6)
            await until(lambda: intake(here)["records"] == 5)
            hits = here.evaluators[0].hits
            plan = here.server.watcher.current.decoder.plan
            assert {plan.sources[hit["source"]] for hit in hits} == {"orders"}
            ids = {hit["key"]: hit["message_id"] for hit in hits}
            assert (ids["u1"], ids["u6"]) == ("m1", "e6")
            assert ids["u2"].startswith(f"{TOPIC}/1/")
            assert ids["u3"] == ids["u2"] + "/1"
            assert len(set(ids.values())) == 6
            assert not any(hit["ts_relative"] for hit in hits)
            assert letters(tmp_path) == []
            await until(lambda: (intake(here)["partitions"], intake(here)["lag"]) == (PARTITIONS, 0))
            assert intake(here)["problem"] == ""
            labels = f'edge="{here.server.name}",partition="0",source="orders",topic="{TOPIC}"'
            assert f"usher_source_lag_records{{{labels}}} 0.0" in here.server.metrics.exposition().decode()
        assert committed(kafka) == 5

    run(test)


def test_partitions_without_records_are_counted_and_what_waits_is_its_lag(kafka: Brokers, tmp_path: Path) -> None:
    async def test() -> None:
        async with reading(kafka, tmp_path) as here:
            await until(lambda: intake(here)["partitions"] == PARTITIONS)
            assert intake(here)["lag"] == 0
            produce(kafka, event("u1"), partition=2)
            await until(lambda: intake(here)["records"] == 1)
            await until(lambda: intake(here)["lag"] == 0)
            assert intake(here)["partitions"] == PARTITIONS

    run(test)


def test_what_is_not_durable_is_not_committed_and_comes_again(kafka: Brokers, tmp_path: Path) -> None:
    produce(kafka, *(event(f"u{number}") for number in range(40)))
    full = {"error": "overloaded", "message": "full", "retry_after_ms": 10}

    async def test() -> None:
        async with reading(kafka, tmp_path) as here:
            here.evaluators[0].refusals = [full] * 10_000
            await until(lambda: len(here.evaluators[0].refusals) < 9_998)
            assert committed(kafka) == 0
            assert intake(here)["records"] == 0
            assert "full" in intake(here)["problem"]
            here.evaluators[0].refusals = []
            await until(lambda: intake(here)["records"] == 40)
            assert counts(here)["accepted"] == 40
            await until(lambda: intake(here)["problem"] == "")
            assert letters(tmp_path) == []
        assert committed(kafka) == 40

    run(test)


def test_a_reader_that_stops_before_it_could_commit_leaves_all_to_the_next(kafka: Brokers, tmp_path: Path) -> None:
    produce(kafka, *(event(f"u{number}") for number in range(20)))

    async def test() -> None:
        async with reading(kafka, tmp_path) as first:
            first.evaluators[0].refusals = [{"error": "overloaded", "message": "full", "retry_after_ms": 10}] * 10_000
            await until(lambda: len(first.evaluators[0].refusals) < 9_999)
        assert committed(kafka) == 0
        async with reading(kafka, tmp_path) as second:
            await until(lambda: counts(second).get("accepted") == 20)

    run(test)


def test_what_was_taken_but_could_not_be_committed_counts_once(kafka: Brokers, tmp_path: Path) -> None:
    shared = FakeEvaluator(0)
    # In one partition: a refused commit has the group join anew, and a first read of some partitions would be
    # all that is read until refusals run out.
    produce(kafka, *(event(f"u{number}") for number in range(20)), partition=0)

    async def test() -> None:
        async with reading(kafka, tmp_path) as first:
            share(first, shared)
            kafka.fail(OFFSET_COMMIT, *[ILLEGAL_GENERATION] * 50)
            await until(lambda: counts(first).get("accepted") == 20)
            await until(lambda: "could not be committed" in intake(first)["problem"])
        assert committed(kafka) == 0
        kafka.mend(OFFSET_COMMIT)
        async with reading(kafka, tmp_path) as second:
            share(second, shared)
            await until(lambda: intake(second)["records"] >= 20)
            assert set(counts(second)) == {"duplicate"}
        assert committed(kafka) == 20

    run(test)


def test_a_commit_that_failed_is_made_up_for_when_nothing_more_comes(kafka: Brokers, tmp_path: Path) -> None:
    produce(kafka, event("u1"))

    async def test() -> None:
        async with reading(kafka, tmp_path) as here:
            kafka.fail(OFFSET_COMMIT, STORAGE_ERROR, STORAGE_ERROR)
            await until(lambda: counts(here).get("accepted") == 1)
            await until(lambda: intake(here)["lag"] == 0 and intake(here)["problem"] == "" and intake(here)["records"])
            async with asyncio.timeout(30):
                while await asyncio.to_thread(committed, kafka) < 1:
                    await asyncio.sleep(0.1)

    run(test)


def test_readers_that_come_and_go_lose_and_double_nothing(kafka: Brokers, tmp_path: Path) -> None:
    """Two edges share one evaluator, as in a cluster; one of them comes, both read, the first goes."""
    shared = FakeEvaluator(0)

    async def test() -> None:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(reading(kafka, tmp_path))
            share(first, shared)
            produce(kafka, *(event(f"a{number}") for number in range(60)))
            await until(lambda: len(shared.seen) >= 60)
            async with reading(kafka, tmp_path) as second:
                share(second, shared)
                produce(kafka, *(event(f"b{number}") for number in range(60)))
                await until(lambda: intake(second)["partitions"] > 0 and intake(first)["partitions"] < PARTITIONS)
                produce(kafka, *(event(f"c{number}") for number in range(60)))
                await until(lambda: len(shared.seen) >= 180)
                await stack.aclose()
                produce(kafka, *(event(f"d{number}") for number in range(60)))
                await until(lambda: len(shared.seen) >= 240)
                await until(lambda: intake(second)["lag"] == 0 and intake(second)["partitions"] == PARTITIONS)
        users = [key for key, _ in shared.seen]
        assert sorted(users) == sorted(f"{name}{number}" for name in "abcd" for number in range(60))
        assert committed(kafka) == 240

    run(test)


def share(site: Site, evaluator: FakeEvaluator) -> None:
    """Let a site's evaluator be another's, too."""
    site.evaluators[0].seen = evaluator.seen


def test_poison_goes_to_a_file_with_its_place_and_holds_nobody_up(kafka: Brokers, tmp_path: Path) -> None:
    poison = [b"no json", b"", b"[1]", b'{"a":1}', b'{"batch":[7,{"type":"track","event":"bought","userId":"u2"}]}']
    produce(kafka, *poison, event("u1"), partition=0)

    async def test() -> None:
        async with reading(kafka, tmp_path) as here:
            await until(lambda: intake(here)["records"] == 6)
            assert sorted(here.evaluators[0].keys) == ["u1", "u2"]
            assert intake(here)["dead_letters"] == {"invalid_json": 1, "empty": 1, "no_event": 2, "invalid": 1}
            assert counts(here) == {"accepted": 2, "invalid_json": 1, "empty": 1, "no_event": 2, "invalid": 1}
        found = letters(tmp_path)
        assert [(row["offset"], row["reason"]) for row in found] == [
            (0, "invalid_json"), (1, "empty"), (2, "no_event"), (3, "no_event"), (4, "invalid"),
        ]  # fmt: skip
        assert base64.b64decode(found[0]["value_base64"]) == b"no json"
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.ndjson")} == {0o600}
        assert committed(kafka) == 6

    run(test)


def test_poison_goes_to_a_topic_where_one_is_named(kafka: Brokers, tmp_path: Path) -> None:
    kafka.make_topic("shop.dead", 1)
    produce(kafka, b"no json", event("u1"), partition=2)

    async def test() -> None:
        async with reading(kafka, tmp_path, dead_letter_topic="shop.dead") as here:
            await until(lambda: intake(here)["records"] == 2)
        assert letters(tmp_path) == []

    run(test)
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": "look", "auto.offset.reset": "earliest",
    })  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition("shop.dead", 0, 0)])
    (message,) = consumer.consume(1, PATIENCE_S)
    consumer.close()
    assert message.value() == b"no json"
    assert dict(message.headers())["reason"] == b"invalid_json"
    assert dict(message.headers())["partition"] == b"2"


def test_brokers_that_go_away_and_come_back_are_read_on(kafka: Brokers, tmp_path: Path) -> None:
    async def test() -> None:
        async with reading(kafka, tmp_path) as here:
            produce(kafka, event("u1"))
            await until(lambda: counts(here).get("accepted") == 1)
            kafka.stop()
            await until(lambda: intake(here)["problem"] != "")
            kafka.go_on()
            produce(kafka, event("u2"))
            await until(lambda: counts(here).get("accepted") == 2)
            await until(lambda: intake(here)["problem"] == "")

    run(test)


def test_properties_that_are_not_understood_are_said_without_their_values(kafka: Brokers, tmp_path: Path) -> None:
    async def test() -> None:
        async with reading(kafka, tmp_path, config={"sasl.pasword": "hunter22secret"}) as here:
            await until(lambda: intake(here)["problem"] != "")
            assert "sasl.pasword" in intake(here)["problem"]
            assert "hunter22secret" not in intake(here)["problem"]
            assert "hunter22secret" not in repr(here.server.watcher.current.definitions)

    run(test)


def test_new_definitions_begin_and_end_reading(kafka: Brokers, tmp_path: Path) -> None:
    async def test() -> None:
        async with site(document=copy.deepcopy(DOCUMENT), dead_letters=tmp_path) as here:
            assert here.server._intakes is not None
            assert here.server._intakes.status() == []
            produce(kafka, event("u1"))
            await here.controller.apply(document(kafka), "test", "replace")
            await until(lambda: counts(here).get("accepted") == 1)
            await here.controller.apply(copy.deepcopy(DOCUMENT), "test", "replace")
            await until(lambda: here.server._intakes.status() == [])  # type: ignore[union-attr]

    run(test)


def test_a_record_that_breaks_what_takes_it_holds_up_nobody(kafka: Brokers, tmp_path: Path) -> None:
    produce(kafka, *(event(f"u{number}") for number in range(5)), event("boom"), event("last"), partition=1)
    source = parse_document(document(kafka), "test", KINDS).sources["orders"]
    taken: list[bytes] = []

    async def submit(events: RawEvents) -> RowOutcomes:
        if any(b"boom" in text for text in events.texts):
            message = "cannot be decoded"
            raise ValueError(message)
        taken.extend(events.texts)
        return RowOutcomes(len(events), 0, [])

    async def test() -> None:
        outcomes: Counter[str] = Counter()
        file = DeadLetterFile(tmp_path / "orders.ndjson")
        reader = KafkaIntake(source, submit, file, lambda outcome, events: outcomes.update({outcome: events}), int)
        reader.start()
        await until(lambda: reader.records == 7)
        await reader.stop()
        assert outcomes == {"accepted": 6, "duplicate": 0, "error": 1}
        assert [json.loads(text)["userId"] for text in taken] == ["u0", "u1", "u2", "u3", "u4", "last"]
        assert [(row["offset"], row["reason"]) for row in letters(tmp_path)] == [(5, "error: ValueError")]

    run(test)


def test_a_dead_letter_file_that_has_grown_makes_room_once(tmp_path: Path) -> None:
    file = DeadLetterFile(tmp_path / "orders.ndjson", bytes_max=500)
    for offset in range(12):
        file.keep([DeadLetter(TOPIC, 0, offset, "empty", 1, b"k", b"v")])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000
    assert len(list(tmp_path.iterdir())) == 2
    assert letters(tmp_path)[-1]["offset"] == 11
