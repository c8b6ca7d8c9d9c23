"""`sources[]` of the kind `kafka`: which keys it needs, what they may say, and which keys are not for it."""

from __future__ import annotations

import re
from typing import Final

from cluster.definitions.document import SourceDocument
from cluster.definitions.faults import Faults, Place, show
from cluster.definitions.model import KafkaTopics

_BROKER: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_OWN: Final = ("brokers", "topics", "group", "start", "config", "dead_letter_topic")
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
        dict(read.config), read.dead_letter_topic or "",
    )  # fmt: skip


def _not_fit(place: Place, index: int, value: str, message: str, allowed: str, faults: Faults) -> None:
    faults.add((*place, index), message, allowed=allowed, found=show(value))
