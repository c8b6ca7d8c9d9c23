"""The hits of a batch: their columns, and how they are put together from the events' columns.

One hit is one event row taken by one event model that finds a key in it (docs/architecture.md §2). Nothing here
loops over events; the columns come from JSON (`json_columns`) or from files (`cluster.replay.table_columns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.admission.plan import MESSAGE_ID_PATH, EventPlan, FitTable
from cluster.admission.sources import Sources
from cluster.admission.timestamps import Bools, EventTimes, Int64s, Times
from cluster.admission.typing_columns import ARROW_TYPES, Typed
from cluster.definitions.model import Path, ValueType
from cluster.limits import KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX

_FIXED_FIELDS = (
    pa.field("row", pa.int32(), nullable=False),
    pa.field("model", pa.int16(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("clock_ms", pa.int64()),
    pa.field("ts_ms", pa.int64()),
    pa.field("ts_relative", pa.bool_(), nullable=False),
    pa.field("message_id", pa.string()),
    pa.field("source", pa.int16(), nullable=False),
)
#: Reasons of rows that gave no hit; the index is the code used inside this module.
_REASONS = ("no_model", "no_key", "invalid", "no_timestamp")
_NO_MODEL, _NO_KEY, _INVALID, _NO_TIMESTAMP = range(4)


def hits_schema(plan: EventPlan) -> pa.Schema:
    """Give the schema of the plan's hits."""
    own = [pa.field(f"c{index}", ARROW_TYPES[kind]) for index, (_, kind) in enumerate(plan.columns)]
    return pa.schema([*_FIXED_FIELDS, *own])


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch's hits, and what became of the rows that gave none.

    `rejected` is ascending by row, one reason a row: `no_model`, `no_key`, `invalid`, in replay also
    `no_timestamp`. `invalid_values` counts, per event model, values of its hits that are neither null nor of the
    declared type; models without any are left out.
    """

    hits: pa.RecordBatch
    row_count: int
    rejected: list[tuple[int, str]]
    invalid_values: dict[str, int]


class EventColumns(Protocol):
    """A batch of events of one wire format, read column by column at canonical paths."""

    @property
    def row_count(self) -> int:
        """The number of events."""
        ...

    def codes(self, field: str, code_of: Mapping[str, int]) -> Int64s:
        """Give `code_of` the text of `type` or `event`; 0 where it is no text, or not in `code_of`."""
        ...

    def ids(self, path: Path) -> pa.StringArray:
        """Give ids as text: numbers in their shortest form; null for `""` and for what is no text or number."""
        ...

    def typed(self, path: Path, kind: ValueType) -> Typed:
        """Give values of a declared type, as `ARROW_TYPES` says."""
        ...

    def times(self) -> EventTimes:
        """Give the canonical `timestamp`, corrected for the sender's clock."""
        ...

    def times_at(self, path: Path) -> Times:
        """Give the time at another path, as it is."""
        ...

    def sources(self, plan: EventPlan) -> Sources:
        """Give where each event came from."""
        ...

    def select(self, rows: npt.NDArray[np.int64]) -> Self:
        """Give some of the events."""
        ...


class ReplayRows(NamedTuple):
    """What replay knows of each row: the clock at it, and whether it has a time at all."""

    clock_ms: Int64s
    timeless: Bools


def assemble(
    plan: EventPlan, fit: FitTable, columns: EventColumns, *, broken: Bools | None = None,
    replay: ReplayRows | None = None,
) -> Decoded:
    """Put the hits of a batch together. `broken` rows are no event at all; they are `invalid`."""
    message_ids = columns.ids(MESSAGE_ID_PATH)
    refused = _refusals(columns.row_count, message_ids, broken, replay)
    sources = columns.sources(plan)
    combination = fit.combinations(
        columns.codes("type", fit.type_codes), columns.codes("event", fit.name_codes), sources.codes
    )
    counts = np.where(refused < 0, fit.offsets[combination + 1] - fit.offsets[combination], 0)
    candidates = np.flatnonzero(counts)
    if len(candidates) < 0.75 * columns.row_count:
        columns, message_ids = columns.select(candidates), message_ids.take(pa.array(candidates))
        positions = np.repeat(np.arange(len(candidates)), counts[candidates])
        rows = candidates[positions]
    else:
        positions = rows = np.repeat(np.arange(columns.row_count), counts)
    models = fit.models[_ranges(fit.offsets[combination], counts, rows)]
    keys = _keys(plan, columns, positions, models)
    reason, keep = _key_faults(keys)
    reasons = _reasons(refused, rows, reason)
    if not keep.all():
        rows, positions, models, keys = rows[keep], positions[keep], models[keep], keys.filter(pa.array(keep))
    return _gather(plan, columns, rows, positions, models, keys, message_ids, sources, replay, reasons)


def _refusals(
    row_count: int, message_ids: pa.StringArray, broken: Bools | None, replay: ReplayRows | None
) -> npt.NDArray[np.int8]:
    """Give the reason code of rows refused before any model is looked at, -1 for the others."""
    refused = np.full(row_count, -1, np.int8)
    refused[_text_bytes(message_ids) > MESSAGE_ID_BYTES_MAX] = _INVALID
    if broken is not None:
        refused[broken] = _INVALID
    if replay is not None:
        refused[replay.timeless] = _NO_TIMESTAMP
    return refused


def _ranges(offsets: Int64s, counts: Int64s, rows: Int64s) -> Int64s:
    """Give, for each candidate, its place in the fit table's list of models."""
    first = np.cumsum(counts) - counts
    return offsets[rows] + np.arange(len(rows)) - first[rows]


