"""Logged entries as a machine takes them: in order, decoded, those of the evaluator's own users."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from actors.evaluator.layout import I64
from actors.evaluator.packing import unpack_traits
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Definitions, Published
from cluster.errors import CheckpointError, DataDirError
from cluster.log.contract import Log
from cluster.log.records import Entry
from cluster.model.partition_ranges import read_ranges
from cluster.model.partitions import partitions_of
from cluster.wire.envelope import concat, unpack

_T = TypeVar("_T")

#: Events decoded at once: about 1 ms in which nobody else runs Python. Decoding takes 0.2 ms however few there are.
SLICE_ROWS: Final = 1_024
#: Hits given at once where nobody waits: each step of the machine's takes some µs however few there are.
BULK_ROWS: Final = 16_384
#: Decoded at once then. More did not stay in the processor's cache: 8,192 took a third longer an event.
_BULK_SLICE_ROWS: Final = 2_048
#: Slices that a thread may be ahead of who takes them.
_AHEAD: Final = 8


#: Where this process looks for snapshots before it looks where the log says they were: the data dir may have been moved
#: since, or copied (what lies at the old place is another's then), and other nodes have copies of their own.
_FOLDERS: list[Path] = []


def look_for_snapshots_in(folder: Path) -> None:
    """Have this process find snapshots in a folder, `PARENT/VERSION.arrow`."""
    _FOLDERS.append(folder)


def _at_hand(path: str) -> str:
    named = Path(path)
    known = (folder / named.parent.name / named.name for folder in _FOLDERS)
    return next((str(file) for file in known if file.exists()), path)


def read_snapshot_file(path: str) -> pa.Table:
    """Map an immutable snapshot copy. DataDirError where it is gone or damaged."""
    try:
        with pa.memory_map(_at_hand(path)) as source, pa.ipc.open_file(source) as reader:
            return reader.read_all()
    except (OSError, pa.ArrowInvalid) as error:
        message = f"The trait snapshot {path} that the log refers to cannot be read: {error}."
        raise DataDirError(message, next_step="Restore the file, or start with an empty data dir.") from error


def own_rows(table: pa.Table, partitions: Sequence[int], count: int) -> pa.Table:
    """Keep the rows of the evaluator's partitions; all of them where it owns all `count`."""
    if len(partitions) == count:
        return table
    mine = np.isin(table.column("partition").to_numpy(), np.array(partitions, np.int16))
    return table.filter(pa.array(mine))


def own_hits(
    hits: pa.RecordBatch,
    partitions: Sequence[int],
    count: int,
    subjects: Sequence[str] = (),
    batches: I64 | None = None,
) -> pa.RecordBatch:
    """Keep the hits of the evaluator's users: a row may have hits for users of others too.

    `subjects` of the batches that rows are of, and the batch of each row: those taken over say which partitions count.
    """
    narrowed = any(subjects)
    if (len(partitions) == count and not narrowed) or hits.num_rows == 0:
        return hits
    found = partitions_of(hits.column("key").cast(pa.binary()).to_pylist(), count)
    if not narrowed:
        return hits.filter(pa.array(np.isin(found, np.array(partitions))))
    assert batches is not None
    counts = np.zeros((len(subjects), count), np.bool_)
    for place, subject in enumerate(subjects):
        counts[place, list(read_ranges(subject) if subject else partitions)] = True
    return hits.filter(pa.array(counts[batches[hits.column("row").to_numpy()], found]))


@dataclass(frozen=True, slots=True)
class LoggedHits:
    """Hits of logged batches, each with its clock, up to and with entry `seq` at `clock_ms` (or a part of it)."""

    hits: pa.RecordBatch
    seq: int
    clock_ms: int


class EntryReader:
    """Decodes logged batches under one publication. Not for several threads at once."""

    def __init__(self, published: Published, partitions: Sequence[int]) -> None:
        self._decoder = Decoder(EventPlan(published.definitions))
        self._partitions = partitions
        self._partition_count = published.definitions.settings.partitions

    def slices(self, entries: Iterable[Entry]) -> Iterator[LoggedHits]:
        """Give the hits of `batch` entries in order, about SLICE_ROWS events at a time; some slices may hold none."""
        return self._slices(_unpacked(entries), SLICE_ROWS)

    def bulk(self, entries: Iterable[Entry]) -> Iterator[LoggedHits]:
        """As `slices`, about BULK_ROWS at a time, unpacked ahead on a thread of its own.

        For when there is nothing else to do, and to be worked off ahead itself: 0.7 µs an event.
        """
        return _together(self._slices(ahead(_unpacked(entries)), _BULK_SLICE_ROWS))

    def _slices(self, batches: Iterable[_Batch], rows_max: int) -> Iterator[LoggedHits]:
        waiting: list[_Batch] = []
        rows = 0
        for batch in batches:
            waiting.append(batch)
            rows += batch.envelope.num_rows
            if rows >= rows_max:
                yield from self._decoded(waiting, rows_max)
                waiting, rows = [], 0
        if waiting:
            yield from self._decoded(waiting, rows_max)

    def _decoded(self, batches: list[_Batch], rows_max: int) -> Iterator[LoggedHits]:
        envelope = concat([batch.envelope for batch in batches])
        clocks = np.repeat([batch.clock_ms for batch in batches], [batch.envelope.num_rows for batch in batches])
        numbers = np.repeat(np.arange(len(batches)), [batch.envelope.num_rows for batch in batches])
        subjects = [batch.subject for batch in batches]
        last = batches[-1]
        for start in range(0, max(1, envelope.num_rows), rows_max):
            decoded = self._decoder.decode(envelope.slice(start, rows_max))
            hits = own_hits(decoded.hits, self._partitions, self._partition_count, subjects, numbers[start:])
            yield LoggedHits(_at_clocks(hits, clocks[start:]), last.seq, last.clock_ms)


