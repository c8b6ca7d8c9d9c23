"""CSV as it comes: compressed, other delimiters, no header, ends of line in quotes, what is missing and what not."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.traits.reading import load_snapshot
from cluster.definitions.model import ValueType
from tests.actors.traits.making import parent, source_of, with_source
from tests.actors.traits.sources.reading import refused


def snapshot(path: Path, columns: dict[str, ValueType] | None = None, **settings: Any) -> list[dict[str, Any]]:
    source = source_of("csv", path=str(path), **settings)
    found, _ = load_snapshot(with_source(parent(columns), source), 64, Path())
    rows: pa.Table = found.table.drop_columns(["partition"])
    return rows.to_pylist()


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


U0 = {"key": "u0", "ltv": 1.5, "tier": "gold"}


def test_texts_are_coerced_to_their_declared_types_and_never_guessed(tmp_path: Path) -> None:
    text = 'user_id,flag,likes,code,seen\n007,true,"[""a"", 1]",1e3,2026-11-23T10:00:00Z\n8,yes,a|b,,soon\n'
    columns: dict[str, ValueType] = {"flag": "boolean", "likes": "list", "code": "string", "seen": "timestamp"}
    assert snapshot(written(tmp_path / "u.csv", text), columns) == [
        {"key": "007", "flag": True, "likes": ["a", "1"], "code": "1e3", "seen": 1_795_428_000_000},
        {"key": "8", "flag": None, "likes": None, "code": None, "seen": None},
    ]


def test_an_empty_text_in_quotes_is_a_value_and_without_it_is_missing(tmp_path: Path) -> None:
    rows = snapshot(written(tmp_path / "u.csv", 'user_id,ltv,tier\nu0,1,""\nu1,2,\n'))
    assert [row["tier"] for row in rows] == ["", None]


def test_other_texts_may_stand_for_missing(tmp_path: Path) -> None:
    rows = snapshot(written(tmp_path / "u.csv", "user_id,ltv,tier\nu0,\\N,NULL\n"), null_values=["\\N", "NULL"])
    assert rows == [{"key": "u0", "ltv": None, "tier": None}]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("user_id;ltv;tier\nu0;1.5;gold\n", {"delimiter": ";"}),
        ("user_id\tltv\ttier\r\nu0\t1.5\tgold\r\n", {"delimiter": "\t"}),
        ("tier,user_id,unasked,ltv\n'gold',u0,x,1.5", {"quote": "'"}),
        ("u0,1.5,gold\n", {"column_names": ["user_id", "ltv", "tier"]}),
        ("\ufeffuser_id,ltv,tier\nu0,1.5,gold\n", {}),
        ("user_id,ltv,tier\nu0,1.5,gold\n".encode("utf-16"), {"encoding": "utf-16"}),
    ],
)
def test_dialects_are_read_as_they_are_declared(tmp_path: Path, text: str | bytes, settings: dict[str, Any]) -> None:
    assert snapshot(written(tmp_path / "u.csv", text), **settings) == [U0]


def test_an_end_of_line_in_quotes_is_part_of_the_text(tmp_path: Path) -> None:
    rows = snapshot(written(tmp_path / "u.csv", 'user_id,ltv,tier\nu0,1.5,"two\nlines"\nu1,2,x\n'))
    assert [row["tier"] for row in rows] == ["two\nlines", "x"]


def test_compressed_files_of_a_folder_are_read(tmp_path: Path) -> None:
    head = b"user_id,ltv,tier\n"
    written(tmp_path / "a.csv.gz", gzip.compress(head + b"u0,1.5,gold\n"))
    written(tmp_path / "b.csv.bz2", bz2.compress(head + b"u1,1.5,gold\n"))
    written(tmp_path / "c.csv", head + b"u2,1.5,gold\n")
    written(tmp_path / "notes.txt", b"not a table")
    assert [row["key"] for row in snapshot(tmp_path)] == ["u0", "u1", "u2"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "damaged"),
        (b"user_id,ltv,tier\nu0,1.5\n", "damaged"),
        (b"user_id,ltv,tier\n\xff\xfe,1,x\n", "damaged"),
        (b"user_id,ltv\nu0,1\n", "missing_column"),
        (b"user_id,ltv,ltv,tier\nu0,1,2,x\n", "ambiguous_column"),
    ],
)
def test_bad_files_are_refused_by_their_reason(tmp_path: Path, text: bytes, reason: str) -> None:
    path = written(tmp_path / "u.csv", text)
    assert "u.csv" in refused(source_of("csv", path=str(path)), reason)
