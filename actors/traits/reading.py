"""From a parent's trait source to its snapshot: batches are read, checked and typed one after the other."""

from __future__ import annotations

from pathlib import Path

from actors.traits.snapshot import SnapshotBuilder, TraitSnapshot
from actors.traits.sources.registry import reader_of
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import wanted_of
from cluster.definitions.model import ParentModel
from cluster.definitions.trait_sources import TraitSource


def look(source: TraitSource, base_dir: Path) -> Fingerprint:
    """Give what tells a changed source from an unchanged one; raises `SnapshotError`."""
    return reader_of(source, base_dir).look()


def load_snapshot(
    source: TraitSource, parent: ParentModel, partitions: int, base_dir: Path
) -> tuple[TraitSnapshot, Fingerprint]:
    """Read the columns that the parent needs, and no others, and make a snapshot of them.

    The fingerprint belongs to exactly these rows. Relative paths start at `base_dir`. Raises `SnapshotError`. Needs
    memory for the typed snapshot and one batch.
    """
    builder = SnapshotBuilder(parent, partitions)
    fingerprint, batches = reader_of(source, base_dir).read(wanted_of(parent))
    for batch in batches:
        builder.add(batch)
    return builder.finish(), fingerprint
