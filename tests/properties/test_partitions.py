"""Nothing depends on how many evaluators share the users (semantics.md §3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from actors.evaluator.entries import own_hits, own_rows
from actors.evaluator.machine import EvaluatorMachine
from benchmarks.bench_engine import hit_batches, published_of, snapshot_of
from benchmarks.workloads import START_MS, Workload, engine_workload
from cluster.model.partitions import partitions_of
from tests.conftest import START_MS as START_CLOCK_MS
from tests.properties.engine import Engine, clocks_of, comparable
from tests.strategies import Scenario, scenarios

PARTITIONS = 64
#: True for users of whom nothing is known, and where two counts meet.
SELDOM = {"any": [
    {"event": "e0", "at_most": 1, "within": "60s"}, {"event": "e1", "exactly": 2, "within": "90s"},
]}


@pytest.fixture(scope="module")
def workload() -> Workload:
    made = engine_workload(users=600, events=6_000, audiences=30)
    made.document["audiences"].append({"id": "seldom", "parent": "users", "where": SELDOM})
    return made


def evaluated(workload: Workload, partitions: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Give the transitions of one evaluator that owns some partitions; half of the users have a trait row."""
    snapshot = snapshot_of(workload).slice(0, len(workload.user_names) // 2)
    owners = partitions_of(snapshot.column("key").to_pylist(), PARTITIONS).astype(np.int16)
    snapshot = snapshot.set_column(1, "partition", pa.array(owners))
    machine = EvaluatorMachine(published_of(workload))
    machine.load([], {"users": own_rows(snapshot, partitions, PARTITIONS)}, START_MS)
    tables = [machine.difference_from(None)]
    for hits in hit_batches(workload, rows=1_000):
        until_ms = hits.column("clock_ms")[-1].as_py()
        result = machine.handle_batch(own_hits(hits, partitions, PARTITIONS), 0, until_ms)
        tables.append(machine.transitions_table(result.transitions))
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("count", [2, 5])
def test_any_number_of_evaluators_makes_the_same_transitions(workload: Workload, count: int) -> None:
    alone = evaluated(workload, tuple(range(PARTITIONS)))
    shared = [row for k in range(count) for row in evaluated(workload, tuple(range(k, PARTITIONS, count)))]
    assert len(alone) > 1_000
    assert sorted(shared) == sorted(alone)


class Part(Engine):
    """An engine that owns some of three partitions: it sees its own users alone."""

    def __init__(self, owned: tuple[int, ...], document: Any, traits: Any, clock: int) -> None:
        self._owned = owned
        super().__init__(document, traits, clock)

    def _hits(self, rows: Any, *, with_clocks: bool) -> Any:
        hits, reasons = super()._hits(rows, with_clocks=with_clocks)
        return own_hits(hits, self._owned, 3), reasons

    def _snapshots(self) -> dict[str, pa.Table]:
        result = {}
        for name, table in super()._snapshots().items():
            owners = partitions_of([key.encode() for key in table.column("key").to_pylist()], 3).astype(np.int16)
            place = table.schema.get_field_index("partition")
            result[name] = own_rows(table.set_column(place, "partition", pa.array(owners)), self._owned, 3)
        return result


@given(scenarios(max_events=25))
@settings(max_examples=30)
def test_any_condition_gives_the_same_transitions_with_two_and_three_evaluators(scenario: Scenario) -> None:
    # How many ids one evaluator remembers is its own: an eviction depends on who else it serves.
    own = {name: value for name, value in scenario.document.get("settings", {}).items() if name != "dedup"}
    document = {**scenario.document, "settings": {**own, "partitions": 3}}
    clocked = clocks_of(scenario.events)
    times = [clock for _, clock in clocked if clock is not None]
    first, last = (times[0], times[-1]) if times else (START_CLOCK_MS, START_CLOCK_MS)
    histories = []
    for owners in ([(0, 1, 2)], [(0, 2), (1,)], [(0,), (1,), (2,)]):
        parts = [Part(owned, document, scenario.traits, first) for owned in owners]
        for part in parts:
            part.batch(clocked)
            part.advance(last + scenario.tail_ms)
        histories.append(comparable([each for part in parts for each in part.transitions]))
    assert histories[1] == histories[0]
    assert histories[2] == histories[0]
