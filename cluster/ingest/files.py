"""Event files row by row, from any row on: NDJSON, CSV, Parquet, Arrow IPC, on any filesystem of pyarrow's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from actors.traits.sources.locations import find
from cluster.errors import EventFileError, SnapshotError
from cluster.limits import BODY_BYTES_MAX

Format = Literal["ndjson", "csv", "parquet", "arrow"]
FORMATS: Final[tuple[Format, ...]] = ("ndjson", "csv", "parquet", "arrow")
_ENDINGS: Final[dict[str, Format]] = {
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".pq": "parquet", ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
_COMPRESSIONS: Final = (".gz", ".bz2", ".zst", ".lz4")
_FOLDER_ENDINGS: Final = tuple(ending + packed for ending in _ENDINGS for packed in ("", *_COMPRESSIONS))
#: Rows that are read at a time.
_ROWS: Final = 2_000
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file to send. `identity` changes when the file does; `path` names it in message ids and for people."""

    filesystem: Any
    path: str
    identity: str
    size_bytes: int
    format: Format


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows `first..first+len-1` of a file (from 0; lines of NDJSON count, blank ones too).

    A row that cannot be read is the reason's code instead of its fields, a blank line None.
    """

    first: int
    rows: list[dict[str, Any] | str | None]


def event_files(paths: list[str], format: Format | None, base_dir: Path) -> list[EventFile]:
    """List the files that paths name, folders and globs spread out, each once. Raises `EventFileError`."""
    files: dict[str, EventFile] = {}
    for path in paths:
        try:
            found = find(path, _FOLDER_ENDINGS, base_dir)
        except SnapshotError as error:
            raise EventFileError(error.message, next_step=error.next_step) from error
        for info, identity in zip(found.infos, found.fingerprint(), strict=True):
            chosen = format or _format(found.filesystem, info.path)
            files[info.path] = EventFile(found.filesystem, info.path, identity, info.size or 0, chosen)
    return list(files.values())


def read(file: EventFile, skip: int = 0) -> Iterator[Rows]:
    """Give a file's rows from row `skip` on, in order. Raises `EventFileError` where the file itself is at fault."""
    with _readable(file.path):
        yield from _READERS[file.format](file, skip)


def count_rows(file: EventFile) -> int | None:
    """Give the number of rows where the format says it; None: only reading tells."""
    if file.format not in ("parquet", "arrow"):
        return None
    with _readable(file.path), file.filesystem.open_input_file(file.path) as opened:
        if file.format == "parquet":
            return int(pq.ParquetFile(opened).metadata.num_rows)
        if opened.read(6) != b"ARROW1":
            return None
        opened.seek(0)
        reader = pa.ipc.open_file(opened)
        return sum(int(reader.get_batch(index).num_rows) for index in range(reader.num_record_batches))


def _format(filesystem: Any, path: str) -> Format:
    """Tell by the ending, else by the first bytes."""
    name = path.lower()
    for packed in _COMPRESSIONS:
        name = name.removesuffix(packed)
    for ending, format_ in _ENDINGS.items():
        if name.endswith(ending):
            return format_
    with _readable(path), filesystem.open_input_stream(path) as stream:
        start = stream.read(8)
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if start.lstrip()[:1] == b"{":
        return "ndjson"
    message = f"{path}: neither its ending nor its first bytes say what it is."
    raise EventFileError(message, next_step=f"Give --format: {', '.join(FORMATS)}.")


def _ndjson(file: EventFile, skip: int) -> Iterator[Rows]:
    with file.filesystem.open_input_stream(file.path) as stream:
        lines = io.BufferedReader(stream, 1 << 20)
        number, rows = 0, []
        for line in _lines(lines):
            if number >= skip:
                rows.append(_line(line))
            number += 1
            if len(rows) == _ROWS:
                yield Rows(number - len(rows), rows)
                rows = []
        if rows:
            yield Rows(number - len(rows), rows)


def _lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """Give lines, of one that is longer than any event may be only its beginning: memory stays bounded."""
    while line := stream.readline(BODY_BYTES_MAX):
        whole = line
        while line and not line.endswith(b"\n"):
            line = stream.readline(BODY_BYTES_MAX)
            if line:
                whole = whole[: BODY_BYTES_MAX + 1] + line[:1]
        yield whole


def _line(line: bytes) -> dict[str, Any] | str | None:
    text = line.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        return None
    if len(text) > BODY_BYTES_MAX:
        return "too_long"
    try:
        row = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "invalid_json"
    return row if isinstance(row, dict) else "not_an_object"


def _csv(file: EventFile, skip: int) -> Iterator[Rows]:
    delimiter = "\t" if ".tsv" in file.path.lower() else ","
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with file.filesystem.open_input_stream(file.path) as stream, pa.csv.open_csv(stream, parse_options=parse) as head:
        names = head.schema.names
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=False,
        null_values=[""],
    )  # fmt: skip
    with (
        file.filesystem.open_input_stream(file.path) as stream,
        pa.csv.open_csv(stream, parse_options=parse, convert_options=convert) as rows,
    ):
        for found in _cut(rows, skip):
            yield Rows(found.first, [_with_times(row) for row in found.rows])


def _with_times(row: dict[str, Any] | str | None) -> dict[str, Any] | str | None:
    """Read times of digits alone as numbers (s or ms since 1970): text of digits is no time."""
    if not isinstance(row, dict):
        return row
    return {
        name: float(value) if name in ("timestamp", "received_at", "receivedAt") and _is_number(value) else value
        for name, value in row.items()
    }


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).isdecimal() and value.isascii()


def _parquet(file: EventFile, skip: int) -> Iterator[Rows]:
    with file.filesystem.open_input_file(file.path) as opened, pq.ParquetFile(opened) as parquet:
        groups, before = 0, 0
        while groups < parquet.num_row_groups:
            rows = parquet.metadata.row_group(groups).num_rows
            if before + rows > skip:
                break
            groups, before = groups + 1, before + rows
        left = list(range(groups, parquet.num_row_groups))
        if left:
            yield from _cut(parquet.iter_batches(_ROWS, row_groups=left), skip, before)


def _arrow(file: EventFile, skip: int) -> Iterator[Rows]:
    with file.filesystem.open_input_file(file.path) as opened:
        is_file = opened.read(6) == b"ARROW1"
        opened.seek(0)
        reader = pa.ipc.open_file(opened) if is_file else pa.ipc.open_stream(opened)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
        yield from _cut(batches, skip)


def _cut(batches: Any, skip: int, first: int = 0) -> Iterator[Rows]:
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            part = batch.slice(start, _ROWS)
            if first + part.num_rows > skip:
                kept = part.slice(max(0, skip - first))
                yield Rows(first + part.num_rows - kept.num_rows, kept.to_pylist())
            first += part.num_rows


_READERS: Final = {"ndjson": _ndjson, "csv": _csv, "parquet": _parquet, "arrow": _arrow}


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        message = f"{path} went away."
        raise EventFileError(message, next_step="Run the command again once it is there: it goes on.") from error
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        message = f"{path} is cut off or not what its ending says: {str(error).rstrip('.')}."
        raise EventFileError(
            message, next_step="Correct the file or give --format. What was sent stays sent."
        ) from error
