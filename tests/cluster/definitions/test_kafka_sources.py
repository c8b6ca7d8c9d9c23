"""Sources of the kind kafka: what they need, what is refused, and that their properties are nobody's to see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import document_for_evaluation
from cluster.edge.documents import HIDDEN, hide_secrets, restore_secrets
from cluster.errors import DefinitionError

SOURCE = {"id": "orders", "kind": "kafka", "brokers": "kafka-1:9092", "topics": ["shop.events"]}


def parse(**more: Any) -> Any:
    source = {key: value for key, value in {**SOURCE, **more}.items() if value is not None}
    return parse_document({"version": 1, "sources": [source]}, "test", {}).sources["orders"].kafka


def test_the_least_that_is_needed() -> None:
    read = parse()
    assert (read.brokers, read.topics, read.group, read.start) == (
        ("kafka-1:9092",), ("shop.events",), "usher-orders", "earliest",
    )  # fmt: skip


def test_all_that_can_be_said() -> None:
    read = parse(
        brokers=["a:1", "[::1]:9092"], topics=["x", "y"], group="g", start="latest", dead_letter_topic="dead",
        config={"security.protocol": "sasl_ssl", "sasl.password": "hunter2hunter2"},
    )  # fmt: skip
    assert (read.brokers, read.topics, read.group, read.start) == (("a:1", "[::1]:9092"), ("x", "y"), "g", "latest")
    assert read.dead_letter_topic == "dead"
    assert read.config["sasl.password"] == "hunter2hunter2"
    assert "hunter2hunter2" not in repr(read)


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ({"brokers": None}, "sources[0]", "required key brokers is missing"),
        ({"topics": []}, "sources[0]", "required key topics is missing"),
        ({"brokers": ["kafka"]}, "sources[0].brokers[0]", "no broker"),
        ({"brokers": ["http://kafka:9092"]}, "sources[0].brokers[0]", "no broker"),
        ({"topics": ["^shop.*"]}, "sources[0].topics[0]", "no name of a topic"),
        ({"dead_letter_topic": "shop.events"}, "sources[0].dead_letter_topic", "would be read again as events"),
        ({"dead_letter_topic": "a b"}, "sources[0].dead_letter_topic", "no name of a topic"),
        ({"config": {"group.id": "x"}}, 'sources[0].config["group.id"]', "is set by Usher"),
        ({"config": {"enable.auto.commit": "true"}}, 'sources[0].config["enable.auto.commit"]', "is set by Usher"),
        ({"start": "now"}, "sources[0].start", "unknown value"),
        ({"write_key": "k"}, "sources[0].write_key", "write_key is not for a source of the kind kafka"),
        ({"kind": "http"}, "sources[0].brokers", "brokers is not for a source of the kind http"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(more: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(**more)
    fault = caught.value.faults[0]
    assert fault.path == path
    assert message in fault.message


def test_its_properties_are_hidden_and_put_back() -> None:
    source = {**SOURCE, "config": {"sasl.password": "p", "ssl.key.pem": "-----BEGIN", "client.id": "usher"}}
    shown = hide_secrets("sources", source)
    assert set(shown["config"].values()) == {HIDDEN}
    assert restore_secrets(shown, source) == source


def test_what_the_log_keeps_of_it_names_no_broker_and_can_be_read() -> None:
    definitions = parse_document({"version": 1, "sources": [SOURCE]}, "test", {})
    written = document_for_evaluation(definitions)
    assert "kafka-1" not in json.dumps(written)
    assert list(parse_document(written, "log", {}).sources) == ["orders"]
