"""A crash between any two groups of inputs: nothing lost, nothing doubled, every transition under its own id."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from actors.evaluator.reach import recovery_ms
from actors.evaluator.stimuli import Tick
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from tests.actors.evaluator.driving import Evaluator
from tests.properties.engine import snapshot_of
from tests.strategies import Scenario, scenarios, steps


def played(
    folder: Path, scenario: Scenario, history: list[Any], crashes: frozenset[int], *, trimmed: bool = False
) -> tuple[Any, list[str]]:
    """Play a live history into an evaluator on a log, reopened after some steps; give what it stored.

    `trimmed`: before it is opened again the log loses all that recovery does not need.
    """
    evaluator = Evaluator(folder, publish(None, parse_document(scenario.document, "test.json", {})))
    versions: dict[str, int] = {}

    def take(parent: str, table: Any) -> None:
        model = evaluator.published.definitions.parent_models.get(parent)
        if model is not None and model.snapshot_columns:
            versions[parent] = versions.get(parent, 0) + 1
            types = {name: column.type for name, column in model.snapshot_columns.items()}
            evaluator.take_snapshot(parent, versions[parent], snapshot_of(model.primary_key, types, table))

    for parent, table in scenario.traits.items():
        take(parent, table)
    for place, (kind, after_ms, value) in enumerate(history):
        evaluator.clock.advance(after_ms)
        if kind == "batch":
            evaluator.do(evaluator.batch(*({k: v for k, v in row.items() if k != "received_at"} for row in value)))
        elif kind == "traits":
            take(*value)
        elif kind == "definitions":
            evaluator.published = publish(evaluator.published, parse_document(value, "test.json", {}))
            evaluator.put_in_force(evaluator.published)
        evaluator.do(Tick())
        if place in crashes:
            machine = evaluator.worker.machine
            if trimmed and machine is not None:
                log, needed_ms = evaluator.worker.log, recovery_ms(evaluator.published.definitions)
                log.trim(machine.settled_ms - needed_ms)
            evaluator.reopen()
    evaluator.clock.advance(400_000)
    evaluator.do(Tick())
    return sorted(evaluator.history()), sorted(evaluator.ids())


@given(scenarios(max_events=12), st.data())
@settings(max_examples=25)
def test_a_crash_between_any_two_groups_changes_no_transition(scenario: Scenario, data: st.DataObject) -> None:
    history = data.draw(steps(scenario))
    crashes = data.draw(st.sets(st.integers(0, len(history)), min_size=1))
    note(repr(scenario))
    with TemporaryDirectory() as name:
        whole = played(Path(name) / "whole", scenario, history, frozenset())
        crashed = played(Path(name) / "crashed", scenario, history, frozenset(crashes))
    assert crashed == whole
    assert len(set(whole[1])) == len(whole[1])


@given(scenarios(max_events=12), st.data())
@settings(max_examples=25)
def test_a_log_without_what_recovery_does_not_need_gives_the_same(scenario: Scenario, data: st.DataObject) -> None:
    """Under the definitions in force: those published later are backfilled from what is left."""
    history = [step for step in data.draw(steps(scenario)) if step[0] != "definitions"]
    crashes = data.draw(st.sets(st.integers(0, len(history)), min_size=1))
    note(repr(scenario))
    with TemporaryDirectory() as name:
        whole = played(Path(name) / "whole", scenario, history, frozenset())
        crashed = played(Path(name) / "crashed", scenario, history, frozenset(crashes), trimmed=True)
    assert crashed == whole
