"""`--log kafka://…`: what is allowed in it, and that no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import InputError
from cluster.log.kafka import topic
from cluster.log.kafka.log import KafkaLog
from cluster.log.kafka.place import parse_place, read_properties


def test_a_place_names_brokers_and_a_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USHER_KAFKA_CONFIG", raising=False)
    place = parse_place("kafka://b-1.example:9092,[::1]:9093/prod.usher?replication=3&security.protocol=SSL")
    assert (place.brokers, place.prefix, place.replication) == (("b-1.example:9092", "[::1]:9093"), "prod.usher", 3)
    assert place.topic("evaluator-0") == "prod.usher.evaluator-0"
    assert place.client_settings() == {
        "bootstrap.servers": "b-1.example:9092,[::1]:9093", "security.protocol": "SSL"
    }  # fmt: skip
    assert parse_place(place.uri) == place


@pytest.mark.parametrize(("uri", "found"), [
    ("kafka://h:1", "prefix"), ("kafka:///p", "broker"), ("kafka://h/p", "'h' for a broker"),
    ("kafka://h:1/a/b", "'a/b' for a prefix"), ("kafka://h:1/p?acks=1", "'acks'"), ("http://h:1/p", "'http'"),
    ("kafka://h:1/p?replication=0", "replication='0'"), ("kafka://h:1/p?x", "cannot be read"),
    ("kafka://h:1/" + "x" * 201, "prefix"), ("sqlite", "''"),
])  # fmt: skip
def test_what_is_wrong_in_it_is_named(uri: str, found: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_place(uri)
    assert found in raised.value.message
    assert raised.value.next_step.startswith("Allowed")


@pytest.mark.parametrize("uri", ["kafka://ann:S3CRET@h:1/p", "kafka://h:1/p?sasl.password=S3CRET"])
def test_a_secret_in_it_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_place(uri)
    assert "S3CRET" not in str(raised.value)
    assert "config=FILE" in raised.value.next_step


def test_secrets_are_read_from_the_file_that_it_or_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("# SASL\n\nsasl.username = ann\nsasl.password=S3=CRET\n")
    place = parse_place(f"kafka://h:1/p?config={file}")
    assert place.client_settings()["sasl.password"] == "S3=CRET"
    assert "S3=CRET" not in repr(place) + place.uri
    monkeypatch.setenv("USHER_KAFKA_CONFIG", str(file))
    from_environment = parse_place("kafka://h:1/p")
    monkeypatch.delenv("USHER_KAFKA_CONFIG")
    assert parse_place(from_environment.uri).client_settings()["sasl.username"] == "ann", "it holds in other processes"


@pytest.mark.parametrize(("text", "found"), [
    ("sasl.password S3CRET\n", "line 1"), ("a=b\nacks=S3CRET\n", "line 2: acks"), ("=S3CRET\n", "line 1"),
])  # fmt: skip
def test_a_file_that_is_wrong_is_named_without_its_values(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_properties(str(file))
    assert found in str(raised.value)
    assert "S3CRET" not in str(raised.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_properties(str(tmp_path / "missing"))


def test_settings_that_the_client_does_not_know_are_named_without_their_values(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("sasl.pasword=S3CRET\n")
    with pytest.raises(InputError, match=r"sasl\.pasword") as raised:
        KafkaLog.open(parse_place(f"kafka://127.0.0.1:1/p?config={file}"), "e", tmp_path / "c", owner_epoch=1)
    assert "S3CRET" not in str(raised.value)


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    with pytest.raises(InputError, match="confluent-kafka") as raised:
        topic.Topic.open(parse_place("kafka://127.0.0.1:1/p"), "t")
    assert "[kafka]" in raised.value.next_step
