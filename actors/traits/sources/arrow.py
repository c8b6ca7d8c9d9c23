"""Arrow IPC: files, or streams where they are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from actors.traits.sources.contract import Batch, Schema
from actors.traits.wanted import Wanted, check_schema


@contextmanager
def opened(filesystem: Any, path: str, wanted: Wanted, source: object) -> Iterator[tuple[Schema, Iterator[Batch]]]:
    """Open a file or stream; the columns that are not needed are left out as it is read."""
    with filesystem.open_input_file(path) as file:
        is_file = file.read(6) == b"ARROW1"
        open_reader = pa.ipc.open_file if is_file else pa.ipc.open_stream
        file.seek(0)
        schema = open_reader(file).schema
        check_schema(schema.names, wanted, where=path)
        indices = sorted(schema.get_field_index(name) for name in wanted.names())
        file.seek(0)
        reader = open_reader(file, options=pa.ipc.IpcReadOptions(included_fields=indices))
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
        yield pa.schema([schema.field(name) for name in wanted.names()]), batches
