"""Hits as the kernels take them: numpy columns, keys and message ids as Arrow buffers, matching filters, values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from actors.evaluator.layout import FEED_REACH, FEED_WORDS, I16, I32, I64, NEVER_BEFORE, U8, U64, HitArrays
from actors.evaluator.matching.matcher import Matcher, match_hits
from actors.evaluator.program import Program
from actors.evaluator.values import values_of

#: Hits worked off by one kernel call: bounds the room that must be made before it.
SLICE_HITS = 16_384


@dataclass(frozen=True, slots=True)
class HitColumns:
    """A slice of hits; arrays of one length. `order` gives each one's place in the batch it came from."""

    order: I64
    rows: I32
    models: I16
    clocks: I64
    times: I64
    timed: U8
    relative: U8
    sources: I16
    key_offsets: I32
    key_data: U8
    message_offsets: I32
    message_data: U8
    message_valid: U8
    #: filters by hit, CSR; numbered through all models
    match_offsets: I32
    matches: I32
    values: I64  #: [hits, value columns of a model at most]

    def __len__(self) -> int:
        """Give the number of hits."""
        return len(self.rows)

    def arrays(self, slots: I32, first_hash: U64, second_hash: U64, outcomes: U8) -> HitArrays:
        """Give what the hot loop reads: these, and each hit's user, message and place for its outcome."""
        return HitArrays(
            rows=self.rows,
            models=self.models,
            slots=slots,
            clocks=self.clocks,
            times=self.times,
            relative=self.relative,
            timed=self.timed,
            match_offsets=self.match_offsets,
            matches=self.matches,
            values=self.values,
            first_hash=first_hash,
            second_hash=second_hash,
            outcomes=outcomes,
        )


def string_buffers(column: pa.Array) -> tuple[I32, U8]:
    """Give the offsets and bytes of a string column without copying where its layout allows."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type != pa.string():
        column = column.cast(pa.string())
    _, offsets, data = column.buffers()
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    if len(starts) == 0:
        starts = np.zeros(1, np.int32)
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return starts, content


def _integers(column: pa.Array, kind: type[np.generic], missing: int = 0) -> np.ndarray:
    if column.null_count == len(column):
        return np.full(len(column), missing, kind)
    if column.null_count:
        column = column.fill_null(missing)
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(kind, copy=False)


def _valid(column: pa.Array) -> U8:
    if column.null_count == 0:
        return np.ones(len(column), np.uint8)
    if column.null_count == len(column):
        return np.zeros(len(column), np.uint8)
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False)).astype(np.uint8)


def slices(hits: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Cut hits into slices, never between two hits of one row (they may be one step)."""
    if hits.num_rows <= SLICE_HITS:
        return [hits] if hits.num_rows else []
    rows = np.asarray(hits.column("row"))
    result = []
    start = 0
    while start < len(rows):
        stop = min(start + SLICE_HITS, len(rows))
        while stop < len(rows) and rows[stop] == rows[stop - 1]:
            stop += 1
        result.append(hits.slice(start, stop - start))
        start = stop
    return result


class HitReader:
    """Reads hits under one program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._matchers = [Matcher(filters) for filters in program.model_filters]
        counts = [len(filters) for filters in program.model_filters]
        self._first_filter = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int32)

    def read(self, hits: pa.RecordBatch, now_ms: int) -> HitColumns:
        """Turn Arrow hits into columns; a hit without a clock of its own came at `now_ms`."""
        order, hits = _steps_together(hits, self._program)
        models = _integers(hits.column("model"), np.int16)
        offsets, matches = match_hits(
            self._matchers, self._program.model_columns, hits, models, self._first_filter
        )
        key_offsets, key_data = string_buffers(hits.column("key"))
        messages = hits.column("message_id")
        message_offsets, message_data = string_buffers(messages)
        return HitColumns(
            order=order,
            rows=_integers(hits.column("row"), np.int32),
            models=models,
            clocks=_integers(hits.column("clock_ms"), np.int64, now_ms),
            times=_integers(hits.column("ts_ms"), np.int64, NEVER_BEFORE),
            timed=_valid(hits.column("ts_ms")),
            relative=_integers(hits.column("ts_relative"), np.uint8),
            sources=_integers(hits.column("source"), np.int16, -1),
            key_offsets=key_offsets,
            key_data=key_data,
            message_offsets=message_offsets,
            message_data=message_data,
            message_valid=_valid(messages),
            match_offsets=offsets,
            matches=matches,
            values=values_of(hits, self._program, models),
        )


def without_matches(columns: HitColumns, wanted: np.ndarray) -> HitColumns:
    """Leave the matches to the wanted hits (bool, one a hit): the others feed no structure."""
    if wanted.all():
        return columns
    counts = np.diff(columns.match_offsets)
    offsets = np.concatenate([[0], np.cumsum(np.where(wanted, counts, 0))]).astype(np.int32)
    return replace(columns, match_offsets=offsets, matches=columns.matches[np.repeat(wanted, counts)])


def longest_reaches(program: Program) -> I64:
    """Give by model how long after its ts an event may count for any condition that its model feeds, ms."""
    arrays = program.arrays
    reaches = np.zeros(len(program.models), np.int64)
    first = 0
    for model, filters in enumerate(program.model_filters):
        feeds = slice(arrays.filter_feeds[first], arrays.filter_feeds[first + len(filters)])
        reaches[model] = arrays.feeds.reshape(-1, FEED_WORDS)[feeds, FEED_REACH].max(initial=0)
        first += len(filters)
    return reaches


def times_of(columns: HitColumns, clock_ms: int) -> I64:
    """Give each hit's ts, as the kernels do where the clock before them is `clock_ms`."""
    clocks = np.maximum.accumulate(np.maximum(columns.clocks, clock_ms))
    timed = np.where(columns.relative != 0, columns.times + clocks, columns.times)
    return np.where(columns.timed != 0, np.minimum(clocks, timed), clocks)


def rows_of(hits: pa.RecordBatch) -> int:
    """Give the rows of a batch up to the last one that has a hit."""
    return int(hits.column("row")[-1].as_py()) + 1 if hits.num_rows else 0


def _steps_together(hits: pa.RecordBatch, program: Program) -> tuple[I64, pa.RecordBatch]:
    """Bring hits of one row and key together, where a row has several; give their places in the batch too."""
    order = np.arange(hits.num_rows, dtype=np.int64)
    rows = _integers(hits.column("row"), np.int32)
    if len(rows) > 1 and bool((rows[1:] == rows[:-1]).any()):
        codes = np.asarray(hits.column("key").dictionary_encode().indices)
        models = _integers(hits.column("model"), np.int16)
        # One key may name a user of each of several parents: users of one parent are one step, and one identity. Steps
        # of a row come in the order of their first hits: not by `codes`, which depend on how the log was cut.
        parents = program.arrays.model_parent[models].astype(np.int64)
        steps = (rows.astype(np.int64) * (int(parents.max()) + 1) + parents) * (int(codes.max()) + 1) + codes
        _, first, step = np.unique(steps, return_index=True, return_inverse=True)
        order = np.lexsort((models, first[step]))
        hits = hits.take(pa.array(order))
    return order, hits
