"""The worked cases of semantics.md: every head, window and operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.properties import engine
from tests.reference.evaluator import without_instant_pairs

CASES = sorted((Path(__file__).parents[1] / "fixtures" / "semantics").glob("case-*"))
COMPARED = ("at", "audience_id", "user_id", "kind", "cause")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_engine_gives_the_expected_transitions(case: Path) -> None:
    document = json.loads((case / "definitions.json").read_text())
    traits = {"users": pq.read_table(case / "traits.parquet")}
    run = engine.replay(document, lines(case / "events.ndjson"), traits)
    assert run is not None
    found = [{name: each[name] for name in COMPARED} for each in without_instant_pairs(run.transitions)]
    expected = [{name: each[name] for name in COMPARED} for each in lines(case / "expected.ndjson")]
    assert found == expected
