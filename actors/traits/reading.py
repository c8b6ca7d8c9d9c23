"""From a parent's trait sources to its snapshot: batches are read, checked and typed one after the other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from actors.traits.related import RelatedBuilder
from actors.traits.snapshot import TraitSnapshot, join_tables
from actors.traits.sources.registry import reader_of
from actors.traits.stimuli import Fingerprint
from actors.traits.tables import TableBuilder
from actors.traits.wanted import Wanted, wanted_of, wanted_of_related
from cluster.definitions.model import ParentModel
from cluster.definitions.trait_sources import TraitSource


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
    fingerprints: list[Fingerprint] = []
    tables, related = [], {}
    for table in parent.tables:
        wanted = wanted_of(table, parent)
        builder = TableBuilder(wanted)
        fingerprints.append(_read_into(builder, table.source, wanted, base_dir))
        tables.append(builder.finish())
    for one in parent.related:
        wanted = wanted_of_related(one, parent)
        folder = RelatedBuilder(one, wanted)
        fingerprints.append(_read_into(folder, one.source, wanted, base_dir))
        related[one.id] = folder.finish()
    return join_tables(parent, partitions, tables, related), _together(fingerprints)


def _read_into(
    builder: TableBuilder | RelatedBuilder, source: TraitSource, wanted: Wanted, base_dir: Path
) -> Fingerprint:
    fingerprint, batches = reader_of(source, base_dir).read(wanted)
    # Closed at once also where the builder refuses a batch: an open query holds locks and a connection.
    with closing(batches):
        for batch in batches:
            builder.add(batch)
    return fingerprint


def _together(fingerprints: list[Fingerprint]) -> Fingerprint:
    if len(fingerprints) == 1:
        return fingerprints[0]
    return tuple(f"{index} {line}" for index, lines in enumerate(fingerprints) for line in lines)
