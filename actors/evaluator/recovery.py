"""How an evaluator comes back: the newest definitions and snapshots, and the retained batches replayed silently.

Membership is a function of the set of accepted events, the traits and the clock (semantics.md §3), so nothing of
what was emitted has to be replayed; the stored transitions only say how many were already made at the clock's
present instant.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.evaluator.difference import Numbers
from actors.evaluator.instants import seed_instant
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import TRANSITION_SCHEMA, Transitions, joined
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Definitions, Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import document_for_evaluation
from cluster.errors import DataDirError
from cluster.log.contract import Log
from cluster.log.records import Entry
from cluster.model.partitions import partitions_of
from cluster.wire.envelope import concat, unpack

#: Events decoded at once: about 1 ms in which nobody else runs Python. Decoding takes 0.2 ms however few there are.
SLICE_ROWS: Final = 1_024


def pack_published(published: Published) -> bytes:
    """Write definitions as a log entry's payload: what evaluation needs, no secrets."""
    return msgspec.json.encode(
        {
            "version": published.version,
            "audience_versions": dict(published.audience_versions),
            "document": document_for_evaluation(published.definitions),
        }
    )


def unpack_published(payload: bytes) -> Published:
    """Read what `pack_published` wrote."""
    fields = msgspec.json.decode(payload)
    definitions = parse_document(fields["document"], "<log>", {})
    return Published(fields["version"], definitions, fields["audience_versions"])


#: The log's key of how far its transitions are.
PROGRESS: Final = "progress"
#: What makes a transition the one that it is (semantics.md §3).
_IDENTITY: Final = ["audience_id", "audience_version", "user_id", "at", "n"]


def pack_traits(parent: str, version: int, path: str) -> bytes:
    """Write a snapshot's description as a log entry's payload."""
    return msgspec.json.encode({"parent": parent, "version": version, "path": path})


def read_snapshot_file(path: str) -> pa.Table:
    """Map an immutable snapshot copy. DataDirError where it is gone or damaged."""
    try:
        with pa.memory_map(path) as source, pa.ipc.open_file(source) as reader:
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


def own_hits(hits: pa.RecordBatch, partitions: Sequence[int], count: int) -> pa.RecordBatch:
    """Keep the hits of the evaluator's users: a row may have hits for users of others too."""
    if len(partitions) == count or hits.num_rows == 0:
        return hits
    keys = hits.column("key").cast(pa.binary()).to_pylist()
    return hits.filter(pa.array(np.isin(partitions_of(keys, count), np.array(partitions))))


def history_ms(definitions: Definitions) -> int:
    """Give how far back a log entry may matter: the longest retention and, before that, the dedup horizon.

    What came within the retention may have been a duplicate of what came a horizon before it.
    """
    longest = max((model.retention_ms for model in definitions.event_models.values()), default=0)
    return max(longest, definitions.settings.retention_ms) + definitions.settings.dedup_horizon_ms


@dataclass(frozen=True, slots=True)
class LoggedHits:
    """Hits of logged batches, each with its clock, up to and with entry `seq` at `clock_ms` (or a part of it)."""

    hits: pa.RecordBatch
    seq: int
    clock_ms: int


class EntryReader:
    """Decodes logged batches under one publication, in slices of about SLICE_ROWS events, small batches together.

    Not for several threads at once.
    """

    def __init__(self, published: Published, partitions: Sequence[int]) -> None:
        self._decoder = Decoder(EventPlan(published.definitions))
        self._partitions = partitions
        self._partition_count = published.definitions.settings.partitions

    def slices(self, entries: Iterable[Entry]) -> Iterator[LoggedHits]:
        """Give the hits of `batch` entries in order; some slices may hold none."""
        waiting: list[tuple[pa.RecordBatch, Entry]] = []
        rows = 0
        for entry in entries:
            envelope = unpack(entry.payload)
            waiting.append((envelope, entry))
            rows += envelope.num_rows
            if rows >= SLICE_ROWS:
                yield from self._decoded(waiting)
                waiting, rows = [], 0
        if waiting:
            yield from self._decoded(waiting)

    def _decoded(self, batches: list[tuple[pa.RecordBatch, Entry]]) -> Iterator[LoggedHits]:
        envelope = concat([envelope for envelope, _ in batches])
        clocks = np.repeat([entry.clock_ms for _, entry in batches], [part.num_rows for part, _ in batches])
        last = batches[-1][1]
        for start in range(0, max(1, envelope.num_rows), SLICE_ROWS):
            decoded = self._decoder.decode(envelope.slice(start, SLICE_ROWS))
            hits = own_hits(decoded.hits, self._partitions, self._partition_count)
            yield LoggedHits(_at_clocks(hits, clocks[start:]), last.seq, last.clock_ms)


def _at_clocks(hits: pa.RecordBatch, clocks: np.ndarray) -> pa.RecordBatch:
    """Give each hit the clock of its row."""
    place = hits.schema.get_field_index("clock_ms")
    own = pa.array(clocks[hits.column("row").to_numpy()], pa.int64())
    return hits.set_column(place, hits.schema.field(place), own)


