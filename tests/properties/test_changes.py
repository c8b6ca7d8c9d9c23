"""`changes_at` is the ms at which membership flips if nothing happens: the reference looks everywhere for it."""

from __future__ import annotations

from hypothesis import given, note

from actors.evaluator.changes import next_change_ms
from tests.properties import engine
from tests.properties.engine import clocks_of
from tests.reference.conditions import Language, User
from tests.reference.evaluator import ReferenceEvaluator
from tests.strategies import Scenario, scenarios


def next_flip(language: Language, user: User, audience: str, now_ms: int) -> int | None:
    """The first due time after now at which membership is another one."""
    was = audience in language.members(user, now_ms)
    later = sorted(at for at in language.due_times(user) if at > now_ms)
    return next((at for at in later if (audience in language.members(user, at)) != was), None)


@given(scenarios(max_events=15))
def test_membership_changes_next_when_the_reference_says(scenario: Scenario) -> None:
    note(repr(scenario))
    found = engine.replay(scenario.document, scenario.events, scenario.traits)
    if found is None:
        return
    first = next(clock for _, clock in clocks_of(scenario.events) if clock is not None)
    expected = ReferenceEvaluator(scenario.document, scenario.traits, first)
    for row in scenario.events:
        expected.event(row)
    expected.advance(found.clock)
    language = Language(scenario.document)
    for user in expected.users:
        for audience in found.machine.program.audiences:
            if found.machine.parent_of(audience) == user.parent:
                wanted = next_flip(language, user, audience, found.clock)
                # Calendars and sums may be due at instants of their own; the answer must be the flip itself.
                assert next_change_ms(found.machine, audience, user.key) == wanted, (audience, user.key)
