"""`engine`: events per processor second of the evaluator core and of plain Python, same workload, same transitions.

Hand-made sketch of the engine's cost an event (8 models, about 13 leaves a model): key to slot 0.13 µs, filters
0.1 µs, user row and block two cache misses 0.2 µs, about 8 ring updates 0.1 µs, two transitions 0.1 µs, two timers
0.2 µs.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import Transitions
from benchmarks.workloads import CHANNELS, START_MS, Workload, engine_workload
from benchmarks.yardstick import PlainEvaluator
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish

#: Rows of one batch, as the cluster's edge sends at most.
BATCH_ROWS = 8_192


def published_of(workload: Workload) -> Published:
    """Check and publish the workload's definitions."""
    return publish(None, parse_document(workload.document, "<benchmark>", {}))


def snapshot_of(workload: Workload) -> pa.Table:
    """Give the traits as a loaded snapshot."""
    rows = workload.traits.num_rows
    return pa.table({
        "key": workload.traits.column("user_id"),
        "partition": pa.array(np.zeros(rows, np.int16)),
        "ltv": workload.traits.column("ltv"),
        "tier": workload.traits.column("tier"),
    })


def hit_batches(workload: Workload, rows: int = BATCH_ROWS) -> list[pa.RecordBatch]:
    """Cut the workload into hits as the edge sends them: keys as strings, property strings as dictionaries."""
    names = pa.array(workload.user_names)
    channels = pa.array(CHANNELS)
    batches = []
    for start in range(0, len(workload), rows):
        part = slice(start, min(start + rows, len(workload)))
        count = part.stop - part.start
        columns = [
            pa.array(np.arange(count, dtype=np.int32)),
            pa.array(workload.models[part]),
            names.take(pa.array(workload.users[part])),
            pa.array(workload.clocks[part]),
            pa.array(workload.clocks[part]),
            pa.array(np.zeros(count, np.bool_)),
            pa.nulls(count, pa.string()),
            pa.array(np.full(count, -1, np.int16)),
            pa.DictionaryArray.from_arrays(pa.array(workload.channels[part].astype(np.int32)), channels),
            pa.array(workload.amounts[part]),
        ]
        fixed = ["row", "model", "key", "clock_ms", "ts_ms", "ts_relative", "message_id", "source"]
        batches.append(pa.RecordBatch.from_arrays(columns, names=[*fixed, "c0", "c1"]))
    return batches


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One evaluation of all batches: wall and processor seconds (of all threads), and what came of it."""

    seconds: float
    cpu_seconds: float
    machine: EvaluatorMachine
    first: pa.RecordBatch
    results: list[Transitions]


def run_engine(published: Published, snapshot: pa.Table, batches: list[pa.RecordBatch]) -> EngineRun:
    """Evaluate all batches; the clock starts when traits are loaded and the first members (`first`) are known."""
    machine = EvaluatorMachine(published)
    machine.load([], {"users": snapshot}, START_MS)
    first = machine.difference_from(None)
    began, cpu_began = time.perf_counter(), time.process_time()
    results = [machine.handle_batch(batch, 0).transitions for batch in batches]
    return EngineRun(time.perf_counter() - began, time.process_time() - cpu_began, machine, first, results)


@dataclass(frozen=True, slots=True)
class PlainEvents:
    """The workload's events as plain Python's columns."""

    clocks: list[int]
    users: list[str]
    models: list[int]
    columns: dict[str, list[Any]]


def plain_events(workload: Workload) -> PlainEvents:
    """Make the events for plain Python; its clock does not run meanwhile."""
    return PlainEvents(
        workload.clocks.tolist(),
        [workload.user_names[user] for user in workload.users.tolist()],
        workload.models.tolist(),
        {"channel": [CHANNELS[channel] for channel in workload.channels.tolist()], "amount": workload.amounts.tolist()},
    )


def run_plain(
    workload: Workload, published: Published, events: PlainEvents, *, heap: bool = False
) -> tuple[float, PlainEvaluator]:
    """Evaluate events in plain Python, due times in a wheel or a heap: the processor seconds, and what came of it."""
    traits = {row.pop("user_id"): row for row in workload.traits.to_pylist()}
    evaluator = PlainEvaluator(published, traits, START_MS, heap=heap)
    # The collector would walk the millions of objects made above again and again: not what is measured.
    gc.collect()
    gc.freeze()
    gc.disable()
    began = time.process_time()
    evaluator.run(events.clocks, events.users, events.models, events.columns)
    evaluator.advance(int(workload.clocks[-1]))
    took = time.process_time() - began
    gc.enable()
    gc.unfreeze()
    return took, evaluator


def sorted_rows(audience: np.ndarray, user: np.ndarray, at: np.ndarray, entered: np.ndarray) -> np.ndarray:
    """Give transitions as int64 rows (at, audience, user, entered) in one order, whatever order they were made in."""
    rows = np.stack([at.astype(np.int64), audience.astype(np.int64), user.astype(np.int64), entered.astype(np.int64)])
    return rows[:, np.lexsort(rows[::-1])]


def engine_rows(workload: Workload, published: Published, run: EngineRun) -> np.ndarray:
    """Give the engine's transitions as `sorted_rows`: audiences by number, users by their row in the traits."""
    machine, rows = run.machine, run.first.to_pylist()
    audience_of = {name: i for i, name in enumerate(published.definitions.audiences)}
    numbers = np.array([audience_of[name] for name in machine.program.audiences])
    user_of = {name: i for i, name in enumerate(workload.user_names)}
    slots = np.array([user_of[key] for key in
                      machine.user_keys(np.arange(machine.user_count, dtype=np.int32)).to_pylist()])
    return sorted_rows(
        np.concatenate([[audience_of[r["audience_id"]] for r in rows], *[numbers[t.audience] for t in run.results]]),
        np.concatenate([[user_of[r["user_id"]] for r in rows], *[slots[t.user] for t in run.results]]),
        np.concatenate([[r["at"] for r in rows], *[t.at for t in run.results]]),
        np.concatenate([[r["kind"] == "entered" for r in rows], *[t.entered for t in run.results]]),
    )


