"""Accepted events of anonymous ids, as they were fed: kept to be fed anew when the id joins a user.

In chunks by arrival, each with its rows' key hashes sorted: an id's events are found in some µs a chunk, and nothing
is done for each event. Small chunks are put together; none grows beyond `CHUNK_HITS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

Int64s = npt.NDArray[np.int64]
#: Hits of a chunk, of which putting chunks together makes no larger one: about 10 ms.
CHUNK_HITS: Final = 32_768
#: A column of what is kept, for checkpoints: the number of the event a hit is of, by arrival.
ARRIVAL: Final = "arrival"


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Hits in the order of their arrival. `lapses_ms`: when the last of them is older than any condition looks."""

    hits: pa.RecordBatch
    arrivals: Int64s
    lapses_ms: int
    hashes: npt.NDArray[np.uint64]  #: sorted
    order: Int64s  #: the hit of each of them
    taken: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.arrivals)

    def of(self, key: str) -> Int64s:
        """Give the hits of a key that nobody has taken, ascending."""
        hashed = _hash(key)
        low, high = np.searchsorted(self.hashes, hashed, "left"), np.searchsorted(self.hashes, hashed, "right")
        found = np.sort(self.order[low:high])
        found = found[~self.taken[found]]
        if not len(found):
            return found
        same = pc.equal(self.hits.column("key").take(pa.array(found)), key)
        mine: Int64s = found[np.asarray(same.to_numpy(zero_copy_only=False), np.bool_)]
        return mine


class Waiting:
    """The newest `events_max` events of anonymous ids; `retention_ms` is their parent's, `schema` that of hits."""

    def __init__(self, schema: pa.Schema, events_max: int, retention_ms: int) -> None:
        self._schema = schema
        self._events_max = events_max
        self._retention_ms = retention_ms
        self._chunks: list[_Chunk] = []
        #: Events that ever arrived.
        self._arrived = 0

    @property
    def hits(self) -> int:
        """How many hits are kept."""
        return sum(len(chunk) for chunk in self._chunks)

    @property
    def size_bytes(self) -> int:
        """About the memory that they take."""
        return sum(chunk.hits.nbytes + 25 * len(chunk) for chunk in self._chunks)

    def add(self, hits: pa.RecordBatch, clock_ms: int) -> None:
        """Keep hits whose `ts_ms` are what they got; those of one event lie side by side, under one `row`."""
        rows = hits.column("row").to_numpy()
        news = np.concatenate([[True], rows[1:] != rows[:-1]])
        arrivals = self._arrived + np.cumsum(news, dtype=np.int64) - 1
        self._arrived = int(arrivals[-1]) + 1
        self._drop(clock_ms)
        self._put(_plain(hits), arrivals, clock_ms)

    def take(self, key: str, events_most: int) -> tuple[pa.RecordBatch | None, int]:
        """Take the newest events of a key, `row` counting them from 0 in their order; and how many were left out."""
        found = [(chunk, chunk.of(key)) for chunk in self._chunks]
        arrivals = np.concatenate([np.zeros(0, np.int64), *(chunk.arrivals[hits] for chunk, hits in found)])
        events = np.unique(arrivals)
        kept = events[events >= self._arrived - self._events_max]
        least = kept[-events_most] if len(kept) > events_most else (kept[0] if len(kept) else self._arrived)
        parts = []
        for chunk, hits in found:
            chunk.taken[hits] = True
            wanted = hits[chunk.arrivals[hits] >= least]
            if len(wanted):
                parts.append(chunk.hits.take(pa.array(wanted)))
        if not parts:
            return None, len(events)
        wanted_events = arrivals[arrivals >= least]
        _, rows = np.unique(wanted_events, return_inverse=True)
        taken = _as_decoded(_with_rows(_joined(parts), rows.astype(np.int32)), self._schema)
        return taken, len(events) - (int(rows[-1]) + 1)

    def _put(self, hits: pa.RecordBatch, arrivals: Int64s, clock_ms: int) -> None:
        self._chunks.append(self._chunk(hits, arrivals))
        while len(self._chunks) > 1:
            before, last = self._chunks[-2:]
            together = len(before) + len(last)
            if together > CHUNK_HITS or len(before) > 2 * len(last):
                return
            kept = [self._of_use(chunk, clock_ms) for chunk in (before, last)]
            parts = [chunk.hits.take(pa.array(rows)) for chunk, rows in zip((before, last), kept, strict=True)]
            numbers = np.concatenate([before.arrivals[kept[0]], last.arrivals[kept[1]]])
            self._chunks[-2:] = [self._chunk(_joined(parts), numbers)] if len(numbers) else []

    def _of_use(self, chunk: _Chunk, clock_ms: int) -> Int64s:
        """Give the hits that may still join somebody."""
        young = chunk.hits.column("ts_ms").to_numpy() + self._retention_ms > clock_ms
        found: Int64s = np.flatnonzero(young & ~chunk.taken & (chunk.arrivals >= self._arrived - self._events_max))
        return found

    def _chunk(self, hits: pa.RecordBatch, arrivals: Int64s) -> _Chunk:
        keys = hits.column("key").cast(pa.binary()).to_pylist()
        hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, keys), np.uint64, len(keys))
        order = np.argsort(hashes, kind="stable")
        lapses_ms = int(hits.column("ts_ms").to_numpy().max()) + self._retention_ms
        return _Chunk(hits, arrivals, lapses_ms, hashes[order], order, np.zeros(len(keys), np.bool_))

    def _drop(self, clock_ms: int) -> None:
        """Drop chunks of which nothing can join any more."""
        first = self._arrived - self._events_max
        gone = [
            chunk.arrivals[-1] < first or chunk.lapses_ms <= clock_ms or chunk.taken.all() for chunk in self._chunks
        ]
        if any(gone):
            self._chunks = [chunk for chunk, lost in zip(self._chunks, gone, strict=True) if not lost]

    # --- checkpoints -----------------------------------------------------------------------------

    def kept(self) -> tuple[int, pa.Table | None]:
        """Give how many events ever arrived, and those that wait."""
        parts = []
        for chunk in self._chunks:
            rows = pa.array(np.flatnonzero(~chunk.taken))
            arrivals = pa.array(chunk.arrivals).take(rows)
            parts.append(chunk.hits.take(rows).append_column(ARRIVAL, arrivals))
        return self._arrived, pa.Table.from_batches(parts) if parts else None

    def restore(self, arrived: int, table: pa.Table | None) -> None:
        """Become what another one kept."""
        self._arrived, self._chunks = arrived, []
        for batch in [] if table is None else table.to_batches(CHUNK_HITS):
            if batch.num_rows:
                arrivals = np.asarray(batch.column(ARRIVAL))
                self._chunks.append(self._chunk(batch.drop_columns([ARRIVAL]), arrivals))


def _hash(key: str) -> np.uint64:
    return np.uint64(xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")))


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _plain(hits: pa.RecordBatch) -> pa.RecordBatch:
    """Write dictionaries out: they have all values of their batch, of which these hits are few."""
    columns = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in hits.columns]
    return pa.RecordBatch.from_arrays(columns, hits.schema.names)


def _as_decoded(hits: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give hits the types that the decoder gives them."""
    columns = [
        column.dictionary_encode().cast(field.type) if pa.types.is_dictionary(field.type) else column
        for column, field in zip(hits.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _with_rows(hits: pa.RecordBatch, rows: npt.NDArray[np.int32]) -> pa.RecordBatch:
    return hits.set_column(0, hits.schema.field(0), pa.array(rows))
