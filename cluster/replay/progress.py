"""How many rows an event file has, for a progress bar: exact where the format says it, else from its first lines."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

_SAMPLE_BYTES: Final = 1 << 20


def expected_rows(path: Path) -> int | None:
    """Give the number of rows, None where it cannot be told cheaply. What is wrong with a file, its reader says."""
    try:
        with path.open("rb") as stream:
            sample = stream.read(_SAMPLE_BYTES)
        if sample.startswith(b"PAR1"):
            return int(pq.read_metadata(path).num_rows)
        if sample.startswith(b"ARROW1"):
            with pa.memory_map(str(path)) as mapped:
                opened = pa.ipc.open_file(mapped)
                return sum(int(opened.get_batch(index).num_rows) for index in range(opened.num_record_batches))
        lines = sample.count(b"\n") if sample.lstrip()[:1] == b"{" else 0
        return round(path.stat().st_size / len(sample) * lines) if lines else None
    except (OSError, pa.ArrowException):
        return None
