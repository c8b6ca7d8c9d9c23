"""The broker's client: confluent-kafka, imported where it is used, since it is an extra. Everything here blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cluster.definitions.model import KafkaTopics
from cluster.errors import InputError
from cluster.intake.dead_letters import DeadLetter

_log = logging.getLogger("usher.intake")

#: How much librdkafka fetches ahead of what is read, in KiB.
_AHEAD_KIB: Final = 32 * 1024
_FLUSH_S: Final = 30.0
_ASK_S: Final = 5.0

Place = tuple[str, int]


class Topics:
    """A member of a source's consumer group. `fault` has the client's newest error until something is read again.

    `on_change` is called, within `read`, when partitions come or go: what was read and not committed is somebody
    else's then, or will be read again.
    """

    def __init__(self, topics: KafkaTopics, on_change: Callable[[], None]) -> None:
        kafka = _kafka()
        self.fault = ""
        #: Records that were deleted before they were read.
        self.missed = 0
        self._kafka = kafka
        self._on_change = on_change
        self._from_the_start = topics.start == "earliest"
        self._assigned: list[Place] = []
        #: By partition, the offset of the next record to be read.
        self._next: dict[Place, int] = {}
        #: What is done and not committed.
        self._owed: dict[Place, int] = {}
        try:
            self._consumer = kafka.Consumer({
                **topics.config, "bootstrap.servers": ",".join(topics.brokers), "group.id": topics.group,
                "enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": topics.start,
                "isolation.level": "read_committed", "queued.max.messages.kbytes": _AHEAD_KIB,
                "error_cb": self._failed,
            }, logger=_log)  # fmt: skip
        except (kafka.KafkaException, ValueError, TypeError) as error:
            raise _not_understood(error, topics) from None
        self._consumer.subscribe(list(topics.topics), on_assign=self._gained, on_revoke=self._lost, on_lost=self._lost)

    def read(self, count: int, wait_s: float) -> list[Any]:
        """Give the next messages, as many as there are within the time."""
        messages = []
        for message in self._consumer.consume(count, wait_s):
            if error := message.error():
                self.fault = str(error.str())
            else:
                messages.append(message)
        if messages:
            self.fault = ""
        return messages

    def stay(self) -> None:
        """Tell the group that this member lives, without reading on; returns at once."""
        self._consumer.pause(self._consumer.assignment())
        message = self._consumer.poll(0)
        assert message is None or message.error(), "a paused partition gave a record"

    def go_on(self) -> None:
        """Read on after `stay`."""
        self._consumer.resume(self._consumer.assignment())

    def commit(self, ends: Mapping[Place, int]) -> None:
        """Note how far each partition is done, and what could not be noted before.

        What is owed when partitions change hands is dropped: they are read again from what was committed.
        """
        self._owed.update(ends)
        if not self._owed:
            return
        offsets = [self._kafka.TopicPartition(*place, offset) for place, offset in self._owed.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._kafka.KafkaException as error:
            self.fault = f"offsets could not be committed: {error.args[0].str()}"
            return
        if self.fault.startswith("offsets"):
            self.fault = ""
        self._next.update(self._owed)
        self._owed = {}

    def lags(self) -> dict[Place, int]:
        """Give how many records of each partition of this member are still to be read, as far as the client knows."""
        found = {}
        for place in self._assigned:
            low, high = self._consumer.get_watermark_offsets(self._kafka.TopicPartition(*place), cached=True)
            begun = self._next.get(place, low if self._from_the_start else high)
            found[place] = max(0, high - max(0, begun)) if high >= 0 else 0
        return found

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _failed(self, error: Any) -> None:
        self.fault = str(error.str())

    def _gained(self, consumer: Any, partitions: list[Any]) -> None:
        self._assigned = [(partition.topic, partition.partition) for partition in partitions]
        self._next, self._owed = {}, {}
        try:
            for partition in consumer.committed(partitions, timeout=_ASK_S):
                self._begin(consumer, partition)
        except self._kafka.KafkaException as error:
            self.fault = str(error.args[0].str())
        self._on_change()

    def _begin(self, consumer: Any, partition: Any) -> None:
        if partition.offset < 0:
            return
        self._next[partition.topic, partition.partition] = partition.offset
        low, _ = consumer.get_watermark_offsets(partition, timeout=_ASK_S)
        if low > partition.offset:
            self.missed += low - partition.offset

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        self._assigned, self._next, self._owed = [], {}, {}
        self._on_change()


class DeadLetterTopic:
    """Writes dead letters to a topic: key and value as they were, where and why in headers."""

    def __init__(self, topics: KafkaTopics) -> None:
        self._kafka = _kafka()
        self._topic = topics.dead_letter_topic
        settings = {
            **topics.config, "bootstrap.servers": ",".join(topics.brokers), "acks": "all", "enable.idempotence": True,
        }  # fmt: skip
        try:
            self._producer = self._kafka.Producer(settings, logger=_log)
        except (self._kafka.KafkaException, ValueError, TypeError) as error:
            raise _not_understood(error, topics) from None

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Return once the brokers have them all; raises OSError otherwise."""
        failures: list[str] = []

        def told(error: Any, _: Any) -> None:
            if error is not None:
                failures.append(str(error.str()))

        for letter in letters:
            headers = {
                "topic": letter.topic, "partition": str(letter.partition), "offset": str(letter.offset),
                "reason": letter.reason,
            }  # fmt: skip
            self._producer.produce(self._topic, letter.value, letter.key, headers=headers, on_delivery=told)
        left = self._producer.flush(_FLUSH_S)
        if left or failures:
            message = f"{self._topic} did not take {left or len(failures)} dead letters: {''.join(failures[:1])}"
            raise OSError(message)


def _kafka() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        message = "Sources of the kind kafka need a package that is not installed."
        raise InputError(message, next_step="Install it on every node: pip install 'usher-audiences[kafka]'") from error
    return confluent_kafka


def _not_understood(error: Exception, topics: KafkaTopics) -> InputError:
    """Say which property the client refuses, without any value: one may be a secret."""
    said = str(error.args[0].str() if error.args and hasattr(error.args[0], "str") else error)
    for value in sorted(topics.config.values(), key=len, reverse=True):
        said = said.replace(value, "***")
    return InputError(f"The client's properties are not understood: {said}", next_step="Mend `config` of the source.")
