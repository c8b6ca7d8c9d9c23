"""An heir's machine takes what other evaluators have evaluated: its transitions are theirs, and thrown away here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from actors.evaluator.entries import EntryReader, logged_snapshot
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.packing import unpack_traits
from cluster.definitions.model import Published
from cluster.log.records import Entry


@dataclass(frozen=True, slots=True)
class TakenSnapshot:
    """A trait snapshot that an entry brought."""

    parent: str
    version: int
    path: str
    table: pa.Table


def take_silently(
    machine: EvaluatorMachine, published: Published, partitions: Sequence[int], entries: Iterable[Entry]
) -> Iterator[TakenSnapshot]:
    """Move a machine by logged entries, to the end of the iteration; gives the snapshots among them."""
    reader = EntryReader(published, partitions)
    count = published.definitions.settings.partitions
    for batches, group in itertools.groupby(entries, lambda entry: entry.kind == "batch"):
        if batches:
            for each in reader.slices(group):
                machine.handle_batch(each.hits, each.clock_ms, each.clock_ms)
            continue
        for entry in group:
            if entry.kind == "traits" and entry.subject in machine.program.parents:
                version, table = logged_snapshot(entry, partitions, count)
                machine.apply_traits(entry.subject, table, entry.clock_ms)
                yield TakenSnapshot(entry.subject, version, unpack_traits(entry.payload).path, table)
