"""The workload of the `users` case: any number of users with the same life each, made chunk by chunk.

Every user has TOUCHES events in a longest window, at any size: so an event costs the same work, and only the memory
that it is spread over grows. No user is more active than others, the worst case for caches. A chunk is a pure function
of its number: what was evaluated can be looked at again without having been kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.core import BATCH_ROWS, hits
from benchmarks.workloads import CHANNELS, START_MS
from cluster.definitions.model import (
    All,
    AnyOf,
    Condition,
    Definitions,
    EventCount,
    Filter,
    Not,
    PropertyTest,
    TraitTest,
    Within,
)

#: Events a user in WINDOW_S, the longest window of the definitions.
TOUCHES = 2
WINDOW_S = 300
#: Rows made at once: 20 MB, and enough batches that making them does not show in the caches.
CHUNK_ROWS = 32 * BATCH_ROWS
#: What filters call the hits' `c0` and `c1`.
COLUMNS = ("channel", "amount")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events in columns, one row an event, in order of time."""

    clocks: np.ndarray
    users: np.ndarray
    models: np.ndarray
    channels: np.ndarray
    amounts: np.ndarray

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the chunk as hits, BATCH_ROWS each."""
        names = pa.array(CHANNELS)
        for start in range(0, len(self.clocks), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            channels = pa.DictionaryArray.from_arrays(pa.array(self.channels[part]), names)
            columns = [channels, pa.array(self.amounts[part])]
            yield hits(self.models[part], self.users[part], self.clocks[part], columns)


@dataclass(frozen=True, slots=True)
class Crowd:
    """`users` users and their events of `models` event models; `rows` events a chunk."""

    users: int
    models: int
    rows: int = CHUNK_ROWS
    seed: int = 17

    @property
    def per_s(self) -> float:
        """Events a second, of the events' own time."""
        return self.users * TOUCHES / WINDOW_S

    def chunk(self, index: int) -> Chunk:
        """Make the index-th chunk; about 60 ns a row."""
        rng = np.random.default_rng([self.seed, index])
        between = index * self.rows + np.sort(rng.random(self.rows)) * self.rows
        return Chunk(
            clocks=START_MS + (between * 1000 / self.per_s).astype(np.int64),
            users=rng.integers(0, self.users, self.rows, np.int32),
            models=rng.integers(0, self.models, self.rows, np.int16),
            channels=rng.integers(0, len(CHANNELS), self.rows, np.int32),
            amounts=rng.integers(0, 100, self.rows).astype(np.float64),
        )


def leaves_held(crowd: Crowd, chunks: int, definitions: Definitions, end_ms: int) -> int:
    """Count the (user, leaf) pairs with an event in the leaf's window at `end_ms`, after the first `chunks` chunks.

    Of at most 64 leaves; O(events x leaves) numpy, 8 bytes a user.
    """
    leaves = event_leaves(definitions)
    assert len(leaves) <= 64
    models = {model: index for index, model in enumerate(definitions.event_models)}
    held = np.zeros(crowd.users, np.uint64)
    for index in range(chunks):
        chunk = crowd.chunk(index)
        bits = np.zeros(len(chunk.clocks), np.uint64)
        for place, leaf in enumerate(leaves):
            bits |= _counts(leaf, models, chunk, end_ms).astype(np.uint64) << np.uint64(place)
        np.bitwise_or.at(held, chunk.users, bits)
    return int(np.bitwise_count(held).sum())


def event_leaves(definitions: Definitions) -> list[EventCount]:
    """Give the distinct event counts of all audiences."""
    found: dict[EventCount, None] = {}
    for audience in definitions.audiences.values():
        found.update(dict.fromkeys(_counts_in(audience.where)))
    return list(found)


def _counts_in(node: Condition) -> Iterator[EventCount]:
    if isinstance(node, All | AnyOf):
        for child in node.children:
            yield from _counts_in(child)
    elif isinstance(node, Not):
        yield from _counts_in(node.child)
    elif isinstance(node, EventCount):
        yield node
    else:
        assert isinstance(node, TraitTest), "the workload has no other heads"


def _counts(leaf: EventCount, models: Mapping[str, int], chunk: Chunk, end_ms: int) -> np.ndarray:
    """Say of each event whether the leaf's window holds it at `end_ms`."""
    assert isinstance(leaf.window, Within)
    inside: np.ndarray = (chunk.models == models[leaf.event]) & (chunk.clocks > end_ms - leaf.window.duration_ms)
    return inside if leaf.where is None else inside & _passes(leaf.where, chunk)


def _passes(where: Filter, chunk: Chunk) -> np.ndarray:
    assert isinstance(where, PropertyTest), "the workload has no other filters"
    if where.column == "channel":
        assert where.test.op == "eq"
        return np.asarray(chunk.channels == CHANNELS.index(str(where.test.operand)))
    assert where.test.op == "gte"
    return np.asarray(chunk.amounts >= where.test.operand)
