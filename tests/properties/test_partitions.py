"""Nothing depends on how many evaluators share the users (semantics.md §3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.recovery import own_hits, own_rows
from benchmarks.bench_engine import hit_batches, published_of, snapshot_of
from benchmarks.workloads import START_MS, Workload, engine_workload
from cluster.model.partitions import partitions_of

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
