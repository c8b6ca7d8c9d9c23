"""Events that wait: found by their key, in their order, within their bounds, however they were put together."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.evaluator.stitching import waiting
from actors.evaluator.stitching.waiting import Waiting

RETENTION_MS = 1_000
SCHEMA = pa.schema([
    pa.field("row", pa.int32(), nullable=False), pa.field("key", pa.string(), nullable=False),
    pa.field("ts_ms", pa.int64()), pa.field("c0", pa.dictionary(pa.int32(), pa.string())),
])  # fmt: skip
KEYS = ("a", "b", "ü", "")
#: A batch: of each event the key, and how many models took it.
BATCHES = st.lists(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 2)), min_size=1, max_size=6), max_size=12)


def hits_of(batch: list[tuple[str, int]], first: int, clock_ms: int) -> pa.RecordBatch:
    rows = [row for row, (_, models) in enumerate(batch) for _ in range(models)]
    columns: list[Any] = [
        pa.array([3 * row for row in rows], pa.int32()),
        pa.array([batch[row][0] for row in rows], pa.string()),
        pa.array([clock_ms] * len(rows), pa.int64()),
        pa.array([f"event {first + row}" for row in rows]).dictionary_encode(),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@given(BATCHES, st.lists(st.tuples(st.integers(0, 11), st.sampled_from(KEYS))), st.integers(1, 12), st.integers(1, 4))
@settings(max_examples=150)
def test_an_id_gets_its_newest_events_in_order_and_none_twice(
    batches: list[list[tuple[str, int]]], takes: list[tuple[int, str]], events_max: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "CHUNK_HITS", 8)
        found = Waiting(SCHEMA, events_max, RETENTION_MS)
        plain: list[tuple[int, str, int]] = []
        count = 0
        for place, batch in enumerate(batches):
            found.add(hits_of(batch, count, 5), 5)
            plain += [(count + row, key, models) for row, (key, models) in enumerate(batch)]
            count += len(batch)
            for key in (key for at, key in takes if at == place):
                if place % 2:
                    arrived, table = found.kept()
                    found = Waiting(SCHEMA, events_max, RETENTION_MS)
                    found.restore(arrived, table)
                own = [each for each in plain if each[1] == key]
                wanted = [each for each in own if each[0] >= count - events_max][-most:]
                plain = [each for each in plain if each[1] != key]
                taken, _ = found.take(key, most)
                assert (taken is None) == (not wanted)
                if taken is not None:
                    assert taken.schema.equals(SCHEMA)
                    assert taken.select(["row", "key", "c0"]).to_pylist() == [
                        {"row": row, "key": key, "c0": f"event {number}"}
                        for row, (number, _, models) in enumerate(wanted)
                        for _ in range(models)
                    ]


def test_what_is_left_out_is_counted_and_what_is_over_is_dropped() -> None:
    found = Waiting(SCHEMA, 100, RETENTION_MS)
    found.add(hits_of([("a", 1)] * 5, 0, 0), 0)
    assert found.take("a", 3)[1] == 2
    found.add(hits_of([("b", 1)], 5, RETENTION_MS - 1), RETENTION_MS - 1)
    assert found.hits == 1
    found.add(hits_of([("c", 1)], 6, 3 * RETENTION_MS), 3 * RETENTION_MS)
    assert found.hits == 1
    assert found.take("b", 3) == (None, 0)
