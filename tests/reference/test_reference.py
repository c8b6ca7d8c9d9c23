"""The oracle itself: the worked cases of semantics.md, and its boundary laws by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.reference.evaluator import replay, without_instant_pairs

CASES = sorted((Path(__file__).parents[1] / "fixtures" / "semantics").glob("case-*"))
COMPARED = ("at", "audience_id", "user_id", "kind", "cause")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_worked_case_gives_the_expected_transitions(case: Path) -> None:
    document = json.loads((case / "definitions.json").read_text())
    traits = {"users": pq.read_table(case / "traits.parquet")}
    outcome = replay(document, lines(case / "events.ndjson"), traits)
    found = [{name: each[name] for name in COMPARED} for each in without_instant_pairs(outcome.transitions)]
    expected = [{name: each[name] for name in COMPARED} for each in lines(case / "expected.ndjson")]
    assert found == expected


def test_every_worked_case_was_found() -> None:
    assert len(CASES) == 8
