"""From a parent's trait sources to its snapshot: batches are read, checked and typed one after the other."""

from __future__ import annotations

from pathlib import Path

from actors.traits.related import RelatedBuilder
from actors.traits.snapshot import TraitSnapshot, join_tables
from actors.traits.sources.registry import reader_of
from actors.traits.stimuli import Fingerprint
from actors.traits.tables import TableBuilder
from actors.traits.wanted import wanted_of, wanted_of_related
from cluster.definitions.model import ParentModel


def look(parent: ParentModel, base_dir: Path) -> Fingerprint:
    """Give what tells changed sources from unchanged ones; raises `SnapshotError`.

    Empty where none can tell: a change of the others would go unseen if some said nothing and were taken as equal.
    """
    return _together([reader_of(source, base_dir).look() for source in parent.sources])


def load_snapshot(parent: ParentModel, partitions: int, base_dir: Path) -> tuple[TraitSnapshot, Fingerprint]:
    """Read every table of a parent model, of each the columns that are needed, and make a snapshot of them.

    The fingerprint belongs to exactly these rows. Relative paths start at `base_dir`. Raises `SnapshotError`. Needs
    memory for the typed columns and one batch.
    """
    tables, related, fingerprints = [], {}, []
    for table in parent.tables:
        wanted = wanted_of(table, parent)
        builder = TableBuilder(wanted)
        fingerprint, batches = reader_of(table.source, base_dir).read(wanted)
        for batch in batches:
            builder.add(batch)
        tables.append(builder.finish())
        fingerprints.append(fingerprint)
    for one in parent.related:
        wanted = wanted_of_related(one, parent)
        folder = RelatedBuilder(one, wanted)
        fingerprint, batches = reader_of(one.source, base_dir).read(wanted)
        for batch in batches:
            folder.add(batch)
        related[one.id] = folder.finish()
        fingerprints.append(fingerprint)
    return join_tables(parent, partitions, tables, related), _together(fingerprints)


def _together(fingerprints: list[Fingerprint]) -> Fingerprint:
    if len(fingerprints) == 1:
        return fingerprints[0]
    return tuple(f"{index} {line}" for index, lines in enumerate(fingerprints) for line in lines)
