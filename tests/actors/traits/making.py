"""Parent models and trait tables for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.traits.wanted import main_table
from cluster.definitions.model import Column, ParentModel, ValueType
from cluster.definitions.trait_sources import TRAIT_SOURCES, TraitSource

TYPES: dict[str, ValueType] = {"ltv": "number", "tier": "string"}


def parent(
    columns: dict[str, ValueType] | None = None,
    path: str | Path | None = None,
    kind: str = "parquet",
    refresh_ms: int | None = None,
) -> ParentModel:
    source = None if path is None else source_of(kind, path=str(path))
    declared = {name: Column(name, type_) for name, type_ in (TYPES if columns is None else columns).items()}
    bare = ParentModel("users", "user_id", declared, refresh_ms=refresh_ms)
    return bare if source is None else with_source(bare, source)


def with_source(model: ParentModel, source: TraitSource) -> ParentModel:
    """The model with every trait from one table."""
    return replace(model, tables=(main_table(model, source),))


def source_of(kind: str, **settings: Any) -> TraitSource:
    return TRAIT_SOURCES[kind].model_validate({"kind": kind, **settings})


def table(count: int = 3, **columns: Any) -> pa.Table:
    """Users `u0, u1, ...` with an ltv of 1.0 and the tier gold, unless a column is given."""
    usual = {"user_id": [f"u{i}" for i in range(count)], "ltv": [1.0] * count, "tier": ["gold"] * count}
    return pa.table({**usual, **columns})


def write_parquet(path: Path, rows: pa.Table) -> Path:
    """Replace the file as a careful writer does: beside, then renamed."""
    beside = path.with_name(f".{path.name}.new")
    pq.write_table(rows, beside)
    beside.replace(path)
    return path


def write_arrow(path: Path, rows: pa.Table, stream: bool = False) -> Path:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(path, rows.schema) as writer:
        writer.write_table(rows)
    return path
