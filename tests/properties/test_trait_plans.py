"""A snapshot taken by a plan is the same one taken at once where its entry lies: any work between, any crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import event as count
from hypothesis import given, note
from hypothesis import strategies as st

from actors.evaluator import trait_taking, worker
from actors.evaluator.packing import unpack_traits
from actors.evaluator.stimuli import Append, GoOnWithTraits, LookAtTraits, PlanTraits, TakeTraits, Tick
from actors.evaluator.trait_rows import TraitRows, prepare
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.log.records import Entry
from cluster.wire.envelope import unpack
from tests.actors.evaluator.driving import Evaluator
from tests.properties.engine import snapshot_of
from tests.strategies import Scenario, scenarios, steps

#: What may happen after any input.
BETWEEN = ("step", "step", "step", "wait", "wait", "tick", "crash", "checkpoint")


@contextmanager
def in_small_steps(step_users: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trait_taking, "STEP_USERS", step_users)
        patch.setattr(worker, "WAVE_USERS", 1)
        yield


class Played:
    """A live history into an evaluator that takes its snapshots by plans, a few steps of them after each input."""

    def __init__(self, folder: Path, scenario: Scenario, *, checkpoints: bool) -> None:
        self.publications = [publish(None, parse_document(scenario.document, "test.json", {}))]
        self.evaluator = Evaluator(folder, self.publications[0], checkpoints=checkpoints)
        self._versions: dict[str, int] = {}
        self._wanted: tuple[str, int, str, pa.Table] | None = None
        self._rows: TraitRows | None = None
        for parent, table in scenario.traits.items():
            self.offer(parent, table)

    def offer(self, parent: str, table: pa.Table) -> None:
        """Begin a plan; the one before it is brought to its end first."""
        self.finish()
        model = self.evaluator.published.definitions.parent_models.get(parent)
        if model is None or not model.snapshot_columns:
            return
        version = self._versions[parent] = self._versions.get(parent, 0) + 1
        types = {name: column.type for name, column in model.snapshot_columns.items()}
        snapshot = snapshot_of(model.primary_key, types, table)
        self._wanted = parent, version, self.evaluator.written(parent, version, snapshot), snapshot

    def go_on(self) -> int:
        """Do a step of the plan; gives when the next one is wanted, in ms, -1 where there is no plan."""
        if self._wanted is None:
            return -1
        parent, version, path, table = self._wanted
        if self._rows is None:
            [reply] = self.evaluator.do(LookAtTraits(parent, version))
            if "program" in reply:
                self._rows = prepare(reply["program"], parent, version, path, table, lambda: None)
                [reply] = self.evaluator.do(PlanTraits(self._rows))
        else:
            [reply] = self.evaluator.do(GoOnWithTraits(self._rows))
        if reply.get("error") == "stale":
            count("a plan is given up")
            self._rows = None
        if "clock_ms" in reply or reply.get("message") == "no such parent model yet":
            self._wanted = self._rows = None
            return -1
        return int(reply.get("wait_ms", 0))

    def finish(self) -> None:
        while (wait_ms := self.go_on()) >= 0:
            self.evaluator.clock.advance(min(wait_ms, 1_000))
            self.evaluator.do(Tick())

    def settle(self) -> None:
        while self.evaluator.worker.behind:
            self.evaluator.do(Tick())

    def crash(self) -> None:
        machine = self.evaluator.worker.machine
        if machine is not None and machine.plan is not None:
            count("a crash in the middle of a wave" if machine.plan.taken else "a crash in the middle of a plan")
        self.evaluator.reopen()
        self._rows = None

    def between(self, what: str) -> None:
        if what in ("step", "wait"):
            wait_ms = self.go_on()
            self.evaluator.clock.advance(max(0, wait_ms) if what == "wait" else 0)
        elif what == "tick":
            self.evaluator.do(Tick())
        elif what == "crash":
            self.crash()
        elif self.evaluator.checkpoints is not None and self.evaluator.checkpoint():
            count("a checkpoint")

    def step(self, kind: str, after_ms: int, value: Any) -> None:
        self.evaluator.clock.advance(after_ms)
        if kind == "batch":
            rows = [{k: v for k, v in row.items() if k != "received_at"} for row in value]
            self.evaluator.do(self.evaluator.batch(*rows))
        elif kind == "traits":
            self.offer(*value)
        elif kind == "definitions":
            published = publish(self.evaluator.published, parse_document(value, "test.json", {}))
            while "error" in self.evaluator.put_in_force(published):
                self.evaluator.do(Tick())
            self.evaluator.published = published
            self.publications.append(published)
        else:
            self.evaluator.do(Tick())

    def end(self) -> None:
        self.finish()
        for after_ms in (0, 400_000):
            self.evaluator.clock.advance(after_ms)
            self.evaluator.do(Tick())
            self.settle()


def at_once(folder: Path, publications: list[Published], entries: list[Entry], end_ms: int) -> Evaluator:
    """An evaluator that gets what another one logged, at the same times, its snapshots whole."""
    evaluator = Evaluator(folder, None)
    coming = iter(publications)
    for entry in entries:
        evaluator.clock.advance(entry.clock_ms - evaluator.clock.now_ms())
        if entry.kind == "definitions":
            evaluator.published = next(coming)
            assert "error" not in evaluator.put_in_force(evaluator.published)
        elif entry.kind == "traits":
            logged = unpack_traits(entry.payload)
            [reply] = evaluator.do(TakeTraits(logged.parent, logged.version, None, logged.path))
            assert reply == {"clock_ms": entry.clock_ms}
        elif entry.kind == "batch":
            hits = Decoder(EventPlan(evaluator.published.definitions)).decode(unpack(entry.payload)).hits
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, hits.schema) as writer:
                writer.write_batch(hits)
            version = evaluator.published.version
            evaluator.do(Append(version, entry.row_count, entry.payload, sink.getvalue().to_pybytes()))
    evaluator.clock.advance(end_ms - evaluator.clock.now_ms())
    evaluator.do(Tick())
    return evaluator


def members(evaluator: Evaluator) -> set[tuple[str, str]]:
    machine = evaluator.worker.machine
    assert machine is not None
    return {
        (audience, key)
        for audience in machine.program.audiences
        for key in machine.user_keys(machine.members(audience)).to_pylist()
    }


@given(scenarios(max_events=12), st.data(), st.booleans(), st.sampled_from([1, 100]))
def test_a_plan_is_one_instant_whatever_comes_between_and_wherever_it_crashes(
    scenario: Scenario, data: st.DataObject, checkpoints: bool, step_users: int
) -> None:
    history = data.draw(steps(scenario))
    note(repr(scenario))
    with TemporaryDirectory() as name:
        with in_small_steps(step_users):
            played = Played(Path(name) / "played", scenario, checkpoints=checkpoints)
            for kind, after_ms, value in history:
                played.step(kind, after_ms, value)
                for what in data.draw(st.lists(st.sampled_from(BETWEEN), max_size=12)):
                    played.between(what)
            played.end()
        evaluator = played.evaluator
        entries = list(evaluator.worker.log.entries())
        whole = at_once(Path(name) / "whole", played.publications, entries, evaluator.clock.now_ms())
        assert sorted(evaluator.history()) == sorted(whole.history())
        assert sorted(evaluator.ids()) == sorted(whole.ids())
        assert members(evaluator) == members(whole)
        sizes = [each.worker._status()["audiences"] for each in (evaluator, whole)]
        assert sizes[0] == sizes[1]
