"""Which reader reads which kind. A kind's own packages are imported when it is first read, never before."""

from __future__ import annotations

from pathlib import Path

from actors.traits.sources.adbc import AdbcReader
from actors.traits.sources.contract import Reader
from actors.traits.sources.delta import DeltaReader
from actors.traits.sources.duckdb import DuckdbReader
from actors.traits.sources.files import FileReader
from actors.traits.sources.iceberg import IcebergReader
from cluster.definitions.trait_sources import (
    AdbcSource,
    ArrowSource,
    CsvSource,
    DeltaSource,
    DuckdbSource,
    IcebergSource,
    ParquetSource,
    TraitSource,
)


def reader_of(source: TraitSource, base_dir: Path) -> Reader:
    """Give the reader of a source; relative paths start at `base_dir`."""
    match source:
        case ParquetSource() | ArrowSource() | CsvSource():
            return FileReader(source, base_dir)
        case DeltaSource():
            return DeltaReader(source, base_dir)
        case IcebergSource():
            return IcebergReader(source)
        case DuckdbSource():
            return DuckdbReader(source, base_dir)
        case AdbcSource():
            return AdbcReader(source)
    message = f"no reader for sources of kind {source.kind}"
    raise AssertionError(message)
