"""What a log keeps: entries (an evaluator's inputs) and blocks of transitions (its outputs)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

#: An Arrow record batch; pyarrow ships no types.
RecordBatch: TypeAlias = Any
EntryKind = Literal["batch", "tick", "traits", "definitions"]

ENTRY_KINDS: Final[tuple[EntryKind, ...]] = get_args(EntryKind)

#: Kinds whose newest entry (per subject) recovery starts from: trimming never takes that one.
LastingKind = Literal["traits", "definitions"]
LASTING_KINDS: Final[tuple[LastingKind, ...]] = get_args(LastingKind)

#: Blocks with fewer transitions are stored plain.
ROWS_COMPRESSED_MIN: Final = 128

_HEADER = struct.Struct("<qqqq")


@dataclass(frozen=True, slots=True)
class Entry:
    """One input of an evaluator.

    `seq` counts an evaluator's entries from 1 without a gap; `clock_ms` is the evaluator's clock at which the
    entry is applied, and never falls as `seq` grows. `payload` is the kind's own: a batch's packed envelope,
    a snapshot's description, the definitions' document, nothing for a tick. `subject` tells entries of one
    kind apart where only the newest of each counts: the parent model's id for `traits`. That of a
    `batch` taken over from another evaluator says of which partitions its events are (`0-31,40`). Else it is empty.
    """

    seq: int
    clock_ms: int
    kind: EntryKind
    definitions_version: int
    row_count: int
    payload: bytes
    subject: str = ""

    def checksum(self) -> int:
        """Give the xxh3_64 of every field, as a signed 64-bit integer (what SQLite stores)."""
        header = _HEADER.pack(self.seq, self.clock_ms, self.definitions_version, self.row_count)
        digest = xxhash.xxh3_64(header)
        digest.update(f"{self.kind}\0{self.subject}\0".encode())
        digest.update(self.payload)
        return _signed(digest.intdigest())


@dataclass(frozen=True, slots=True)
class TransitionBlock:
    """Transitions of one evaluator, numbered `first_seq..last_seq` (both included, from 1, without a gap).

    `payload` is an Arrow IPC stream (zstd) of one record batch with the columns of docs/architecture.md §3;
    `max_at_ms` the greatest `at` in it.
    """

    first_seq: int
    last_seq: int
    max_at_ms: int
    payload: bytes

    @classmethod
    def of(cls, first_seq: int, transitions: RecordBatch) -> TransitionBlock:
        """Pack a record batch of at least one transition whose first row has the number `first_seq`."""
        max_at_ms = pc.max(transitions.column("at")).as_py()
        return cls(first_seq, first_seq + transitions.num_rows - 1, max_at_ms, pack_transitions(transitions))

    @property
    def row_count(self) -> int:
        """How many transitions it holds."""
        return self.last_seq - self.first_seq + 1

    def rows(self) -> RecordBatch:
        """Unpack the record batch; row `i` is the transition number `first_seq + i`."""
        return unpack_transitions(self.payload)

    def cut(self, after_seq: int, row_count_max: int) -> TransitionBlock:
        """Keep the transitions above `after_seq`, at most `row_count_max` of them (at least one must stay).

        Costs a decoding and an encoding only where something is cut away.
        """
        first = max(self.first_seq, after_seq + 1)
        count = min(self.last_seq - first + 1, row_count_max)
        if first == self.first_seq and count == self.row_count:
            return self
        return TransitionBlock.of(first, self.rows().slice(first - self.first_seq, count))

    def checksum(self) -> int:
        """As `Entry.checksum`."""
        digest = xxhash.xxh3_64(_HEADER.pack(self.first_seq, self.last_seq, self.max_at_ms, 0))
        digest.update(self.payload)
        return _signed(digest.intdigest())


def pack_transitions(transitions: RecordBatch) -> bytes:
    """Write a record batch as an Arrow IPC stream, with zstd buffers where there are rows enough to gain by it."""
    sink = pa.BufferOutputStream()
    # Each buffer is compressed by itself, with a context of its own: 0.4 ms a batch, whatever its size.
    compression = "zstd" if transitions.num_rows >= ROWS_COMPRESSED_MIN else None
    options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
    with pa.ipc.new_stream(sink, transitions.schema, options=options) as writer:
        writer.write_batch(transitions)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack_transitions(payload: bytes) -> RecordBatch:
    """Read what `pack_transitions` wrote."""
    with pa.ipc.open_stream(payload) as reader:
        return reader.read_next_batch()


#: No further values go into a commit.
NO_META: Final[Mapping[str, bytes]] = {}


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned
