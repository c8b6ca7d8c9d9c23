"""A trait snapshot as the kernels take it: truths of trait conditions, and the times of those that depend on time."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.evaluator.layout import I64, MISSING, U64
from actors.evaluator.matching.operators import evaluate_test
from actors.evaluator.program import Program
from actors.evaluator.values import times_of

#: How a snapshot holds a trait of each declared type (docs/architecture.md §5).
_ARROW_TYPES: Final = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.int64(),
    "string": pa.string(),
    "list": pa.list_(pa.string()),
}


def trait_words(program: Program, parent: int, snapshot: pa.Table) -> U64:
    """Give the truth of the parent's trait leaves for each row: [rows, leaf words]."""
    words = np.zeros((snapshot.num_rows, program.leaf_words), np.uint64)
    columns: dict[str, pa.Array] = {}
    for leaf in program.trait_leaves[parent]:
        if leaf.trait not in columns:
            column = _column(snapshot, leaf.trait, leaf.test.type)
            # Each distinct text is tested once, whatever the number of conditions and users.
            columns[leaf.trait] = pc.dictionary_encode(column) if leaf.test.type == "string" else column
        truth = evaluate_test(columns[leaf.trait], leaf.test)
        words[truth, leaf.leaf >> 6] |= np.uint64(1 << (leaf.leaf & 63))
    return words


def time_width(program: Program) -> int:
    """Give the number of time columns of any parent at most."""
    return max((len(columns) for columns in program.time_columns), default=0)


def trait_times(program: Program, parent: int, snapshot: pa.Table) -> I64:
    """Give the times that the parent's time leaves look at: [rows, time columns of any parent at most], ms."""
    times = np.full((snapshot.num_rows, time_width(program)), MISSING, np.int64)
    for i, trait in enumerate(program.time_columns[parent]):
        times[:, i] = times_of(_column(snapshot, trait, "timestamp"))
    return times


def _column(snapshot: pa.Table, trait: str, declared: str) -> pa.Array:
    """Give a column; all missing where the snapshot is older than the column's declaration (or its type)."""
    wanted = _ARROW_TYPES[declared]
    place = snapshot.schema.get_field_index(trait)
    if place < 0 or snapshot.schema.field(place).type != wanted:
        return pa.nulls(snapshot.num_rows, wanted)
    return whole(snapshot.column(place))


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Give a table's column as one array."""
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], column.type)
    return combined