@dataclass(frozen=True, slots=True)
class _Batch:
    """An entry with its envelope unpacked."""

    envelope: pa.RecordBatch
    seq: int
    clock_ms: int
    subject: str


def _unpacked(entries: Iterable[Entry]) -> Iterator[_Batch]:
    for entry in entries:
        yield _Batch(unpack(entry.payload), entry.seq, entry.clock_ms, entry.subject)


def _at_clocks(hits: pa.RecordBatch, clocks: np.ndarray) -> pa.RecordBatch:
    """Give each hit the clock of its row."""
    own = pa.array(clocks[hits.column("row").to_numpy()], pa.int64())
    return _with_column(hits, "clock_ms", own)


def _with_column(hits: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    place = hits.schema.get_field_index(name)
    return hits.set_column(place, hits.schema.field(place), values)


def _together(slices: Iterable[LoggedHits]) -> Iterator[LoggedHits]:
    """Put slices together to about BULK_ROWS each."""
    waiting: list[LoggedHits] = []
    rows = 0
    for each in slices:
        waiting.append(each)
        rows += each.hits.num_rows
        if rows >= BULK_ROWS:
            yield _joined(waiting)
            waiting, rows = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(slices: list[LoggedHits]) -> LoggedHits:
    last = slices[-1]
    parts = []
    first_row = 0
    for hits in (each.hits for each in slices if each.hits.num_rows):
        rows = hits.column("row").to_numpy() + np.int32(first_row)
        parts.append(_with_column(hits, "row", pa.array(rows)))
        first_row = int(rows[-1]) + 1
    return LoggedHits(pa.concat_batches(parts) if parts else last.hits, last.seq, last.clock_ms)


def ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Work an iterator off on a thread of its own, a few items ahead of who takes them; its error is raised there."""
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(_AHEAD)
    wanted = threading.Event()
    wanted.set()

    def put(more: bool, item: Any) -> None:
        while wanted.is_set():
            try:
                return made.put((more, item), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(True, item)
                if not wanted.is_set():
                    return
            put(False, None)
        except BaseException as error:
            put(False, error)

    threading.Thread(target=work, name="ahead", daemon=True).start()
    try:
        while True:
            more, item = made.get()
            if not more:
                break
            yield item
    finally:
        wanted.clear()
    if item is not None:
        raise item


# --- what of the log matters -------------------------------------------------------------------------


def history_ms(definitions: Definitions) -> int:
    """Give how far back a log entry may matter: the longest retention and, before that, the dedup horizon.

    What came within the retention may have been a duplicate of what came a horizon before it.
    """
    longest = max((model.retention_ms for model in definitions.event_models.values()), default=0)
    return max(longest, definitions.settings.retention_ms) + definitions.settings.dedup_horizon_ms


def retained_entries(log: Log, published: Published, clock_ms: int) -> Iterator[Entry]:
    """Give the logged batches that may still matter under `published`, in order."""
    after_ms = clock_ms - history_ms(published.definitions)
    return log.entries(kinds=("batch",), from_clock_ms=after_ms + 1)


def entries_since(log: Log, seq: int) -> Iterator[Entry]:
    """Give every entry above `seq`. Raises CheckpointError (other_log) at the first one that is not there any more."""
    for entry in log.entries(after_seq=seq):
        seq += 1
        if entry.seq != seq:
            message = f"The log has no entry {seq} any more, which comes after the checkpoint's."
            raise CheckpointError(message, reason="other_log")
        yield entry


def logged_snapshot(entry: Entry, partitions: Sequence[int], count: int) -> tuple[int, pa.Table]:
    """Give version and table of the snapshot that a `traits` entry (its subject is the parent) took."""
    logged = unpack_traits(entry.payload)
    return logged.version, own_rows(read_snapshot_file(logged.path), partitions, count)
