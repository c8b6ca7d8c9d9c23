"""How an evaluator comes back: the newest definitions and snapshots, and the retained batches replayed silently.

Membership is a function of the set of accepted events, the traits and the clock (semantics.md §3), so nothing of
what was emitted has to be replayed; the stored transitions only say how many were already made at the clock's
present instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from actors.evaluator.instants import InstantCounts, seed_instant
from actors.evaluator.machine import EvaluatorMachine
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Definitions, Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import document_for_evaluation
from cluster.errors import DataDirError
from cluster.log.contract import Log
from cluster.log.records import Entry
from cluster.model.partitions import partitions_of
from cluster.wire.envelope import unpack


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


def retained_hits(
    log: Log, published: Published, partitions: Sequence[int], clock_ms: int
) -> Iterator[pa.RecordBatch]:
    """Decode the logged batches that may still matter under `published`, each hit with the clock it came at."""
    definitions = published.definitions
    decoder = Decoder(EventPlan(definitions))
    after_ms = clock_ms - history_ms(definitions)
    for entry in log.entries(kinds=("batch",), from_clock_ms=after_ms + 1):
        hits = own_hits(decoder.decode(unpack(entry.payload)).hits, partitions, definitions.settings.partitions)
        if hits.num_rows:
            yield _at_clock(hits, entry)


def _at_clock(hits: pa.RecordBatch, entry: Entry) -> pa.RecordBatch:
    place = hits.schema.get_field_index("clock_ms")
    columns = list(hits.columns)
    columns[place] = pa.repeat(pa.scalar(entry.clock_ms, pa.int64()), hits.num_rows)
    return pa.RecordBatch.from_arrays(columns, schema=hits.schema)


def logged_snapshots(log: Log, partitions: Sequence[int], count: int) -> tuple[dict[str, int], dict[str, pa.Table]]:
    """Give version and table of the newest snapshot of each parent in the log."""
    versions: dict[str, int] = {}
    tables: dict[str, pa.Table] = {}
    for entry in log.last_of_each_subject("traits"):
        fields = msgspec.json.decode(entry.payload)
        versions[fields["parent"]] = fields["version"]
        tables[fields["parent"]] = own_rows(read_snapshot_file(fields["path"]), partitions, count)
    return versions, tables


def stored_instant_counts(log: Log, machine: EvaluatorMachine) -> InstantCounts:
    """Give the latest `n` of each (parent, user, audience) with a stored transition at the machine's clock."""
    counts: InstantCounts = {}
    last = log.last_transition_seq()
    step = 4096
    while last > 0:
        first = max(0, last - step)
        blocks = log.transitions_after(first, last - first)
        rows = [row for block in blocks for row in block.rows().to_pylist()]
        for row in rows:
            if row["at"] == machine.clock_ms and row["audience_id"] in machine.program.audience_index:
                key = (machine.parent_of(row["audience_id"]), row["user_id"], row["audience_id"])
                counts[key] = max(counts.get(key, 0), row["n"])
        if not rows or rows[0]["at"] < machine.clock_ms:
            break
        last = first
    return counts


def recover(
    log: Log, partitions: Sequence[int], *, seed: int
) -> tuple[EvaluatorMachine | None, dict[str, int], dict[str, pa.Table]]:
    """Rebuild the machine from the log; None where no definitions were ever published. O(retained events)."""
    entry = log.last_entry("definitions")
    if entry is None:
        return None, {}, {}
    published = unpack_published(entry.payload)
    clock_ms = log.last_clock_ms() or 0
    versions, tables = logged_snapshots(log, partitions, published.definitions.settings.partitions)
    machine = EvaluatorMachine(published, seed=seed)
    machine.load(retained_hits(log, published, partitions, clock_ms), tables, clock_ms)
    seed_instant(machine, stored_instant_counts(log, machine))
    return machine, versions, tables
