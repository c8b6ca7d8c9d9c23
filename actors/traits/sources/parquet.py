"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.traits.sources.contract import TRAITS_BATCH_ROWS_MAX, Batch, Schema
from actors.traits.wanted import Wanted, check_schema


@contextmanager
def opened(filesystem: Any, path: str, wanted: Wanted, source: object) -> Iterator[tuple[Schema, Iterator[Batch]]]:
    """Open a file; its footer alone is read before the first batch, so a missing column is known at once."""
    with filesystem.open_input_file(path) as file, pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        check_schema(schema.names, wanted, where=path)
        batches = parquet.iter_batches(TRAITS_BATCH_ROWS_MAX, columns=wanted.names())
        yield pa.schema([schema.field(name) for name in wanted.names()]), batches