def _keys(plan: EventPlan, columns: EventColumns, positions: Int64s, models: npt.NDArray[np.int16]) -> pa.StringArray:
    per_spec = [_first_present([columns.ids(path) for path in paths]) for paths in plan.keys]
    if not per_spec:
        return pa.nulls(len(positions), pa.string())
    if len(per_spec) == 1:
        return _taken(per_spec[0], positions)
    joined = pa.concat_arrays(per_spec)
    return joined.take(pa.array(plan.key_of_model[models] * columns.row_count + positions))


def _first_present(ids: list[pa.StringArray]) -> pa.StringArray:
    return ids[0] if len(ids) == 1 or ids[0].null_count == 0 else pc.coalesce(*ids)


def _key_faults(keys: pa.StringArray) -> tuple[npt.NDArray[np.int8], Bools]:
    """Give the reason code of each candidate that has no usable key, and which candidates have one."""
    sizes = _text_bytes(keys)
    reason = np.where(sizes > KEY_BYTES_MAX, np.int8(_INVALID), np.int8(_NO_KEY))
    keep: Bools = (sizes > 0) & (sizes <= KEY_BYTES_MAX)
    return reason, keep


def _reasons(refused: npt.NDArray[np.int8], rows: Int64s, reason: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Give each row's reason if it gives no hit: the graver of its candidates' (invalid over no_key over no_model)."""
    reasons = np.where(refused < 0, np.int8(_NO_MODEL), refused)
    np.maximum.at(reasons, rows, reason)
    return reasons


def _gather(
    plan: EventPlan, columns: EventColumns, rows: Int64s, positions: Int64s, models: npt.NDArray[np.int16],
    keys: pa.StringArray, message_ids: pa.StringArray, sources: Sources, replay: ReplayRows | None,
    reasons: npt.NDArray[np.int8],
) -> Decoded:
    ts_ms, known, relative = _hit_times(plan, columns, positions, models)
    clock = pa.nulls(len(rows), pa.int64()) if replay is None else pa.array(replay.clock_ms[rows])
    arrays: list[pa.Array] = [
        pa.array(rows.astype(np.int32)), pa.array(models), keys, clock,
        pa.array(ts_ms, pa.int64(), mask=~known), pa.array(relative),
        _taken(message_ids, positions), pa.array(sources.indices[rows]),
    ]
    invalid_counts: dict[str, int] = {}
    for index, (path, kind) in enumerate(plan.columns):
        values, invalid = columns.typed(path, kind)
        arrays.append(_taken(values, positions))
        if invalid is not None:
            _count_invalid(plan, index, models[invalid[positions]], invalid_counts)
    hit = np.zeros(len(reasons), np.bool_)
    hit[rows] = True
    missed = np.flatnonzero(~hit)
    rejected = list(zip(missed.tolist(), [_REASONS[code] for code in reasons[missed].tolist()], strict=True))
    hits = pa.RecordBatch.from_arrays(arrays, schema=hits_schema(plan))
    return Decoded(hits, len(reasons), rejected, invalid_counts)


def merge(plan: EventPlan, row_count: int, parts: list[tuple[Int64s, Decoded]]) -> Decoded:
    """Merge the parts of one batch that were decoded apart; each comes with the row numbers it had in the batch."""
    hits = pa.concat_batches([
        part.hits.set_column(0, _FIXED_FIELDS[0], pa.array(rows[part.hits["row"].to_numpy()].astype(np.int32)))
        for rows, part in parts
    ] or [pa.RecordBatch.from_pylist([], schema=hits_schema(plan))])
    order = np.argsort(hits["row"].to_numpy(), kind="stable")
    rejected = sorted((int(rows[row]), reason) for rows, part in parts for row, reason in part.rejected)
    counts: dict[str, int] = {}
    for _, part in parts:
        for model, count in part.invalid_values.items():
            counts[model] = counts.get(model, 0) + count
    return Decoded(hits.take(pa.array(order)), row_count, rejected, counts)


def _hit_times(
    plan: EventPlan, columns: EventColumns, positions: Int64s, models: npt.NDArray[np.int16]
) -> EventTimes:
    ms, known, relative = (part[positions] for part in columns.times())
    for index, path in enumerate(plan.times):
        own = plan.time_of_model[models] == index
        if own.any():
            at_path = columns.times_at(path)
            ms = np.where(own, at_path.ms[positions], ms)
            known = np.where(own, at_path.known[positions], known)
            relative &= ~own
    return EventTimes(ms, known, relative)


def _count_invalid(plan: EventPlan, column: int, models: npt.NDArray[np.int16], counts: dict[str, int]) -> None:
    """Add the invalid values of one column to the counts of the models that declare it, once a declaration."""
    for model, count in enumerate(np.bincount(models, minlength=len(plan.models)).tolist()):
        declared = sum(index == column for index in plan.columns_of_model[model].values())
        if count and declared:
            counts[plan.models[model].id] = counts.get(plan.models[model].id, 0) + count * declared


def _taken(values: pa.Array, positions: Int64s) -> pa.Array:
    """Take rows; the common case that every row is taken once, in order, copies nothing."""
    if len(positions) == len(values) and (not len(positions) or (positions[-1] == len(values) - 1
                                                                 and np.array_equal(positions, np.arange(len(values))))):
        return values
    return values.take(pa.array(positions))


def _text_bytes(texts: pa.StringArray) -> npt.NDArray[np.int32]:
    """Give each text's length in bytes, 0 for null."""
    sizes: npt.NDArray[np.int32] = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    return sizes
