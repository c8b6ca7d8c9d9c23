"""The trait snapshots of a replay: from `--traits`, else from the definitions' own sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from actors.traits.reading import load_snapshot
from actors.traits.snapshot import empty_snapshot
from actors.traits.wanted import main_table
from cluster.definitions.model import Definitions, ParentModel
from cluster.definitions.trait_sources import ArrowSource, CsvSource, ParquetSource, TraitSource
from cluster.errors import InputError

_PARQUET_START: Final = b"PAR1"


def load_snapshots(definitions: Definitions, given: Iterable[str], base_dir: Path) -> dict[str, Any]:
    """Give a snapshot table (docs/architecture.md §5) for each parent model; raises InputError, SnapshotError."""
    files = assign(definitions.parent_models, given)
    return {
        parent.id: _snapshot(parent, files.get(parent.id), definitions.settings.partitions, base_dir)
        for parent in definitions.parent_models.values()
    }


def assign(parents: Mapping[str, ParentModel], given: Iterable[str]) -> dict[str, str]:
    """Give parent id -> file of `T` (one parent model) and `PARENT=T`; raises InputError."""
    files: dict[str, str] = {}
    for text in given:
        parent, path = _parent_and_path(parents, text)
        if parent in files:
            message = f"--traits names the parent model {parent!r} twice: {files[parent]} and {path}."
            raise InputError(message, next_step="Give each parent model one file.")
        files[parent] = path
    return files


def _parent_and_path(parents: Mapping[str, ParentModel], text: str) -> tuple[str, str]:
    head, equals, path = text.partition("=")
    if equals and head in parents:
        return head, path
    if equals and Path(path).exists() and not Path(text).exists():
        message = f"--traits {text}: there is no parent model {head!r}."
        raise InputError(message, next_step=f"Allowed parents: {', '.join(parents) or 'none'}.")
    if len(parents) == 1:
        return next(iter(parents)), text
    message = f"--traits {text}: there are several parent models."
    raise InputError(message, next_step=f"Write --traits PARENT=FILE; allowed parents: {', '.join(parents) or 'none'}.")


def _snapshot(parent: ParentModel, file: str | None, partitions: int, base_dir: Path) -> Any:
    if file is not None:
        # The file has every trait as a column, whichever table the definitions take it from.
        parent = replace(parent, tables=(main_table(parent, _source_of(file)),), related=())
    if not parent.sources:
        return empty_snapshot(parent).table
    return load_snapshot(parent, partitions, base_dir)[0].table


def _source_of(file: str) -> TraitSource:
    """Tell Parquet from Arrow by the content, as event files are told; what cannot be opened is left to the reader."""
    path = Path(file)
    if path.suffix == ".csv":
        return CsvSource(path=file)
    if not path.is_file():
        is_parquet = path.suffix not in (".arrow", ".arrows", ".ipc", ".feather")
    else:
        with path.open("rb") as stream:
            is_parquet = stream.read(4) == _PARQUET_START
    return ParquetSource(path=file) if is_parquet else ArrowSource(path=file)
