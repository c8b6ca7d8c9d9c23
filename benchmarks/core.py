"""What the cases over the evaluator's core machine share: hits, users and traits in columns, and the yardstick's word.

Nothing here is made event by event in Python, but what is compared with plain Python.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import BatchResult
from benchmarks.results import Check
from benchmarks.workloads import START_MS, USER_PREFIX, user_keys
from benchmarks.yardstick import PlainEvaluator
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish

#: Rows of one batch, as the cluster's edge sends at most.
BATCH_ROWS = 8_192
TIERS = ("bronze", "silver", "gold")
#: The parent model of all core workloads.
PARENT = {
    "id": "users",
    "primary_key": "user_id",
    "traits": {
        "source": {"kind": "parquet", "path": "users.parquet"},
        "columns": {"ltv": {"type": "number"}, "tier": {"type": "string"}},
    },
}

#: Audience, user, kind, `at`.
Change: TypeAlias = tuple[str, str, str, int]


def event_model(index: int, columns: Mapping[str, str]) -> dict[str, Any]:
    """Give the definition of the event model `e{index}`; `columns`: the type of each property that filters may use."""
    return {
        "id": f"e{index}", "parent": "users", "type": "track", "event": f"event_{index}", "foreign_key": "user_id",
        "timestamp": "timestamp",
        "columns": {name: {"path": f"properties.{name}", "type": kind} for name, kind in columns.items()},
    }  # fmt: skip


def published_of(document: dict[str, Any]) -> Published:
    """Check and publish definitions."""
    return publish(None, parse_document(document, "<benchmark>", {}))


def user_numbers(machine: EvaluatorMachine) -> np.ndarray:
    """Give the number in the key of each of the machine's user slots."""
    keys = machine.user_keys(np.arange(machine.user_count, dtype=np.int32))
    return np.asarray(pc.utf8_slice_codeunits(keys, len(USER_PREFIX)).cast(pa.int64()))


def snapshot_of(users: int, rng: np.random.Generator) -> pa.Table:
    """Give the traits of `users` users as a loaded snapshot."""
    return pa.table({
        "key": user_keys(np.arange(users)),
        "partition": pa.array(np.zeros(users, np.int16)),
        "ltv": pa.array(rng.integers(0, 600, users).astype(np.float64)),
        "tier": pa.array(TIERS).take(pa.array(rng.integers(0, len(TIERS), users))),
    })


def hits(
    models: np.ndarray, users: np.ndarray, clocks: np.ndarray | None, columns: Sequence[pa.Array] = ()
) -> pa.RecordBatch:
    """Give hits as the edge sends them (docs/architecture.md §2), one an event, without message ids.

    `clocks`: each one's own clock and ts, as replay gives it; None: live, the machine stamps them.
    """
    count = len(models)
    times = pa.nulls(count, pa.int64()) if clocks is None else pa.array(clocks, pa.int64())
    fixed = {
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "model": pa.array(models.astype(np.int16)),
        "key": user_keys(users),
        "clock_ms": times,
        "ts_ms": times,
        "ts_relative": pa.array(np.zeros(count, np.bool_)),
        "message_id": pa.nulls(count, pa.string()),
        "source": pa.array(np.full(count, -1, np.int16)),
    }
    names = [*fixed, *(f"c{place}" for place in range(len(columns)))]
    return pa.RecordBatch.from_arrays([*fixed.values(), *columns], names=names)


def loaded(published: Published, snapshot: pa.Table) -> EvaluatorMachine:
    """Give a machine that knows the snapshot's users, and no event."""
    machine = EvaluatorMachine(published)
    machine.load([], {"users": snapshot}, START_MS)
    return machine


def timed(machine: EvaluatorMachine, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[float, BatchResult]]:
    """Evaluate batches whose hits have their own clocks, and give each one's seconds and result."""
    for batch in batches:
        began = time.perf_counter()
        result = machine.handle_batch(batch, 0)
        yield time.perf_counter() - began, result


def same_as_plain(
    name: str, published: Published, snapshot: pa.Table, batches: Sequence[pa.RecordBatch], columns: Sequence[str]
) -> Check:
    """Check that the machine and the plain-Python yardstick make the same transitions of the same hits, all of them.

    `columns`: what filters call the hits' `c0`, `c1`, ... For samples: about 10 µs an event, and 0.5 ms an
    audience to compile.
    """
    machine = loaded(published, snapshot)
    found = _changes(machine.difference_from(None))
    for batch in batches:
        found += _changes(machine.transitions_table(machine.handle_batch(batch, 0).transitions))
    traits = {row.pop("key"): row for row in snapshot.drop_columns(["partition"]).to_pylist()}
    plain = PlainEvaluator(published, traits, START_MS)
    for batch in batches:
        clocks, users, models = (batch.column(name).to_pylist() for name in ("clock_ms", "key", "model"))
        values = {name: batch.column(f"c{place}").to_pylist() for place, name in enumerate(columns)}
        plain.run(clocks, users, models, values)
    plain.advance(machine.clock_ms)
    expected = [(plain.names[audience], user, "entered" if entered else "exited", at)
                for audience, user, entered, at in plain.transitions]
    return Check(
        f"{name}: the engine and plain Python make the same transitions",
        sorted(found) == sorted(expected),
        f"{len(found):,} and {len(expected):,} of {sum(batch.num_rows for batch in batches):,} events",
    )


def _changes(table: pa.RecordBatch) -> list[Change]:
    columns = [table.column(name).to_pylist() for name in ("audience_id", "user_id", "kind", "at")]
    return list(zip(*columns, strict=True))