def plain_rows(workload: Workload, plain: PlainEvaluator) -> np.ndarray:
    """Give plain Python's transitions as `sorted_rows`."""
    user_of = {name: i for i, name in enumerate(workload.user_names)}
    rows = np.array([(audience, user_of[user], at, entered) for audience, user, entered, at in plain.transitions])
    return sorted_rows(*rows.reshape(-1, 4).T)


def sized_workload(*, quick: bool) -> Workload:
    """Give the figure's workload, or a twentieth of it."""
    return engine_workload(users=10_000, events=100_000) if quick else engine_workload()


def run(*, quick: bool = False, runs: int = 3) -> dict[str, Any]:
    """Measure the engine and both yardsticks in turn, `runs` times; `quick`: fewer events, for tests.

    Rates are medians of events per processor second, of all threads; the last runs' transitions are compared.
    """
    workload = sized_workload(quick=quick)
    published, snapshot = published_of(workload), snapshot_of(workload)
    batches, events = hit_batches(workload), plain_events(workload)
    run_engine(published, snapshot, batches[:2])  # compile
    engine: list[float] = []
    plain: dict[bool, list[float]] = {False: [], True: []}
    expected = {}
    for turn in range(runs):
        for heap, rates in plain.items():
            took, evaluator = run_plain(workload, published, events, heap=heap)
            rates.append(len(workload) / took)
            if turn == runs - 1:
                expected[heap] = plain_rows(workload, evaluator)
            del evaluator
        last = run_engine(published, snapshot, batches)
        engine.append(len(workload) / last.cpu_seconds)
    counters = last.machine.counters()
    rows = engine_rows(workload, published, last)
    return {
        "events": len(workload),
        "users": len(workload.user_names),
        "audiences": len(last.machine.program.audiences),
        "transitions": rows.shape[1],
        "engine_events_per_cpu_s": round(statistics.median(engine)),
        "engine_spread": [round(rate) for rate in sorted(engine)],
        "plain_events_per_cpu_s": round(statistics.median(plain[True])),
        "plain_spread": [round(rate) for rate in sorted(plain[True])],
        "wheel_events_per_cpu_s": round(statistics.median(plain[False])),
        "wheel_spread": [round(rate) for rate in sorted(plain[False])],
        "ratio": round(statistics.median(engine) / statistics.median(plain[True]), 2),
        "ratio_wheel": round(statistics.median(engine) / statistics.median(plain[False]), 2),
        "same_transitions": all(np.array_equal(rows, theirs) for theirs in expected.values()),
        "state_bytes_per_user": round(counters["state_bytes"] / counters["users"]),
    }


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(run(quick="--quick" in sys.argv), indent=1))
