"""One topic of one partition at the brokers: send records and wait until all replicas have them, read them in order.

The only file that imports the client library. Every failure of the network is `LogUnavailable`: what became of the
records is not known then, and whoever opens the log anew finds out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from cluster.errors import Damaged, InputError, LogUnavailable
from cluster.log.kafka.frames import RESTORE_TOPIC
from cluster.log.kafka.limits import ANSWER_MS, RECORD_BYTES_MAX
from cluster.log.kafka.place import KafkaPlace

_log = logging.getLogger("usher.log")

_PARTITION: Final = 0
_ANSWER_S: Final = ANSWER_MS / 1000
_POLL_S: Final = 0.05
#: How long a broker may keep a question for new records open: one a tenth of a second while nothing comes.
_WAIT_MS: Final = 100
#: Room in a record for what the client and the broker put around it.
_AROUND_BYTES: Final = 4_096


def _client() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        message = "A log in Kafka needs the package confluent-kafka."
        raise InputError(message, next_step="Install it: pip install 'usher-audiences[kafka]'.") from error
    return confluent_kafka


class Topic:
    """One partition. Not for several threads at once; make it with `open`."""

    def __init__(self, name: str, settings: dict[str, Any], replication: int) -> None:
        self.name = name
        self._kafka = _client()
        self._settings = {"client.id": "usher", "log_level": 3, "logger": _log, **settings}
        self._replication = replication
        self._producer: Any = None
        self._consumer: Any = None
        self._partition = self._kafka.TopicPartition(name, _PARTITION)

    @classmethod
    def open(cls, place: KafkaPlace, name: str) -> Topic:
        """Reach the topic, making it where there is none. Raises LogUnavailable, InputError."""
        topic = cls(name, place.client_settings(), place.replication)
        try:
            topic._connect()
            topic._make_where_missing()
        except BaseException:
            topic.close()
            raise
        return topic

    def _connect(self) -> None:
        try:
            self._producer = self._kafka.Producer({
                **self._settings,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.max.bytes": RECORD_BYTES_MAX + _AROUND_BYTES,
                "message.timeout.ms": ANSWER_MS,
                "partitioner": "consistent",
            })
            self._consumer = self._kafka.Consumer({
                "fetch.wait.max.ms": _WAIT_MS,
                **self._settings,
                "group.id": "usher",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_uncommitted",
                "check.crcs": True,
                "fetch.queue.backoff.ms": 1,
                "fetch.error.backoff.ms": 50,
            })
        except (self._kafka.KafkaException, ValueError, TypeError) as error:
            # The client quotes names of settings, never their values.
            message = f"The Kafka client does not take its settings: {_reason(error)}."
            raise InputError(message, next_step="Correct --log or the file that it names.") from error

    def _make_where_missing(self) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        found = self._asked("cannot be reached", lambda: self._consumer.list_topics(self.name, _ANSWER_S))
        known = found.topics.get(self.name)
        if known is not None and known.error is None:
            if len(known.partitions) != 1:
                message = f"The topic {self.name} has {len(known.partitions)} partitions; a log has one."
                raise InputError(message, next_step="Use another prefix, or delete the topic if nothing is in it.")
            return
        wanted = NewTopic(
            self.name, 1, self._replication, config={"cleanup.policy": "delete", "retention.ms": "-1",
                                                     "retention.bytes": "-1", "unclean.leader.election.enable": "false"}
        )  # fmt: skip
        [made] = AdminClient(self._settings).create_topics([wanted], request_timeout=_ANSWER_S).values()
        try:
            made.result()
        except self._kafka.KafkaException as error:
            code = error.args[0].code()
            errors = self._kafka.KafkaError
            if code == errors._UNSUPPORTED_FEATURE:
                return  # brokers that make topics when they are written to
            if code != errors.TOPIC_ALREADY_EXISTS:
                raise self._unavailable(error, "cannot be made") from error

    # --- writing -----------------------------------------------------------------------------------

    def send(self, records: Sequence[bytes]) -> int:
        """Append records and wait until all replicas have them; gives the greatest offset. Raises LogUnavailable.

        After an error some of them may be in the topic, or come into it later.
        """
        failed: list[Any] = []
        offsets: list[int] = []

        def on_delivery(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(error)
            else:
                offsets.append(message.offset())

        try:
            for record in records:
                self._producer.produce(self.name, record, partition=_PARTITION, on_delivery=on_delivery)
            until = time.monotonic() + 2 * _ANSWER_S
            while len(offsets) + len(failed) < len(records) and time.monotonic() < until:
                self._producer.poll(_POLL_S)
        except (self._kafka.KafkaException, BufferError) as error:
            raise self._unavailable(error, "does not take a record") from error
        if failed or len(offsets) < len(records):
            why = failed[0].str() if failed else "no answer"
            raise self._unavailable(None, f"did not take a record: {why}")
        return max(offsets)

    # --- reading -----------------------------------------------------------------------------------

    def bounds(self) -> tuple[int, int]:
        """Give the offsets of the first record that is kept and of the next one to be written."""
        found = self._asked(
            "does not say where it ends",
            lambda: self._consumer.get_watermark_offsets(self._partition, timeout=_ANSWER_S),
        )
        if found is None:
            raise self._unavailable(None, "does not say where it ends")
        return int(found[0]), int(found[1])

    def go_to(self, offset: int) -> None:
        """Read from here next."""
        place = self._kafka.TopicPartition(self.name, _PARTITION, offset)
        self._asked("cannot be read", lambda: self._consumer.assign([place]))

    def read_through(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """Give records with their offsets, from where reading is, until after this offset.

        Raises LogUnavailable where none comes for long, `Damaged` where the broker has lost them or they are changed.
        """
        until = time.monotonic() + _ANSWER_S
        while True:
            message = self._asked("cannot be read", lambda: self._consumer.poll(_POLL_S))
            if message is not None and message.error() is None:
                yield message.offset(), message.value() or b""
                if message.offset() >= offset:
                    return
                until = time.monotonic() + _ANSWER_S
                continue
            if message is not None:
                self._judge(message.error())
            if time.monotonic() > until:
                raise self._unavailable(None, f"gave no record for {_ANSWER_S:.0f} s")

    def _judge(self, error: Any) -> None:
        """Raise for what waiting does not mend."""
        codes = self._kafka.KafkaError
        if error.code() in (codes._AUTO_OFFSET_RESET, codes.OFFSET_OUT_OF_RANGE):
            message = f"{self.name} lacks records that were there: {error.str()}."
            raise Damaged(message, file=self.name, position="its beginning or end", next_step=RESTORE_TOPIC)
        if error.code() == codes._BAD_MSG:
            message = f"{self.name} holds records that do not match their checksum: {error.str()}."
            raise Damaged(message, file=self.name, position=error.str(), next_step=RESTORE_TOPIC)
        if error.fatal():
            raise self._unavailable(error, "cannot be read")

    # --- dropping ----------------------------------------------------------------------------------

    def delete_before(self, offset: int) -> None:
        """Let the brokers drop the records before an offset; where they do not, says so: nothing depends on it."""
        from confluent_kafka.admin import AdminClient

        place = self._kafka.TopicPartition(self.name, _PARTITION, offset)
        try:
            [done] = AdminClient(self._settings).delete_records([place], request_timeout=_ANSWER_S).values()
            done.result()
        except self._kafka.KafkaException as error:
            _log.warning("%s keeps what is before offset %d until the next try: %s", self.name, offset, _reason(error))

    def close(self) -> None:
        """Let go of the brokers; a second call does nothing. What is not sent yet never is."""
        producer, self._producer = self._producer, None
        consumer, self._consumer = self._consumer, None
        if producer is not None:
            producer.purge()
            producer.poll(0)
        if consumer is not None:
            with suppress(self._kafka.KafkaException, RuntimeError):
                consumer.close()

    def _asked(self, what: str, question: Any) -> Any:
        try:
            return question()
        except self._kafka.KafkaException as error:
            raise self._unavailable(error, what) from error

    def _unavailable(self, error: Any, what: str) -> LogUnavailable:
        why = "" if error is None else f": {_reason(error)}"
        return LogUnavailable(
            f"The topic {self.name} {what}{why}.",
            next_step="See to the brokers; nothing acknowledged is lost, and senders may try again.",
        )


def _reason(error: Any) -> str:
    first = error.args[0] if getattr(error, "args", None) else error
    return str(first.str() if hasattr(first, "str") else first).rstrip(".")
