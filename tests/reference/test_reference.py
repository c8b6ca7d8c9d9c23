"""The oracle itself: the worked cases of semantics.md, and its boundary laws by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import START_MS
from tests.reference.conditions import Language
from tests.reference.evaluator import ReferenceEvaluator, Transition, replay, without_instant_pairs
from tests.strategies import ALL_HEADS, Scenario, scenarios

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


@given(scenarios(heads=ALL_HEADS, max_events=15), st.data())
@settings(max_examples=40)
def test_no_due_time_is_missed(scenario: Scenario, data: st.DataObject) -> None:
    """Looked at between any two rows, membership from scratch is what the transitions so far say."""
    evaluator = ReferenceEvaluator(scenario.document, scenario.traits, START_MS)
    for row in scenario.events:
        evaluator.event(row)
        later = evaluator.clock + data.draw(st.integers(0, 100_000))
        evaluator.advance(later)
        language, found = Language(scenario.document), evaluator.members()
        assert found == {(name, u.key) for u in evaluator.users for name in language.members(u, later)}


@given(scenarios(heads=ALL_HEADS, max_events=15))
@settings(max_examples=40)
def test_kinds_alternate_and_at_n_increases(scenario: Scenario) -> None:
    histories: dict[tuple[str, str], list[Transition]] = {}
    for each in replay(scenario.document, scenario.events, scenario.traits).transitions:
        histories.setdefault((each["audience_id"], each["user_id"]), []).append(each)
    for history in histories.values():
        assert [each["kind"] for each in history] == [("entered", "exited")[i % 2] for i in range(len(history))]
        places = [(each["at"], each["n"]) for each in history]
        assert places == sorted(set(places))
