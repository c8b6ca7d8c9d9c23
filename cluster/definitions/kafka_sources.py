"""`sources[]` of the kind `kafka`: which keys it needs, what they may say, and which keys are not for it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from cluster.definitions.document import SchemaRegistryDocument, SourceDocument
from cluster.definitions.faults import Faults, Place, show
from cluster.definitions.model import KafkaTopics, SchemaRegistry

_BROKER: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_OWN: Final = ("brokers", "topics", "group", "start", "config", "dead_letter_topic", "format", "schema_registry")
_NOT_ITS: Final = ("write_key", "app_id")
#: What decides that nothing is lost or read by two at once: nobody may say otherwise.
_OURS: Final = frozenset({
    "bootstrap.servers", "metadata.broker.list", "group.id", "enable.auto.commit", "enable.auto.offset.store",
    "auto.commit.interval.ms", "auto.offset.reset", "enable.partition.eof", "isolation.level",
    "partition.assignment.strategy", "max.poll.interval.ms", "group.protocol",
})  # fmt: skip


def kafka_topics(read: SourceDocument, place: Place, faults: Faults) -> KafkaTopics | None:
    """Give what a source of this kind reads; None for another kind, and where there are faults, which are noted."""
    mine, others = (_OWN, _NOT_ITS) if read.kind == "kafka" else ((), _OWN)
    for key in others:
        if getattr(read, key):
            allowed = f"id, name, description, kind, {', '.join(mine or _NOT_ITS)}"
            faults.add((*place, key), f"{key} is not for a source of the kind {read.kind}", allowed=allowed)
    if read.kind != "kafka":
        return None
    for key in ("brokers", "topics"):
        if not getattr(read, key):
            faults.add(place, f"required key {key} is missing", allowed=", ".join(_OWN), found=None)
    for index, broker in enumerate(read.brokers):
        if not _BROKER.fullmatch(broker):
            _not_fit((*place, "brokers"), index, broker, "no broker", "HOST:PORT", faults)
    for index, topic in enumerate(read.topics):
        if not _TOPIC.fullmatch(topic):
            _not_fit((*place, "topics"), index, topic, "no name of a topic", _TOPIC.pattern, faults)
    if read.dead_letter_topic is not None and not _TOPIC.fullmatch(read.dead_letter_topic):
        faults.add((*place, "dead_letter_topic"), "no name of a topic", allowed=_TOPIC.pattern)
    if read.dead_letter_topic in read.topics:
        message = "dead letters would be read again as events"
        faults.add((*place, "dead_letter_topic"), message, allowed="a topic that is not read")
    for name in sorted(_OURS & set(read.config)):
        message = f"{name} is set by Usher, so that nothing is lost or doubled"
        faults.add((*place, "config", name), message, allowed="security.protocol, sasl.*, ssl.*, client.id, fetch.*, …")
    return KafkaTopics(
        tuple(read.brokers), tuple(read.topics), read.group or f"usher-{read.id}", read.start or "earliest",
        dict(read.config), read.dead_letter_topic or "", _registry(read, place, faults),
    )  # fmt: skip


def _registry(read: SourceDocument, place: Place, faults: Faults) -> SchemaRegistry | None:
    """Give where the schemas of Avro records are; None for JSON, and where there are faults."""
    given = read.schema_registry
    if read.format != "avro":
        if given is not None:
            faults.add((*place, "schema_registry"), "only records of Avro have schemas", allowed="with format: avro")
        return None
    if given is None:
        message = "required key schema_registry is missing"
        faults.add(place, message, allowed="schema_registry: {url: https://…}, with format: avro", found=None)
        return None
    place = (*place, "schema_registry")
    for index, url in enumerate(given.url):
        if why := _url_fault(url):
            # What was found is not shown: it may hold a password.
            faults.add((*place, "url", index), why, allowed="http[s]://HOST[:PORT][/PATH]", found=None)
    if given.key and not given.certificate:
        faults.add((*place, "key"), "a key without its certificate", allowed="certificate and key")
    if given.basic_auth and ":" in given.basic_auth.username:
        faults.add((*place, "basic_auth", "username"), "a user name with a colon", allowed="what is before the colon")
    return _settings(given)


def _settings(given: SchemaRegistryDocument) -> SchemaRegistry:
    auth = given.basic_auth
    return SchemaRegistry(
        tuple(url.rstrip("/") for url in given.url), auth.username if auth else "", auth.password if auth else "",
        given.ca or "", given.certificate or "", given.key or "",
    )  # fmt: skip


def _url_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "no address of a schema registry"
    if "@" in parts.netloc:
        return "credentials do not belong into an address: use basic_auth"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        return "no address of a schema registry"
    return "no address of a schema registry" if "," in url else ""


def _not_fit(place: Place, index: int, value: str, message: str, allowed: str, faults: Faults) -> None:
    faults.add((*place, index), message, allowed=allowed, found=show(value))
