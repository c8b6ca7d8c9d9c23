"""The two logs behind one face, for laws that both keep: open them, lose what may be lost, damage what is stored."""

from __future__ import annotations

import itertools
import resource
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import confluent_kafka
import pyarrow as pa

from cluster.log.contract import Log
from cluster.log.kafka.log import KafkaLog
from cluster.log.kafka.place import parse_place
from cluster.log.records import Entry, EntryKind, TransitionBlock
from cluster.log.sqlite import EvaluatorLog
from tests.brokers import Brokers

_numbers = itertools.count()


def entry(seq: int, clock_ms: int, kind: EntryKind = "batch", subject: str = "", payload: bytes = b"x") -> Entry:
    return Entry(seq, clock_ms, kind, 1, 1, payload, subject)


def block(first_seq: int, count: int) -> TransitionBlock:
    rows = pa.array(range(first_seq, first_seq + count), pa.int64())
    return TransitionBlock.of(first_seq, pa.record_batch({"at": rows}))


def seqs(log: Log) -> list[int]:
    return [one.seq for one in log.entries()]


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let the kernel refuse writes beyond this size: the disk is full, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Kept(ABC):
    """A log that is kept somewhere, and may be opened again and again."""

    #: What another process opens it by: `open_as(*place)`.
    place: tuple[str, str]

    @abstractmethod
    def open(self, epoch: int = 1) -> Log: ...

    @abstractmethod
    def lose_cache(self) -> None:
        """Lose what the log does not rest on."""

    @abstractmethod
    def damage(self) -> str:
        """Change what is stored of the newest entry; gives what the error must name."""


class InSqlite(Kept):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "evaluator-0.db"
        self.place = "sqlite", str(self.path)

    def open(self, epoch: int = 1) -> EvaluatorLog:
        return EvaluatorLog.open(self.path, owner_epoch=epoch)

    def lose_cache(self) -> None:
        pass

    def damage(self) -> str:
        with closing(sqlite3.connect(self.path)) as other, other:
            [[seq]] = other.execute("SELECT MAX(seq) FROM entries")
            other.execute("UPDATE entries SET payload = X'00' WHERE seq = ?", (seq,))
        return f"entry {seq}"


class InKafka(Kept):
    def __init__(self, folder: Path, brokers: Brokers) -> None:
        self.folder = folder
        self.brokers = brokers
        self.topic = f"usher-{next(_numbers)}.evaluator-0"
        for topic in (self.topic, f"{self.topic}.transitions"):
            brokers.make_topic(topic)
        # The mock broker answers a question for new records when it is old enough, and not when one comes.
        (folder / "kafka.properties").write_text("fetch.wait.max.ms=2\n")
        prefix = self.topic.removesuffix(".evaluator-0")
        uri = f"kafka://{brokers.bootstrap}/{prefix}?config={folder / 'kafka.properties'}"
        self.place = uri, str(folder / "cache.db")

    def open(self, epoch: int = 1) -> KafkaLog:
        opened = open_as(*self.place, epoch)
        assert isinstance(opened, KafkaLog)
        return opened

    def lose_cache(self) -> None:
        for path in self.folder.glob("cache.db*"):
            path.unlink()

    def records(self) -> list[tuple[int, bytes]]:
        """Give what the topic holds, as any client sees it."""
        place = confluent_kafka.TopicPartition(self.topic, 0, confluent_kafka.OFFSET_BEGINNING)
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.brokers.bootstrap, "group.id": "test", "fetch.wait.max.ms": 2
        })  # fmt: skip
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            found: list[tuple[int, bytes]] = []
            while high > low and (not found or found[-1][0] < high - 1):
                message = consumer.poll(1)
                if message is not None and message.error() is None:
                    found.append((message.offset(), message.value()))
            return found
        finally:
            consumer.close()

    def write(self, *records: bytes) -> None:
        """Write to the topic as somebody else."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.brokers.bootstrap})
        for record in records:
            producer.produce(self.topic, record, partition=0)
        assert producer.flush(10) == 0

    def damage(self) -> str:
        """What is stored in a broker nobody can reach: a changed copy comes after it."""
        records = self.records()
        changed = bytearray(records[-1][1])
        changed[-1] ^= 1
        self.write(bytes(changed))
        return f"offset {records[-1][0] + 1}"


def open_as(where: str, path: str, epoch: int) -> Log:
    """Open a kept log by its place; in any process."""
    if where == "sqlite":
        return EvaluatorLog.open(Path(path), owner_epoch=epoch)
    return KafkaLog.open(parse_place(where), "evaluator-0", Path(path), owner_epoch=epoch)


#: Run as a process: `python -c WRITER WHERE PATH EPOCH`; commits until it is killed, and says what is acknowledged.
WRITER = """
import sys
from cluster.errors import Fenced
from cluster.log.records import Entry
from tests.cluster.log.kept import block, open_as

log = open_as(sys.argv[1], sys.argv[2], int(sys.argv[3]))
print("open", flush=True)
while True:
    seq, transition = log.last_seq(), log.last_transition_seq()
    entries = [Entry(seq + i, seq + i, "batch", 1, 1, bytes([i]) * 20_000) for i in (1, 2, 3)]
    try:
        log.commit(entries, [block(transition + 1, 2)])
    except Fenced:
        print("fenced", flush=True)
        break
    print(log.last_seq(), flush=True)
"""


def writer(kept: Kept, epoch: int, code: str = WRITER) -> list[str]:
    """Give the command line of a process that writes."""
    return [sys.executable, "-c", code, *kept.place, str(epoch)]