def retained_entries(log: Log, published: Published, clock_ms: int) -> Iterator[Entry]:
    """Give the logged batches that may still matter under `published`, in order."""
    after_ms = clock_ms - history_ms(published.definitions)
    return log.entries(kinds=("batch",), from_clock_ms=after_ms + 1)


def logged_snapshots(log: Log, partitions: Sequence[int], count: int) -> tuple[dict[str, int], dict[str, pa.Table]]:
    """Give version and table of the newest snapshot of each parent in the log."""
    versions: dict[str, int] = {}
    tables: dict[str, pa.Table] = {}
    for entry in log.last_of_each_subject("traits"):
        versions[entry.subject], tables[entry.subject] = logged_snapshot(entry, partitions, count)
    return versions, tables


def logged_snapshot(entry: Entry, partitions: Sequence[int], count: int) -> tuple[int, pa.Table]:
    """Give version and table of the snapshot that a `traits` entry (its subject is the parent) took."""
    fields = msgspec.json.decode(entry.payload)
    return fields["version"], own_rows(read_snapshot_file(fields["path"]), partitions, count)


def stored_numbers(log: Log, clock_ms: int, after_seq: int) -> Numbers:
    """Give the latest `n` of each (user, audience) with a transition at this clock, stored above `after_seq`."""
    numbers: Numbers = {}
    for block in log.transitions_after(after_seq, log.last_transition_seq() - after_seq):
        rows = block.rows()
        for row in rows.filter(pc.equal(rows.column("at"), clock_ms)).to_pylist():
            pair = (row["user_id"], row["audience_id"])
            numbers[pair] = max(numbers.get(pair, 0), row["n"])
    return numbers


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """How far the transitions are, as of the last commit: its clock, and until when everybody's changes are made.

    Those made later than `settled_ms` have numbers above `settled_seq`; those made at the clock, above `clock_seq`.
    """

    clock_ms: int = 0
    settled_ms: int = 0
    settled_seq: int = 0
    clock_seq: int = 0


def progress_of(log: Log) -> Progress:
    """Read what the last commit noted."""
    noted = log.meta(PROGRESS)
    return msgspec.json.decode(noted, type=Progress) if noted else Progress()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the log holds: the definitions in force since `published_at_ms` and their machine, None before the first.

    `missing` are the transitions due at or before the log's end that were not made yet.
    """

    machine: EvaluatorMachine | None = None
    published: Published | None = None
    published_at_ms: int = 0
    snapshot_versions: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, pa.Table] = field(default_factory=dict)
    missing: pa.RecordBatch = field(default_factory=lambda: pa.RecordBatch.from_pylist([], schema=TRANSITION_SCHEMA))


def recover(log: Log, partitions: Sequence[int], *, seed: int) -> Recovered:
    """Rebuild the machine from the log. O(retained events)."""
    entry = log.last_entry("definitions")
    if entry is None:
        return Recovered()
    published = unpack_published(entry.payload)
    clock_ms = log.last_clock_ms() or 0
    versions, tables = logged_snapshots(log, partitions, published.definitions.settings.partitions)
    machine = EvaluatorMachine(published, seed=seed)
    progress = progress_of(log)
    # Without a wave under way all that is due up to the last entry is made, and only shown by it.
    behind = progress.settled_ms < progress.clock_ms
    settled_ms = progress.settled_ms if behind else clock_ms
    reader = EntryReader(published, partitions)
    silent = itertools.takewhile(lambda e: e.clock_ms <= settled_ms, retained_entries(log, published, clock_ms))
    machine.load((each.hits for each in reader.slices(silent)), tables, settled_ms)
    recovered = Recovered(machine, published, entry.clock_ms, versions, tables)
    if behind:
        return replace(recovered, missing=_finish_wave(log, machine, reader, clock_ms, progress.settled_seq))
    numbers = stored_numbers(log, clock_ms, progress.clock_seq)
    known = machine.program.audience_index
    seed_instant(machine, {(machine.parent_of(a), user, a): n for (user, a), n in numbers.items() if a in known})
    return recovered


def _finish_wave(
    log: Log, machine: EvaluatorMachine, reader: EntryReader, clock_ms: int, after_seq: int
) -> pa.RecordBatch:
    """Move a machine on from where everybody's changes were made; give those that the log has not.

    Nothing but batches and ticks was logged since (`worker.py` sees to that).
    """
    since_ms = machine.clock_ms
    entries = retained_entries(log, machine.program.published, clock_ms)
    made: list[Transitions] = [
        machine.handle_batch(each.hits, since_ms, each.clock_ms).transitions
        for each in reader.slices(entry for entry in entries if entry.clock_ms > since_ms)
    ]
    made.append(machine.tick(clock_ms))
    table = machine.transitions_table(joined(made))
    made_now = pa.Table.from_batches([table]).append_column("place", pa.array(np.arange(table.num_rows)))
    blocks = log.transitions_after(after_seq, log.last_transition_seq() - after_seq)
    stored = pa.Table.from_batches([block.rows() for block in blocks], TRANSITION_SCHEMA).select(_IDENTITY)
    missing = made_now.join(stored, keys=_IDENTITY, join_type="left anti").sort_by("place")
    return missing.select(TRANSITION_SCHEMA.names).combine_chunks().to_batches()[0] if missing.num_rows else table[:0]
