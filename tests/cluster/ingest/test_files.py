"""Event files from any row on: every format, compressed, folders, globs; what cannot be read is said by its row."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import EventFileError
from cluster.ingest import files as files_module
from cluster.ingest.files import EventFile, count_rows, event_files, read
from tests.cluster.checkpoints.servers import s3_uri


def made(folder: Path, name: str, count: int = 10) -> Path:
    path = folder / name
    table = pa.table({"user_id": [f"u{i}" for i in range(count)], "n": list(range(count))})
    kind = name.partition(".")[2]
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=3)
    elif kind in ("arrow", "arrows"):
        new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    elif kind == "csv":
        path.write_text("user_id,n\n" + "".join(f"u{i},{i}\n" for i in range(count)))
    else:
        text = "".join(f'{{"user_id": "u{i}", "n": {i}}}\n' for i in range(count)).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def one(path: str | Path, **more: Any) -> EventFile:
    (found,) = event_files([str(path)], more.get("format"), Path())
    return found


def rows(file: EventFile, skip: int = 0) -> list[tuple[int, Any]]:
    return [(part.first + place, row) for part in read(file, skip) for place, row in enumerate(part.rows)]


NAMES = ("e.parquet", "e.arrow", "e.arrows", "e.csv", "e.ndjson", "e.jsonl.gz")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 4, 2_000])
def test_a_file_is_read_from_any_row_on(tmp_path: Path, name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_ROWS", size)
    file = one(made(tmp_path, name))
    whole = rows(file)
    assert [number for number, _ in whole] == list(range(10))
    assert [row["user_id"] for _, row in whole] == [f"u{i}" for i in range(10)]
    for skip in (0, 1, 3, 5, 9, 10, 11):
        assert rows(file, skip) == whole[skip:]
    assert count_rows(file) in (10, None)


def test_folders_and_globs_are_spread_out_and_each_file_comes_once(tmp_path: Path) -> None:
    for name in NAMES:
        made(tmp_path, name)
    (tmp_path / "README.md").write_text("no events")
    found = event_files([str(tmp_path), str(tmp_path / "*.csv"), str(tmp_path / "e.csv")], None, Path())
    assert sorted(Path(file.path).name for file in found) == sorted(NAMES)
    assert {file.format for file in found} == {"ndjson", "csv", "parquet", "arrow"}


def test_the_first_bytes_tell_a_file_without_an_ending(tmp_path: Path) -> None:
    for name, format_ in (
        ("e.parquet", "parquet"),
        ("e.arrow", "arrow"),
        ("e.arrows", "arrow"),
        ("e.ndjson", "ndjson"),
    ):
        assert one(made(tmp_path, name).rename(tmp_path / "events")).format == format_
    (tmp_path / "events").write_text("a,b\n1,2\n")
    with pytest.raises(EventFileError, match="--format"):
        one(tmp_path / "events")
    assert one(tmp_path / "events", format="csv").format == "csv"


def test_lines_that_are_no_event_are_named_by_their_reason_and_blank_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "e.ndjson"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n[1]\n{"a": \n\xff\n' + b'"' + b"x" * 200 + b'"\n{"a": 2}')
    assert rows(one(path)) == [
        (0, {"a": 1}), (1, None), (2, "not_an_object"), (3, "invalid_json"), (4, "invalid_json"), (5, "not_an_object"),
        (6, {"a": 2}),
    ]  # fmt: skip


def test_a_line_without_an_end_does_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "BODY_BYTES_MAX", 64)
    path = tmp_path / "e.ndjson"
    path.write_bytes(b"x" * 10_000 + b'\n{"a": 1}\n' + b'{"b": "' + b"y" * 500 + b'"}')
    assert rows(one(path)) == [(0, "too_long"), (1, {"a": 1}), (2, "too_long")]


def test_times_of_digits_in_csv_are_numbers_and_ids_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text('user_id,timestamp,received_at,note\n007,1764518400,2026-11-23T10:00:00Z,12\n8,,soon,""\n')
    assert rows(one(path)) == [
        (0, {"user_id": "007", "timestamp": 1764518400.0, "received_at": "2026-11-23T10:00:00Z", "note": "12"}),
        (1, {"user_id": "8", "timestamp": None, "received_at": "soon", "note": ""}),
    ]


@pytest.mark.parametrize("name", ["e.parquet", "e.arrow", "e.csv"])
def test_a_damaged_file_is_said(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name, 1_000)
    path.write_bytes(path.read_bytes()[:-7] + (b"\n1,2,3\n" if name == "e.csv" else b""))
    with pytest.raises(EventFileError, match=name):
        rows(one(path))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match=r"none\.ndjson"):
        one(tmp_path / "none.ndjson")


def test_files_in_a_bucket_are_read() -> None:
    with s3_uri() as uri:
        place, _, options = uri.partition("?")
        filesystem, path = pa.fs.FileSystem.from_uri(f"{place}/day=1/e.ndjson?{options}")
        with filesystem.open_output_stream(path) as file:
            file.write(b'{"user_id": "u0"}\n')
        (found,) = event_files([f"{place}/*/e.ndjson?{options}"], None, Path())
        assert rows(found) == [(0, {"user_id": "u0"})]
