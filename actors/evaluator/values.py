"""Values that structures take from events: float64 to be summed, times, and identities to be told apart."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from actors.evaluator.kernels.hashing import hash_strings
from actors.evaluator.layout import I16, I32, I64, MISSING, U8, U64
from actors.evaluator.program import Program

#: Spreads identities of texts. Fixed: a checkpoint holds them. Two texts of one window share one with probability
#: 2^-64.
_SEED = np.uint64(0x5EEDED1D)
#: Times beyond this (in size) say the same as this.
TIME_MAX: Final = 2**61


def values_of(hits: pa.RecordBatch, program: Program, models: I16) -> I64:
    """Give each hit's values, in the order of its model's `model_values`: [hits, the most of any model].

    Numbers to be summed are the bits of their float64, times ms (a missing one MISSING). Any other missing value is
    anything: its filter does not match.
    """
    width = max((len(columns) for columns in program.model_values), default=0)
    result = np.zeros((len(models), width), np.int64)
    if width == 0:
        return result
    for model, columns in enumerate(program.model_values):
        chosen = np.flatnonzero(models == model) if columns else np.zeros(0, np.int64)
        for i, column in enumerate(columns):
            if len(chosen):
                array = hits.column(program.model_columns[model][column.name])
                result[chosen, i] = _TAKE[column.taken](array)[chosen]
    return result


def _numbers(column: pa.Array) -> I64:
    filled = column.fill_null(0.0) if column.null_count else column
    return np.ascontiguousarray(np.asarray(filled.to_numpy(zero_copy_only=False)), np.float64).view(np.int64)


def times_of(column: pa.Array) -> I64:
    """Give times in ms; sums of one with a duration stay inside int64, and a missing one is MISSING."""
    filled = column.fill_null(0) if column.null_count else column
    times: I64 = np.clip(np.asarray(filled.to_numpy(zero_copy_only=False)), -TIME_MAX, TIME_MAX).astype(np.int64)
    if column.null_count:
        times[~np.asarray(column.is_valid().to_numpy(zero_copy_only=False)).astype(np.bool_)] = MISSING
    return times


def identities(column: pa.Array) -> I64:
    """Give an int64 a row that is equal exactly where two values of the column's type are; null rows: anything.

    Numbers, booleans and times are their own identity; texts and lists of texts a 64-bit hash.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        codes = column.indices.fill_null(0) if column.null_count else column.indices
        known = identities(column.dictionary) if len(column.dictionary) else np.zeros(1, np.int64)
        result: I64 = known[np.asarray(codes.to_numpy(zero_copy_only=False))]
        return result
    if pa.types.is_string(kind):
        return hash_texts(column).view(np.int64)
    if pa.types.is_list(kind):
        return _lists(column)
    if pa.types.is_floating(kind):
        filled = column.fill_null(0.0) if column.null_count else column
        values = np.asarray(filled.to_numpy(zero_copy_only=False)).astype(np.float64) + 0.0  # -0.0 is 0.0
        return values.view(np.int64)
    filled = column.fill_null(False if pa.types.is_boolean(kind) else 0) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False)).astype(np.int64)


def hash_texts(column: pa.Array) -> U64:
    """Give a 64-bit hash of each text."""
    result = np.zeros(len(column), np.uint64)
    offsets, data = _buffers(column)
    hash_strings(offsets, data, _SEED, result)
    return result


def _lists(column: pa.Array) -> I64:
    """Hash each list by its elements in order: as one text of their hashes."""
    hashes = hash_texts(column.values)
    starts = np.asarray(column.offsets.to_numpy(zero_copy_only=False)).astype(np.int32)
    result = np.zeros(len(column), np.uint64)
    data = hashes.view(np.uint8) if len(hashes) else np.zeros(8, np.uint8)
    hash_strings(starts * 8, data, _SEED, result)
    return result.view(np.int64)


def _buffers(column: pa.Array) -> tuple[I32, U8]:
    _, offsets, data = column.buffers()
    if offsets is None or len(column) == 0:
        return np.zeros(len(column) + 1, np.int32), np.zeros(1, np.uint8)
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return starts, np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)


_TAKE: Final = {"number": _numbers, "time": times_of, "identity": identities}
