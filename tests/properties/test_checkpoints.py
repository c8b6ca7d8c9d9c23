"""A machine restored from a checkpoint at any point, and the rest of the input, is the machine that never stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import event as count
from hypothesis import given, note
from hypothesis import strategies as st

from actors.evaluator import recovery, worker
from actors.evaluator.stimuli import Tick
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from tests.actors.evaluator.test_worker import Evaluator
from tests.properties.engine import snapshot_of
from tests.strategies import Scenario, scenarios, steps

#: How a recovery replays: every change as it was made, or windows alone and then everybody's membership.
MADE, FED = 0, 10**9


@contextmanager
def replayed(users_an_event: int, wave_users: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "USERS_AN_EVENT", users_an_event)
        patch.setattr(worker, "WAVE_USERS", wave_users)
        yield


class Played:
    """A live history into an evaluator, with checkpoints after some steps and restarts after some."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        definitions = publish(None, parse_document(scenario.document, "test.json", {}))
        self.evaluator = Evaluator(folder, definitions, checkpoints=True)
        self._versions: dict[str, int] = {}
        #: what became of each batch's hits
        self.outcomes: list[bytes] = []
        for parent, table in scenario.traits.items():
            self._take(parent, table)

    def _take(self, parent: str, table: Any) -> None:
        model = self.evaluator.published.definitions.parent_models.get(parent)
        if model is not None and model.snapshot_columns:
            self._versions[parent] = self._versions.get(parent, 0) + 1
            types = {name: column.type for name, column in model.snapshot_columns.items()}
            snapshot = snapshot_of(model.primary_key, types, table)
            reply = self.evaluator.take_snapshot(parent, self._versions[parent], snapshot)
            while "error" in reply:  # a wave goes first
                self.evaluator.do(Tick())
                reply = self.evaluator.take_snapshot(parent, self._versions[parent], snapshot)

    def step(self, kind: str, after_ms: int, value: Any) -> None:
        evaluator = self.evaluator
        evaluator.clock.advance(after_ms)
        if kind == "batch":
            rows = [{k: v for k, v in row.items() if k != "received_at"} for row in value]
            self.outcomes.append(evaluator.do(evaluator.batch(*rows))[0]["outcomes"])
        elif kind == "traits":
            self._take(*value)
        elif kind == "definitions":
            while evaluator.worker.behind:
                evaluator.do(Tick())
            evaluator.published = publish(evaluator.published, parse_document(value, "test.json", {}))
            evaluator.put_in_force(evaluator.published)

    def end(self) -> dict[str, Any]:
        evaluator = self.evaluator
        for after_ms in (0, 400_000):
            evaluator.clock.advance(after_ms)
            evaluator.do(Tick())
            while evaluator.worker.behind:
                evaluator.do(Tick())
        machine = evaluator.worker.machine
        assert machine is not None
        status = evaluator.worker._status()
        return {
            "history": sorted(evaluator.history()),
            "ids": sorted(evaluator.ids()),
            "outcomes": self.outcomes,
            "members": sorted((a, k) for a in machine.program.audiences
                              for k in machine.user_keys(machine.members(a)).to_pylist()),
            "alive": machine.counters()["alive"],
            "counts": evaluator.worker.counts,
            "sizes": {name: row["size"] for name, row in status["audiences"].items()},
            "dedup_horizon_ms": machine.dedup_horizon_ms(),
        }  # fmt: skip


@given(
    scenarios(max_events=12), st.data(), st.sampled_from([MADE, FED, recovery.USERS_AN_EVENT]),
    st.sampled_from([1, worker.WAVE_USERS]),
)  # fmt: skip
def test_a_machine_from_a_checkpoint_goes_on_as_if_it_had_never_stopped(
    scenario: Scenario, data: st.DataObject, users_an_event: int, wave_users: int
) -> None:
    history = data.draw(steps(scenario))
    places = st.sets(st.integers(0, len(history)))
    checkpoints, crashes = data.draw(places), data.draw(st.sets(st.integers(0, len(history)), min_size=1))
    note(repr(scenario))
    with TemporaryDirectory() as name, replayed(users_an_event, wave_users):
        whole = Played(Path(name) / "whole", scenario)
        crashed = Played(Path(name) / "crashed", scenario)
        for place, (kind, after_ms, value) in enumerate(history):
            for each in (whole, crashed):
                each.step(kind, after_ms, value)
            if place in checkpoints:
                taken = crashed.evaluator.checkpoint()
                assert taken is not crashed.evaluator.worker.behind
            if place in crashes:
                crashed.evaluator.reopen()
                count("from a checkpoint" if crashed.evaluator.origin["checkpoint_seq"] else "from the log")
        expected = whole.end()
        assert crashed.end() == expected
    assert len(set(expected["ids"])) == len(expected["ids"])
