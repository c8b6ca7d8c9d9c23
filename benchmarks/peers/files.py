"""What goes between the benchmark and a peer: three files in, one file of transitions out.

`program.json` (program.py), `traits.arrow` and `events.arrow` (Arrow IPC streams, uncompressed, events in batches of
`BATCH_ROWS` rows, columns `clock_ms int64, user string, model int16, channel dictionary<int8, string>, amount
float64`). A peer answers with flat little-endian columns: `at int64, audience int32, user int32 (row of the traits),
entered uint8`, one behind the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.bench_engine import BATCH_ROWS
from benchmarks.peers.program import program_table
from benchmarks.workloads import CHANNELS, START_MS, Workload
from cluster.definitions.model import Published
from cluster.errors import InputError

EVENT_SCHEMA = pa.schema([
    ("clock_ms", pa.int64()),
    ("user", pa.string()),
    ("model", pa.int16()),
    ("channel", pa.dictionary(pa.int8(), pa.string())),
    ("amount", pa.float64()),
])
_ROW_BYTES = 8 + 4 + 4 + 1


@dataclass(frozen=True, slots=True)
class PeerTransitions:
    """Transitions in columns of one length: `audience` its number in the definitions, `user` its row in the traits."""

    audience: np.ndarray
    user: np.ndarray
    at: np.ndarray
    entered: np.ndarray

    def __len__(self) -> int:
        """Give the number of transitions."""
        return len(self.at)


def write_files(workload: Workload, published: Published, folder: Path) -> None:
    """Write a workload for peers; about 33 bytes an event."""
    table = program_table(published, start_ms=START_MS, until_ms=int(workload.clocks[-1]))
    (folder / "program.json").write_text(json.dumps(table))
    with pa.ipc.new_stream(folder / "traits.arrow", workload.traits.schema) as out:
        out.write_table(workload.traits)
    with pa.ipc.new_stream(folder / "events.arrow", EVENT_SCHEMA) as out:
        for batch in event_batches(workload):
            out.write_batch(batch)


def event_batches(workload: Workload, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Cut the events into batches, as large as those that the engine is given."""
    names, channels = pa.array(workload.user_names), pa.array(CHANNELS)
    for start in range(0, len(workload), rows):
        part = slice(start, start + rows)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(workload.clocks[part]),
                names.take(pa.array(workload.users[part])),
                pa.array(workload.models[part]),
                pa.DictionaryArray.from_arrays(pa.array(workload.channels[part]), channels),
                pa.array(workload.amounts[part]),
            ],
            schema=EVENT_SCHEMA,
        )


def read_transitions(path: Path) -> PeerTransitions:
    """Read what a peer wrote; raises InputError for a file that was cut off."""
    content = path.read_bytes()
    count, rest = divmod(len(content), _ROW_BYTES)
    if rest:
        message = f"{path.name} holds no whole number of transitions ({len(content)} bytes)."
        raise InputError(message)
    return PeerTransitions(
        at=np.frombuffer(content, "<i8", count),
        audience=np.frombuffer(content, "<i4", count, 8 * count),
        user=np.frombuffer(content, "<i4", count, 12 * count),
        entered=np.frombuffer(content, "u1", count, 16 * count),
    )
