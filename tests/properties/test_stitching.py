"""Anonymous ids that join users: engine and reference do the same, however the input is cut (docs/stitching.md)."""

from __future__ import annotations

import json

from hypothesis import given, note
from hypothesis import strategies as st

from cluster.admission.decoder import Decoder
from cluster.admission.plain import decode_plain
from cluster.admission.plan import EventPlan
from cluster.admission.timestamps import Format
from cluster.definitions.parsing import parse_document
from cluster.wire.envelope import envelope_of
from tests.conftest import START_MS
from tests.properties import engine
from tests.properties.engine import Engine, comparable
from tests.properties.test_engine import end_of, play
from tests.reference import evaluator as reference
from tests.reference.evaluator import ReferenceEvaluator
from tests.strategies import Scenario, cuts, scenarios, steps


@given(scenarios(stitched=True))
def test_engine_joins_ids_as_the_reference_does(scenario: Scenario) -> None:
    until_ms = end_of(scenario)
    expected = reference.replay(scenario.document, scenario.events, scenario.traits, until_ms)
    found = engine.replay(scenario.document, scenario.events, scenario.traits, (), until_ms)
    assert comparable(found.transitions if found else []) == comparable(expected.transitions)
    assert (found.members() if found else set()) == expected.members


@given(scenarios(stitched=True))
def test_engine_accepts_and_rejects_the_rows_that_the_reference_does(scenario: Scenario) -> None:
    expected = ReferenceEvaluator(scenario.document, {}, START_MS)
    reasons = [expected.event(row) or "accepted" for row in scenario.events]
    found = engine.replay(scenario.document, scenario.events, {})
    assert found is None or found.outcomes == reasons


@given(scenarios(stitched=True), st.data())
def test_any_cut_into_batches_joins_the_same(scenario: Scenario, data: st.DataObject) -> None:
    until_ms = end_of(scenario)
    places = data.draw(cuts(len(scenario.events)))
    whole = engine.replay(scenario.document, scenario.events, scenario.traits, (), until_ms)
    cut = engine.replay(scenario.document, scenario.events, scenario.traits, places, until_ms)
    one_by_one = range(len(scenario.events))
    single = engine.replay(scenario.document, scenario.events, scenario.traits, one_by_one, until_ms)
    histories = [run.transitions if run else [] for run in (whole, cut, single)]
    assert histories[1] == histories[0], places
    assert histories[2] == histories[0], "one by one"


@given(scenarios(max_events=12, stitched=True), st.data())
def test_a_live_history_with_publications_is_the_one_of_the_reference(scenario: Scenario, data: st.DataObject) -> None:
    note(repr(scenario))
    history = data.draw(steps(scenario))
    expected = ReferenceEvaluator(scenario.document, scenario.traits, START_MS, sourceless_fits_all=False)
    found = Engine(scenario.document, scenario.traits, START_MS, sourceless_fits_all=False)
    for step in history:
        play(expected, found, step)
        assert comparable(found.transitions) == comparable(expected.transitions), step
        assert found.members() == expected.members()


@given(scenarios(max_events=20, stitched=True), st.sampled_from([Format.NATIVE, Format.SEGMENT]))
def test_both_decoders_find_the_same_links(scenario: Scenario, fmt: Format) -> None:
    plan = EventPlan(parse_document(scenario.document, "test.json", {}))
    events = [{_SDK_NAMES.get(name, name) if fmt else name: value for name, value in row.items()}
              for row in scenario.events]  # fmt: skip
    envelope = envelope_of([json.dumps(event).encode() for event in events], fmt)
    fast, plain = Decoder(plan).decode(envelope), decode_plain(plan, envelope)
    assert fast.rejected == plain.rejected
    assert fast.hits.to_pylist() == plain.hits.to_pylist()


_SDK_NAMES = {
    "user_id": "userId", "anonymous_id": "anonymousId", "previous_id": "previousId", "message_id": "messageId",
    "group_id": "groupId",
}  # fmt: skip
