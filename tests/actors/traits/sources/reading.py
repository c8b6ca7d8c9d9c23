"""Reading a source as the loader does, as one table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from actors.traits.reading import look
from actors.traits.snapshot import Table
from actors.traits.sources.registry import reader_of
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import main_table, wanted_of
from cluster.definitions.model import ParentModel
from cluster.definitions.trait_sources import TraitSource
from cluster.errors import SnapshotError
from tests.actors.traits.making import parent, with_source


def read_all(source: TraitSource, model: ParentModel | None = None, base_dir: Path = Path()) -> Table:
    """Give every needed column in the order that the model names it."""
    model = model or parent()
    wanted = wanted_of(main_table(model, source), model)
    _, batches = reader_of(source, base_dir).read(wanted)
    rows = [pa.table(batch.select(wanted.names())) for batch in batches]
    return pa.concat_tables(rows, promote_options="permissive") if rows else pa.table({})


def refused(source: TraitSource, reason: str, model: ParentModel | None = None, base_dir: Path = Path()) -> str:
    """Give the message of the error that reading ends with: it names what to do next."""
    with pytest.raises(SnapshotError) as error:
        read_all(source, model, base_dir)
    assert error.value.reason == reason, error.value
    assert error.value.next_step
    return str(error.value)


def look_at(source: TraitSource, base_dir: Path = Path()) -> Fingerprint:
    """Give what a look at the source finds."""
    return look(with_source(parent(), source), base_dir)
