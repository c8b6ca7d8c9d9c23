"""Hits as the kernels take them: numpy columns, keys and message ids as Arrow buffers, match bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from actors.evaluator.filters import match_bits
from actors.evaluator.layout import I16, I32, I64, NEVER_BEFORE, U8, U64
from actors.evaluator.program import Program
from cluster.definitions.model import Filter

#: Hits worked off by one kernel call: bounds the room that must be made before it.
SLICE_HITS = 16_384
#: Hits of several models are brought into order of models above this.
_MASKED_WHOLE_MAX = 64


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
    masks: U64

    def __len__(self) -> int:
        """Give the number of hits."""
        return len(self.rows)


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


def read_hits(hits: pa.RecordBatch, program: Program, filters: list[list[Filter | None]], now_ms: int) -> HitColumns:
    """Turn Arrow hits into columns. Where one row has several hits, those of one key are brought together."""
    order = np.arange(hits.num_rows, dtype=np.int64)
    rows = _integers(hits.column("row"), np.int32)
    if len(rows) > 1 and bool((rows[1:] == rows[:-1]).any()):
        codes = np.asarray(hits.column("key").dictionary_encode().indices)
        models = _integers(hits.column("model"), np.int16)
        # One key may name a user of each of several parents: users of one parent are one step, and one identity.
        order = np.lexsort((models, codes, program.arrays.model_parent[models], rows))
        hits = hits.take(pa.array(order))
        rows = rows[order]
    models = _integers(hits.column("model"), np.int16)
    key_offsets, key_data = string_buffers(hits.column("key"))
    messages = hits.column("message_id")
    message_offsets, message_data = string_buffers(messages)
    return HitColumns(
        order=order,
        rows=rows,
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
        masks=_masks(hits, program, filters, models),
    )


def _masks(
    hits: pa.RecordBatch, program: Program, filters: list[list[Filter | None]], models: I16
) -> U64:
    """Match bits of each hit over the rings of its model."""
    words = max(1, -(-max((len(f) for f in filters), default=0) // 64))
    masks = np.zeros((len(models), words), np.uint64)
    if len(models) <= _MASKED_WHOLE_MAX:
        _masks_of_few(hits, program, filters, models, masks)
        return masks
    # Brought into order of models once, each model's rows are a slice of every column: no copy a model.
    order = np.argsort(models, kind="stable")
    ordered = hits if bool((order[1:] > order[:-1]).all()) else hits.take(pa.array(order))
    starts = np.searchsorted(models[order], np.arange(len(filters) + 1))
    for model, start, stop in zip(range(len(filters)), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if stop == start or not filters[model]:
            continue
        columns = {
            name: ordered.column(column).slice(start, stop - start)
            for name, column in program.model_columns[model].items()
        }
        masks[order[start:stop]] = match_bits(columns, stop - start, filters[model], words)
    return masks


def _masks_of_few(
    hits: pa.RecordBatch,
    program: Program,
    filters: list[list[Filter | None]],
    models: I16,
    masks: U64,
) -> None:
    """As `_masks`, each model's filters over all rows: few rows cost less than bringing them into order."""
    for model in np.unique(models).tolist():
        if filters[model]:
            columns = {name: hits.column(column) for name, column in program.model_columns[model].items()}
            chosen = models == model
            masks[chosen] = match_bits(columns, len(models), filters[model], masks.shape[1])[chosen]
