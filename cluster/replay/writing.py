"""Transitions to a file: Arrow IPC, Parquet or NDJSON, in order, whole or not at all.

Until they are written, transitions stay as integers (22 bytes each); names and ids are made a slice at a time, so
memory does not follow the file's size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import Transitions
from cluster.errors import InputError, StorageFull
from cluster.limits import RETRY_AFTER_MS
from cluster.model.transitions import transition_ids

#: An Arrow record batch; pyarrow ships no types.
Batch: TypeAlias = Any
WriteBatch: TypeAlias = Callable[[Batch], None]

#: Rows named and written at once: about 20 MB.
SLICE_ROWS: Final = 131_072
OUTPUT_SCHEMA: Final = pa.schema(
    [
        ("transition_id", pa.string()),
        ("audience_id", pa.string()),
        ("audience_version", pa.int32()),
        ("user_id", pa.string()),
        ("kind", pa.string()),
        ("at", pa.int64()),
        ("n", pa.int32()),
        ("cause", pa.string()),
    ]
)


def check_target(path: Path) -> None:
    """See to it that a run of hours does not end at a wrong name; raises InputError."""
    if path.suffix not in _WRITERS:
        message = f"--out {path}: the ending says the format, found {path.suffix or 'none'!r}."
        raise InputError(message, next_step=f"End it in {', '.join(_WRITERS)}.")
    if path.is_dir():
        message = f"--out {path} is a folder."
        raise InputError(message, next_step="Name a file.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        message = f"--out {path}: its folder is missing or cannot be written."
        raise InputError(message, next_step="Make the folder, or write to another one.")


def write_transitions(path: Path, machine: EvaluatorMachine, transitions: Transitions) -> None:
    """Write all transitions of a run, ordered by at, audience_id, user_id, n; replaces `path` once all is written.

    Cost: about 3 µs a transition, ids the largest part. Raises StorageFull where the disk does not take it.
    """
    with whole_file(path) as temporary, _WRITERS[path.suffix](temporary) as write:
        for batch in ordered_batches(machine, transitions):
            write(batch)


def write_nothing(path: Path) -> None:
    """Write a file without transitions."""
    with whole_file(path) as temporary, _WRITERS[path.suffix](temporary) as write:
        write(pa.RecordBatch.from_pylist([], schema=OUTPUT_SCHEMA))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes `path`'s name on success and is deleted on anything else."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}."
        raise StorageFull(message, retry_after_ms=RETRY_AFTER_MS, next_step="Make room, or write elsewhere.") from error
    finally:
        temporary.unlink(missing_ok=True)


def ordered_batches(machine: EvaluatorMachine, transitions: Transitions) -> Iterator[Batch]:
    """Give the transitions in order, a slice at a time, in OUTPUT_SCHEMA."""
    order = output_order(machine, transitions)
    for start in range(0, len(order), SLICE_ROWS):
        chosen = order[start : start + SLICE_ROWS]
        part = Transitions(
            transitions.user[chosen],
            transitions.audience[chosen],
            transitions.at[chosen],
            transitions.n[chosen],
            transitions.entered[chosen],
            transitions.cause[chosen],
        )
        yield _with_ids(machine.transitions_table(part))


def output_order(machine: EvaluatorMachine, transitions: Transitions) -> npt.NDArray[np.int64]:
    """Give the indices that put transitions in order of at, audience_id, user_id, n; text by code point."""
    audience_rank = _ranks(pa.array(machine.program.audiences, pa.string()))
    user_rank = _ranks(machine.user_keys(np.arange(machine.user_count, dtype=np.int32)))
    names = audience_rank[transitions.audience] * np.int64(max(machine.user_count, 1)) + user_rank[transitions.user]
    return np.lexsort((transitions.n, names, transitions.at))


def _ranks(names: Any) -> npt.NDArray[np.int64]:
    """Give each name's place among all in order of code points, which is the order of UTF-8 bytes."""
    order = pc.sort_indices(names).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _with_ids(batch: Batch) -> Batch:
    ids = transition_ids(
        batch.column("audience_id").to_pylist(),
        batch.column("audience_version").to_pylist(),
        batch.column("user_id").to_pylist(),
        batch.column("at").to_pylist(),
        batch.column("n").to_pylist(),
    )
    columns = [pa.array(ids, pa.string()), *(batch.column(name) for name in OUTPUT_SCHEMA.names[1:])]
    return pa.RecordBatch.from_arrays(columns, schema=OUTPUT_SCHEMA)


# --- formats ---------------------------------------------------------------------------------------


@contextmanager
def _arrow(path: Path) -> Iterator[WriteBatch]:
    with pa.ipc.new_file(str(path), OUTPUT_SCHEMA) as writer:
        yield writer.write_batch


@contextmanager
def _parquet(path: Path) -> Iterator[WriteBatch]:
    # Ids are all different: a dictionary of them would only be thrown away.
    with pq.ParquetWriter(
        str(path), OUTPUT_SCHEMA, compression="zstd", use_dictionary=["audience_id", "kind", "cause"]
    ) as writer:
        yield writer.write_batch


@contextmanager
def _ndjson(path: Path) -> Iterator[WriteBatch]:
    with path.open("wb") as stream:
        yield lambda batch: _write_lines(stream, batch)


def _write_lines(stream: IO[bytes], batch: Batch) -> None:
    """Write one JSON object a line, put together column by column: no Python object a row."""
    if batch.num_rows == 0:
        return
    pieces: list[Any] = []
    for index, field in enumerate(OUTPUT_SCHEMA):
        pieces += [f"{',' if index else '{'}{json.dumps(field.name)}:", _json_values(batch.column(index))]
    lines = pc.binary_join_element_wise(*[*pieces, "}\n"], "")
    _, offsets, data = lines.cast(pa.large_string()).buffers()
    ends = np.frombuffer(offsets, np.int64)
    stream.write(memoryview(data)[int(ends[lines.offset]) : int(ends[lines.offset + len(lines)])])


def _json_values(column: Any) -> Any:
    """Give each value as JSON text in ASCII (readers also split lines at U+2028); each distinct text is made once."""
    if not pa.types.is_string(column.type):
        return column.cast(pa.string())
    distinct = column.dictionary_encode()
    encoded = pa.array([json.dumps(value) for value in distinct.dictionary.to_pylist()], pa.string())
    return encoded.take(distinct.indices)


_WRITERS: Final[dict[str, Callable[[Path], AbstractContextManager[WriteBatch]]]] = {
    ".arrow": _arrow,
    ".parquet": _parquet,
    ".ndjson": _ndjson,
}
