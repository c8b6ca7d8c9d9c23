"""Sources of the kind kafka: what they need, what is refused, and that their properties are nobody's to see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.definitions.model import SchemaRegistry
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


def test_avro_has_a_registry_whose_password_is_nobodys_to_see() -> None:
    assert parse(format="json").registry is None
    read = parse(format="avro", schema_registry={
        "url": ["https://a.example.com/", "http://b:8081/api/ccompat/v7"], "ca": "ca.pem", "certificate": "c.pem",
        "key": "k.pem", "basic_auth": {"username": "usher", "password": "hunter2hunter2"},
    }).registry  # fmt: skip
    assert read == SchemaRegistry(
        ("https://a.example.com", "http://b:8081/api/ccompat/v7"), "usher", "hunter2hunter2", "ca.pem", "c.pem", "k.pem"
    )
    assert "hunter2hunter2" not in repr(read)
    source = {**SOURCE, "schema_registry": {"url": "http://a", "basic_auth": {"username": "u", "password": "p"}}}
    shown = hide_secrets("sources", source)
    assert shown["schema_registry"] == {"url": "http://a", "basic_auth": {"username": "u", "password": HIDDEN}}
    assert restore_secrets(shown, source) == source


def registry(**more: Any) -> dict[str, Any]:
    return {"format": "avro", "schema_registry": {"url": "http://registry:8081", **more}}


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ({"format": "protobuf"}, "sources[0].format", "unknown value"),
        ({"format": "avro"}, "sources[0]", "required key schema_registry is missing"),
        ({"schema_registry": {"url": "http://a"}}, "sources[0].schema_registry", "only records of Avro have schemas"),
        (registry(url=[]), "sources[0].schema_registry.url", "must not be empty"),
        (registry(url="registry:8081"), "sources[0].schema_registry.url[0]", "no address of a schema registry"),
        (registry(url="mock://x"), "sources[0].schema_registry.url[0]", "no address of a schema registry"),
        (registry(url="http://a:x"), "sources[0].schema_registry.url[0]", "no address of a schema registry"),
        (registry(url="http://a,http://b"), "sources[0].schema_registry.url[0]", "no address of a schema registry"),
        (registry(url="http://u:hunter2@a"), "sources[0].schema_registry.url[0]", "do not belong into an address"),
        (registry(key="k.pem"), "sources[0].schema_registry.key", "a key without its certificate"),
        (registry(basic_auth={"username": "u"}), "sources[0].schema_registry.basic_auth", "password is missing"),
        (registry(basic_auth={"username": "a:b", "password": "p"}), "sources[0].schema_registry.basic_auth.username",
         "a user name with a colon"),
        ({"kind": "http", "brokers": None, "topics": None, "format": "json"}, "sources[0].format",
         "format is not for a source of the kind http"),
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
    assert "hunter2" not in repr(caught.value.faults)


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
