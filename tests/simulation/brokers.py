"""Kafka's brokers, as the log sees them: topics that survive everything, and a way to them that does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, Final, Literal

from cluster.errors import Damaged, LogUnavailable
from cluster.log.contract import Log
from cluster.log.kafka.log import KafkaLog
from cluster.log.kafka.place import parse_place
from cluster.log.kafka.taking import Taker
from tests.simulation.processes import Process
from tests.simulation.storage import DataFolder
from tests.simulation.virtual_time import VirtualLoop

#: What becomes of records meanwhile: none arrives; they arrive some time later, when their sender has given up; they
#: arrive, and their sender hears nothing; they arrive twice.
Trouble = Literal["away", "late", "lost_answer", "twice"]
_LATE_S: Final = 8.0
_PLACE: Final = parse_place("kafka://broker:9092/usher")


class Brokers:
    """All topics, and the trouble there is on the way to them."""

    def __init__(self, loop: VirtualLoop, stream: Random) -> None:
        self._loop = loop
        self._stream = stream
        #: Records by offset from the first one that is kept.
        self._topics: dict[str, list[bytes]] = {}
        self._first: dict[str, int] = {}
        self.trouble: Trouble | None = None

    def topic(self, name: str, process: Process) -> SimTopic:
        """Give a process's way to a topic, which is made where there is none."""
        self._topics.setdefault(name, [])
        return SimTopic(self, name, process)

    def append(self, name: str, record: bytes) -> int:
        """Put a record at the end of a topic; gives its offset."""
        self._topics[name].append(record)
        return self.bounds(name)[1] - 1

    def append_late(self, name: str, records: Sequence[bytes]) -> None:
        """Put records at the end of a topic some time later: who sent them may be long dead."""
        at_s = self._stream.uniform(0.0, _LATE_S)
        for record in records:
            self._loop.outside(at_s, self.append, name, record)

    def some(self, count: int) -> int:
        """Draw how many of so many."""
        return self._stream.randint(0, count)

    def bounds(self, name: str) -> tuple[int, int]:
        """Give the offsets of the first record kept and of the next one."""
        first = self._first.get(name, 0)
        return first, first + len(self._topics[name])

    def record(self, name: str, offset: int) -> bytes | None:
        """Give a record; None where it is not there."""
        first, end = self.bounds(name)
        return self._topics[name][offset - first] if first <= offset < end else None

    def drop_before(self, name: str, offset: int) -> None:
        """Forget the records before an offset."""
        first, _ = self.bounds(name)
        if offset > first:
            del self._topics[name][: offset - first]
            self._first[name] = offset


class SimTopic:
    """What `cluster.log.kafka.topic.Topic` is, over these brokers."""

    def __init__(self, brokers: Brokers, name: str, process: Process) -> None:
        self.name = name
        self._brokers = brokers
        self._process = process
        self._next = 0

    def send(self, records: Sequence[bytes]) -> int:
        """See `Topic.send`. Between two records, and before the answer, the process may end."""
        brokers, last = self._brokers, -1
        if brokers.trouble in ("away", "late"):
            arrived = brokers.some(len(records)) if brokers.trouble == "late" else 0
            for record in records[:arrived]:
                brokers.append(self.name, record)
            if brokers.trouble == "late":
                brokers.append_late(self.name, records[arrived:])
            raise self._unavailable()
        for record in records:
            last = brokers.append(self.name, record)
            if brokers.trouble == "twice":
                last = brokers.append(self.name, record)
            self._process.at("unsynced")
        if brokers.trouble == "lost_answer":
            raise self._unavailable()
        return last

    def bounds(self) -> tuple[int, int]:
        """See `Topic.bounds`."""
        self._require()
        return self._brokers.bounds(self.name)

    def go_to(self, offset: int) -> None:
        """See `Topic.go_to`."""
        self._next = offset

    def read_through(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """See `Topic.read_through`."""
        self._require()
        while True:
            record = self._brokers.record(self.name, self._next)
            if record is None and self._next < self._brokers.bounds(self.name)[0]:
                message = f"{self.name} lacks records that were there."
                raise Damaged(message, file=self.name, position=f"offset {self._next}", next_step="")
            if record is None:
                raise self._unavailable()
            self._next += 1
            yield self._next - 1, record
            if self._next > offset:
                return

    def delete_before(self, offset: int) -> None:
        """See `Topic.delete_before`."""
        if self._brokers.trouble is None:
            self._brokers.drop_before(self.name, offset)

    def close(self) -> None:
        """See `Topic.close`."""

    def _require(self) -> None:
        if self._brokers.trouble == "away":
            raise self._unavailable()

    def _unavailable(self) -> LogUnavailable:
        return LogUnavailable(f"The topic {self.name} does not answer.")


class KafkaMedium:
    """Logs in topics, each with its cache in the data folder: the product's own, but for the client library."""

    def __init__(self, brokers: Brokers, folder: DataFolder, stream: Random, mark_bytes: int) -> None:
        self.brokers = brokers
        self._folder = folder
        self._stream = stream
        self._mark_bytes = mark_bytes
        self._opening: Process
        self._logs: list[KafkaLog] = []

    def patches(self) -> dict[str, Any]:
        """Name what stands in for the client library, for chance and for places some MiB apart."""
        return {
            "cluster.log.kafka.log.Topic": SimpleNamespace(open=self._topic),
            "cluster.log.kafka.log.secrets": SimpleNamespace(randbits=self._stream.getrandbits),
            "cluster.log.kafka.taking.Taker": self._taker,
        }

    def _topic(self, _: Any, name: str) -> SimTopic:
        return self.brokers.topic(name, self._opening)

    def _taker(self, fold: Any, cache: Any) -> Taker:
        return Taker(fold, cache, self._mark_bytes)

    def open(self, index: int, epoch: int, process: Process) -> Log:
        """See `Medium`."""
        self._opening = process
        # Here or on another node, where there is a cache of some time before, or none.
        cache = self._folder.names.evaluator_cache(index)
        if self._stream.random() < 0.5:
            cache = cache.with_name(f"elsewhere-{cache.name}")
        log = KafkaLog.open(_PLACE, f"evaluator-{index}", cache, owner_epoch=epoch)
        self._logs.append(log)
        # Not at once: it may be in the middle of a commit that it dies in.
        process.at_death(lambda: process.loop.outside(0.0, log.close))
        return log

    def lose_power(self, stream: Random) -> None:
        """The brokers are elsewhere; what becomes of the caches, the folder says."""

    def close(self) -> None:
        """See `Medium`."""
        for log in self._logs:
            log.close()

