"""`engine`: events/s of the evaluator core on one core against plain Python, same workload, same transitions.

Hand-made sketch of the engine's cost an event (8 models, about 13 leaves a model): key to slot 0.13 µs, filters
0.1 µs, user row and block two cache misses 0.2 µs, about 8 ring updates 0.1 µs, two transitions 0.1 µs, two timers
0.2 µs.
"""

from __future__ import annotations

import gc
import statistics
import time
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


def run_engine(
    published: Published, snapshot: pa.Table, batches: list[pa.RecordBatch]
) -> tuple[float, EvaluatorMachine, pa.RecordBatch, list[Transitions]]:
    """Evaluate all batches; give the seconds, the machine, its first members and its transitions."""
    machine = EvaluatorMachine(published)
    machine.load([], {"users": snapshot}, START_MS)
    first = machine.difference_from(None)
    began = time.perf_counter()
    results = [machine.handle_batch(batch, 0).transitions for batch in batches]
    return time.perf_counter() - began, machine, first, results


def run_plain(workload: Workload, published: Published) -> tuple[float, PlainEvaluator]:
    """Evaluate the same events in plain Python; their tuples are made before the clock starts."""
    columns = [{"channel": CHANNELS[c], "amount": a}
               for c, a in zip(workload.channels.tolist(), workload.amounts.tolist(), strict=True)]
    users = [workload.user_names[u] for u in workload.users.tolist()]
    events = list(zip(workload.clocks.tolist(), users, workload.models.tolist(), columns, strict=True))
    traits = {row.pop("user_id"): row for row in workload.traits.to_pylist()}
    evaluator = PlainEvaluator(published, traits, START_MS)
    # The collector would walk the millions of objects made above again and again: not what is measured.
    gc.freeze()
    gc.disable()
    began = time.perf_counter()
    evaluator.run(events)
    evaluator.advance(int(workload.clocks[-1]))
    took = time.perf_counter() - began
    gc.enable()
    gc.unfreeze()
    return took, evaluator


def _sorted(audience: np.ndarray, user: np.ndarray, at: np.ndarray, entered: np.ndarray) -> np.ndarray:
    rows = np.stack([at.astype(np.int64), audience.astype(np.int64), user.astype(np.int64), entered.astype(np.int64)])
    return rows[:, np.lexsort(rows[::-1])]


def same_transitions(
    workload: Workload, machine: EvaluatorMachine, first: pa.RecordBatch, results: list[Transitions],
    plain: PlainEvaluator,
) -> bool:
    """Say whether both made the same transitions; within one instant and pair their order is not compared."""
    number = {name: i for i, name in enumerate(plain.names)}
    audience_of = np.array([number[name] for name in machine.program.audiences])
    user_of = {name: i for i, name in enumerate(workload.user_names)}
    slots = np.array([user_of[key] for key in
                      machine.user_keys(np.arange(machine.user_count, dtype=np.int32)).to_pylist()])
    rows = first.to_pylist()
    mine = _sorted(
        np.concatenate([[number[r["audience_id"]] for r in rows], *[audience_of[t.audience] for t in results]]),
        np.concatenate([[user_of[r["user_id"]] for r in rows], *[slots[t.user] for t in results]]),
        np.concatenate([[r["at"] for r in rows], *[t.at for t in results]]),
        np.concatenate([[r["kind"] == "entered" for r in rows], *[t.entered for t in results]]),
    )
    theirs = _sorted(
        np.array([t[0] for t in plain.transitions]), np.array([user_of[t[1]] for t in plain.transitions]),
        np.array([t[3] for t in plain.transitions]), np.array([t[2] for t in plain.transitions]),
    )
    return mine.shape == theirs.shape and bool((mine == theirs).all())


def run(*, quick: bool = False, runs: int = 3) -> dict[str, Any]:
    """Measure; `quick`: fewer events, for tests. The engine runs `runs` times, the yardstick once."""
    workload = engine_workload(users=10_000, events=100_000) if quick else engine_workload()
    published, snapshot = published_of(workload), snapshot_of(workload)
    batches = hit_batches(workload)
    run_engine(published, snapshot, batches[:2])  # compile
    plain_s, plain = run_plain(workload, published)
    seconds = []
    for _ in range(runs):
        took, machine, first, results = run_engine(published, snapshot, batches)
        seconds.append(took)
    median = statistics.median(seconds)
    counters = machine.counters()
    return {
        "events": len(workload),
        "users": len(workload.user_names),
        "audiences": len(machine.program.audiences),
        "transitions": sum(len(t) for t in results) + first.num_rows,
        "engine_events_per_s": round(len(workload) / median),
        "engine_spread": [round(len(workload) / s) for s in sorted(seconds)],
        "plain_events_per_s": round(len(workload) / plain_s),
        "ratio": round(plain_s / median, 2),
        "same_transitions": same_transitions(workload, machine, first, results, plain),
        "state_bytes_per_user": round(counters["state_bytes"] / counters["users"]),
    }


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(run(quick="--quick" in sys.argv), indent=1))
