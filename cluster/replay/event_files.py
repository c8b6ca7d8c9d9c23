"""Event files opened and cut into slices: Arrow IPC (file or stream), Parquet, NDJSON. The content says which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import EventFileError
from cluster.limits import REPLAY_SLICE_BYTES_MAX, REPLAY_SLICE_ROWS
from cluster.replay.table_columns import RowNames, check_fields

_ARROW_FILE, _PARQUET = b"ARROW1", b"PAR1"
#: The first bytes of an Arrow stream (of versions since 0.15).
_ARROW_STREAM = b"\xff\xff\xff\xff"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Rows:
    """A slice of a columnar file: its canonical fields, one contiguous array each."""

    columns: dict[str, pa.Array]
    row_count: int
    where: RowNames


@dataclass(frozen=True, slots=True)
class Lines:
    """A slice of an NDJSON file: texts of its lines that are not blank, and their numbers, from 1."""

    texts: list[bytes]
    numbers: list[int]


def slices(file: str) -> Iterator[Rows] | Iterator[Lines]:
    """Cut a file into slices of at most REPLAY_SLICE_ROWS rows, in its order.

    Raises EventFileError, also while iterating: no such file, not readable, cut off, no event fields.
    """
    try:
        with Path(file).open("rb") as opened:
            start = opened.read(8)
    except OSError as error:
        message = f"{file}: the event file cannot be opened: {error.strerror or error}."
        raise EventFileError(message, next_step="Correct the path, or let your user read it.") from error
    if start.startswith(_PARQUET):
        return _parquet_slices(file)
    if start.startswith(_ARROW_FILE):
        return _arrow_slices(file, stream=False)
    if start.startswith(_ARROW_STREAM):
        return _arrow_slices(file, stream=True)
    if start.removeprefix(_BOM).lstrip()[:1] not in (b"{", b""):
        message = f"{file}: it is no event file; its first bytes are {start!r}."
        raise EventFileError(message, next_step="Allowed: Arrow IPC (file or stream), Parquet, NDJSON of events.")
    return _line_slices(file)


@contextmanager
def _readable(file: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        message = f"{file}: the file is damaged or cut off: {error}"
        raise EventFileError(message, next_step="Write it anew, then run this again.") from error


def _parquet_slices(file: str) -> Iterator[Rows]:
    with _readable(file), pq.ParquetFile(file, memory_map=True) as opened:
        fields = check_fields(opened.schema_arrow, file)
        batches = opened.iter_batches(batch_size=REPLAY_SLICE_ROWS, columns=fields)
        yield from _row_slices(file, fields, batches)


def _arrow_slices(file: str, *, stream: bool) -> Iterator[Rows]:
    with _readable(file), pa.memory_map(file) as mapped:
        if stream:
            reader = pa.ipc.open_stream(mapped)
            fields = check_fields(reader.schema, file)
            yield from _row_slices(file, fields, reader)
        else:
            opened = pa.ipc.open_file(mapped)
            fields = check_fields(opened.schema, file)
            yield from _row_slices(file, fields, map(opened.get_batch, range(opened.num_record_batches)))


def _row_slices(file: str, fields: list[str], batches: Iterator[pa.RecordBatch]) -> Iterator[Rows]:
    """Join small batches and cut large ones."""
    first_row = 0
    for table in _tables(fields, batches):
        for start in range(0, table.num_rows, REPLAY_SLICE_ROWS):
            part = table.slice(start, REPLAY_SLICE_ROWS)
            part.validate(full=True)  # kernels trust offsets and indices: a damaged file must not crash them
            rows = np.arange(first_row, first_row + part.num_rows)
            yield Rows({name: _array(part.column(name)) for name in fields}, part.num_rows, RowNames(file, rows))
            first_row += part.num_rows


def _tables(fields: list[str], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    row_count = 0
    for batch in batches:
        waiting.append(batch.select(fields))
        row_count += batch.num_rows
        if row_count >= REPLAY_SLICE_ROWS:
            yield pa.Table.from_batches(waiting).unify_dictionaries()
            waiting, row_count = [], 0
    if row_count:
        yield pa.Table.from_batches(waiting).unify_dictionaries()


def _array(column: pa.ChunkedArray) -> pa.Array:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    return array.storage if isinstance(array.type, pa.BaseExtensionType) else array


def _line_slices(file: str) -> Iterator[Lines]:
    """Read lines by blocks; a last line without newline counts, blank ones do not."""
    texts: list[bytes] = []
    numbers: list[int] = []
    size = 0
    with _readable(file), Path(file).open("rb", buffering=1 << 20) as opened:
        for number, line in enumerate(opened, start=1):
            text = (line.removeprefix(_BOM) if number == 1 else line).strip()
            if not text:
                continue
            texts.append(text)
            numbers.append(number)
            size += len(text)
            if len(texts) >= REPLAY_SLICE_ROWS or size >= REPLAY_SLICE_BYTES_MAX:
                yield Lines(texts, numbers)
                texts, numbers, size = [], [], 0
    if texts:
        yield Lines(texts, numbers)
