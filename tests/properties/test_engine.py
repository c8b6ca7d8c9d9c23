"""The engine is the reference evaluator, only faster: same transitions, however its input is cut."""

from __future__ import annotations

from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from tests.conftest import START_MS
from tests.properties import engine
from tests.properties.engine import Engine, clocks_of, comparable
from tests.reference import evaluator as reference
from tests.reference.evaluator import ReferenceEvaluator
from tests.strategies import Scenario, changed, cuts, scenarios, steps


def end_of(scenario: Scenario) -> int:
    note(repr(scenario))
    clocks = [clock for _, clock in clocks_of(scenario.events) if clock is not None]
    return max(clocks, default=START_MS) + scenario.tail_ms


@given(scenarios())
def test_engine_gives_the_transitions_of_the_reference(scenario: Scenario) -> None:
    until_ms = end_of(scenario)
    expected = reference.replay(scenario.document, scenario.events, scenario.traits, until_ms)
    found = engine.replay(scenario.document, scenario.events, scenario.traits, (), until_ms)
    assert comparable(found.transitions if found else []) == comparable(expected.transitions)
    assert (found.members() if found else set()) == expected.members


@given(scenarios())
def test_engine_accepts_and_rejects_the_rows_that_the_reference_does(scenario: Scenario) -> None:
    expected = ReferenceEvaluator(scenario.document, {}, START_MS)
    reasons = [expected.event(row) or "accepted" for row in scenario.events]
    found = engine.replay(scenario.document, scenario.events, {})
    assert found is None or found.outcomes == reasons


@given(scenarios(), st.data())
def test_any_cut_into_batches_gives_the_same_transitions(scenario: Scenario, data: st.DataObject) -> None:
    until_ms = end_of(scenario)
    places = data.draw(cuts(len(scenario.events)))
    whole = engine.replay(scenario.document, scenario.events, scenario.traits, (), until_ms)
    cut = engine.replay(scenario.document, scenario.events, scenario.traits, places, until_ms)
    one_by_one = range(len(scenario.events))
    single = engine.replay(scenario.document, scenario.events, scenario.traits, one_by_one, until_ms)
    histories = [run.transitions if run else [] for run in (whole, cut, single)]
    assert histories[1] == histories[0], places
    assert histories[2] == histories[0], "one by one"


@given(scenarios(max_events=12), st.data())
def test_a_live_history_is_the_one_of_the_reference(scenario: Scenario, data: st.DataObject) -> None:
    """Batches of one received clock, ticks, snapshots and publications, in any order."""
    note(repr(scenario))
    history = data.draw(steps(scenario))
    expected = ReferenceEvaluator(scenario.document, scenario.traits, START_MS, sourceless_fits_all=False)
    found = Engine(scenario.document, scenario.traits, START_MS, sourceless_fits_all=False)
    for step in history:
        play(expected, found, step)
        assert comparable(found.transitions) == comparable(expected.transitions), step
        assert found.members() == expected.members()


def play(expected: ReferenceEvaluator, found: Engine, step: tuple[str, int, Any]) -> None:
    kind, after_ms, value = step
    now_ms = expected.clock + after_ms
    if kind == "batch":
        for row in value:
            expected.event(row, now_ms)
        found.batch([(row, now_ms) for row in value], live=True)
        expected.advance(now_ms)
    elif kind == "tick":
        expected.advance(now_ms)
        found.advance(now_ms)
    elif kind == "traits":
        parent, table = value
        expected.traits(parent, table, now_ms)
        found.traits(parent, table, now_ms)
    else:
        expected.publish(value, now_ms)
        found.publish(value, now_ms)


@given(scenarios(max_events=12), st.data())
def test_published_later_is_as_if_always_published(scenario: Scenario, data: st.DataObject) -> None:
    later = data.draw(changed(scenario.document))
    note(repr(scenario))
    clocked = clocks_of(scenario.events)
    timed = [row for row in clocked if row[1] is not None]
    first = timed[0][1] if timed else START_MS
    published_late = Engine(scenario.document, {}, first or START_MS)
    published_late.batch(clocked)
    now_ms = published_late.clock + scenario.tail_ms
    published_late.publish(later, now_ms)
    always = Engine(later, {}, first or START_MS)
    always.batch(clocked)
    always.advance(now_ms)
    assert published_late.members() == always.members()
