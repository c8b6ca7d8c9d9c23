"""What identify calls in files say: null is told from absent where the form of the file can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.admission.plan import EventPlan
from cluster.definitions.parsing import parse_document
from tests.cluster.admission.building import model
from tests.cluster.replay.test_reading import as_arrow_file, as_parquet, everything, ndjson

TRAITS: list[dict[str, Any] | None] = [
    {"plan": "pro"}, {"plan": None}, {}, None, {"plan": "free", "city": "Rome"}, {"city": None},
]  # fmt: skip
#: Whether each row says its plan, and what.
SAID = [(True, "pro"), (True, None), (False, None), (False, None), (True, "free"), (False, None)]
ROWS: list[dict[str, Any]] = [
    {"type": "identify", "user_id": f"u{number}", "timestamp": "2026-11-23T10:00:00Z", "traits": traits}
    for number, traits in enumerate(TRAITS)
]


def plan() -> EventPlan:
    columns = {name: {"type": "string", "source": "identify"} for name in ("plan", "city")}
    document = {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {"columns": columns}}],
        "event_models": [model("calls", type="identify")],
    }
    return EventPlan(parse_document(document, "test.json", {}))


def table(traits: pa.Array) -> pa.Table:
    texts = {name: pa.array([row[name] for row in ROWS]) for name in ("type", "user_id", "timestamp")}
    return pa.table({**texts, "traits": traits})


def said(path: Path) -> list[tuple[bool, Any]]:
    return [(hit["p0"], hit["c0"]) for hit in everything(path, plan())[0]]


def test_lines_tell_null_from_absent(tmp_path: Path) -> None:
    assert said(ndjson(tmp_path / "e.ndjson", "\n".join(map(json.dumps, ROWS)))) == SAID


@pytest.mark.parametrize("write", [as_arrow_file, as_parquet])
def test_json_text_and_maps_tell_null_from_absent(
    tmp_path: Path, write: Callable[[pa.Table, Path], Path]
) -> None:
    texts = pa.array([None if traits is None else json.dumps(traits) for traits in TRAITS], pa.string())
    assert said(write(table(texts), tmp_path / "texts")) == SAID
    pairs = [None if traits is None else list(traits.items()) for traits in TRAITS]
    maps = pa.array(pairs, pa.map_(pa.string(), pa.string()))
    assert said(write(table(maps), tmp_path / "maps")) == SAID
    assert said(write(table(maps).slice(1, 4), tmp_path / "slice")) == SAID[1:5]


def test_a_null_field_of_a_struct_is_not_there(tmp_path: Path) -> None:
    structs = pa.array(TRAITS, pa.struct([("plan", pa.string()), ("city", pa.string())]))
    expected = [(value is not None, value) for _, value in SAID]
    assert said(as_parquet(table(structs), tmp_path / "structs")) == expected


def test_a_file_without_traits_says_nothing(tmp_path: Path) -> None:
    bare = table(pa.nulls(len(ROWS))).drop_columns(["traits"])
    assert said(as_parquet(bare, tmp_path / "bare")) == [(False, None)] * len(ROWS)
    assert said(as_parquet(table(pa.nulls(len(ROWS))), tmp_path / "nulls")) == [(False, None)] * len(ROWS)
