"""The hits of a batch: their columns, and how they are put together from the events' columns.

One hit is one event row taken by one event model that finds a key in it (docs/architecture.md §2). Nothing here
loops over events; the columns come from JSON (`json_columns`) or from files (`cluster.replay.table_columns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.admission.contracts import Contracts, Violation, note, violations_of
from cluster.admission.plan import MESSAGE_ID_PATH, PROPERTIES_PATH, EventPlan, FitTable
from cluster.admission.sources import Sources
from cluster.admission.timestamps import Bools, EventTimes, Int64s, Times
from cluster.admission.typing_columns import ARROW_TYPES, Typed, text_sizes
from cluster.definitions.model import Path, ValueType
from cluster.limits import KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX

#: Reasons of rows that gave no hit, the graver the higher: a row counts under its gravest.
_REASONS = ("no_model", "no_key", "contract", "invalid", "no_timestamp")
_NO_MODEL, _NO_KEY, _CONTRACT, _INVALID, _NO_TIMESTAMP = (np.int8(code) for code in range(5))
#: A row that is not refused (yet).
_OPEN = np.int8(-1)
#: Below this share of rows that some model fits, columns are read for these alone.
_SPARSE = 0.75

Models = npt.NDArray[np.int16]
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch's hits (`plan.hits_schema`), and what became of the rows that gave none.

    `rejected` is ascending by row, one reason a row: `no_model`, `no_key`, `contract`, `invalid`, in replay also
    `no_timestamp`. `invalid_values` counts, per event model, values of its hits that are neither null nor of the
    declared type; models without any are left out. `violations`: what breaks its models' contracts.
    """

    hits: pa.RecordBatch
    row_count: int
    rejected: list[tuple[int, str]]
    invalid_values: dict[str, int]
    violations: list[Violation] = field(default_factory=list)


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

    def present(self, path: Path) -> Bools:
        """Say of each event whether something, be it null, is at one of the plan's `presences`."""
        ...

    def times(self) -> EventTimes:
        """Give the canonical `timestamp`, corrected for the sender's clock."""
        ...

    def times_at(self, path: Path) -> Times:
        """Give the time at another path, as it is."""
        ...

    def objects(self, path: Path) -> list[Any]:
        """Give what is at a path as JSON values; None for nothing."""
        ...

    def sources(self, plan: EventPlan) -> Sources:
        """Give where each event came from."""
        ...

    def select(self, rows: Int64s) -> Self:
        """Give some of the events."""
        ...


class ReplayRows(NamedTuple):
    """What replay knows of each row: the clock at it, and whether it has no time at all."""

    clock_ms: Int64s
    timeless: Bools


class _Take:
    """Picks rows of columns that have `count` rows; the common case that each is picked once, in order, is free."""

    def __init__(self, rows: Int64s, count: int) -> None:
        self.rows = rows
        whole = len(rows) == count and bool((rows == np.arange(count)).all())
        self._indices = None if whole else pa.array(rows)

    def __call__(self, column: pa.Array) -> pa.Array:
        return column if self._indices is None else column.take(self._indices)


class _Candidates(NamedTuple):
    """Rows and the models that fit them, by row and then by model: hits, once a key is found.

    `columns` may hold only the rows that some model fits; `positions` are the candidates' places in it.
    """

    columns: EventColumns
    rows: Int64s
    positions: Int64s
    models: Models

    def keep(self, kept: Bools) -> _Candidates:
        return _Candidates(self.columns, self.rows[kept], self.positions[kept], self.models[kept])


def assemble(
    plan: EventPlan, fit: FitTable, columns: EventColumns, *, broken: Bools | None = None,
    replay: ReplayRows | None = None, contracts: Contracts | None = None,
) -> Decoded:
    """Put the hits of a batch together. `broken` rows are no event at all; they are `invalid`."""
    sources = columns.sources(plan)
    combinations = fit.combinations(
        columns.codes("type", fit.type_codes), columns.codes("event", fit.name_codes), sources.codes
    )
    message_ids = columns.ids(MESSAGE_ID_PATH)
    reasons = _refusals(fit.counts[combinations], message_ids, broken, replay)
    candidates = _candidates(fit, columns, combinations, reasons)
    keys = _keys(plan, candidates)
    sizes = text_sizes(keys)
    usable: Bools = (sizes > 0) & (sizes <= KEY_BYTES_MAX)
    if not usable.all():
        np.maximum.at(reasons, candidates.rows, np.where(sizes > KEY_BYTES_MAX, _INVALID, _NO_KEY))
        candidates, keys = candidates.keep(usable), keys.filter(pa.array(usable))
    at_row = _Take(candidates.rows, len(reasons))
    clock = pa.nulls(len(candidates.rows), pa.int64()) if replay is None else at_row(pa.array(replay.clock_ms))
    said = _Said.of(plan, candidates)
    own, invalid_values = _own_columns(plan, candidates, said)
    hits = pa.RecordBatch.from_arrays([
        pa.array(candidates.rows.astype(np.int32)), pa.array(candidates.models), keys, clock,
        *_times(plan, candidates), at_row(message_ids), at_row(pa.array(sources.indices)), *own,
        *(said.presence(path) for path in plan.presences),
    ], schema=plan.hits_schema)
    violations: list[Violation] = []
    taken = candidates.rows
    if contracts:
        violations, blocked = _held_to(contracts, candidates, own)
        if blocked is not None:
            np.maximum.at(reasons, taken[blocked], _CONTRACT)
            hits, taken = hits.filter(pa.array(~blocked)), taken[~blocked]
    return Decoded(hits, len(reasons), _rejected(taken, reasons), invalid_values, violations)


def _held_to(
    contracts: Contracts, candidates: _Candidates, own: list[pa.Array]
) -> tuple[list[Violation], Bools | None]:
    properties: list[Any] = []
    if contracts.read_properties:
        objects = candidates.columns.objects(PROPERTIES_PATH)
        properties = [objects[position] for position in candidates.positions.tolist()]
    return contracts.check(candidates.models, candidates.rows, own, properties)


def _refusals(
    model_counts: Int64s, message_ids: pa.StringArray, broken: Bools | None, replay: ReplayRows | None
) -> Codes:
    """Give the reason of rows that are refused before a key is looked for, _OPEN for the others."""
    reasons = np.where(model_counts > 0, _OPEN, _NO_MODEL)
    long_ids = text_sizes(message_ids) > MESSAGE_ID_BYTES_MAX
    if long_ids.any():
        reasons[long_ids & (model_counts > 0)] = _INVALID
    if broken is not None:
        reasons[broken] = _INVALID
    if replay is not None:
        reasons[replay.timeless] = _NO_TIMESTAMP
    return reasons


def _candidates(fit: FitTable, columns: EventColumns, combinations: Int64s, reasons: Codes) -> _Candidates:
    counts = np.where(reasons == _OPEN, fit.counts[combinations], 0)
    fitting = np.flatnonzero(counts)
    places = np.repeat(np.arange(len(fitting)), counts[fitting])
    rows = fitting[places]
    # A candidate's model is so far into its row's run of the fit table as it is into the row's run of candidates.
    starts = np.cumsum(counts) - counts
    models = fit.models[fit.offsets[combinations][rows] + np.arange(len(rows)) - starts[rows]]
    if len(fitting) < _SPARSE * columns.row_count:
        return _Candidates(columns.select(fitting), rows, places, models)
    return _Candidates(columns, rows, rows, models)


def _keys(plan: EventPlan, candidates: _Candidates) -> pa.StringArray:
    """Give each candidate's key by its model's foreign key, null where none is found."""
    columns, positions = candidates.columns, candidates.positions
    found = [_first_present([columns.ids(path) for path in paths]) for paths in plan.keys]
    if len(found) > 1:
        return pa.concat_arrays(found).take(
            pa.array(plan.key_of_model[candidates.models] * columns.row_count + positions)
        )
    return _Take(positions, columns.row_count)(found[0]) if found else pa.nulls(0, pa.string())


def _first_present(ids: list[pa.StringArray]) -> pa.StringArray:
    return ids[0] if len(ids) == 1 or ids[0].null_count == 0 else pc.coalesce(*ids)


def _times(plan: EventPlan, candidates: _Candidates) -> tuple[pa.Int64Array, pa.BooleanArray]:
    """Give `ts_ms` and `ts_relative`."""
    columns, positions, models = candidates.columns, candidates.positions, candidates.models
    ms, known, relative = (part[positions] for part in columns.times())
    for index, path in enumerate(plan.times):
        own = plan.time_of_model[models] == index
        if own.any():
            at_path = columns.times_at(path)
            ms = np.where(own, at_path.ms[positions], ms)
            known = np.where(own, at_path.known[positions], known)
            relative &= ~own
    return pa.array(ms, mask=~known), pa.array(relative)


class _Said:
    """What identify calls say of their users, read of the candidates of such models alone: they are few among many."""

    def __init__(self, columns: EventColumns, chosen: Int64s, count: int) -> None:
        self._columns = columns
        self._chosen = chosen
        self._count = count

    @classmethod
    def of(cls, plan: EventPlan, candidates: _Candidates) -> _Said:
        chosen = np.flatnonzero(plan.says[candidates.models]) if plan.presences else np.zeros(0, np.int64)
        columns = candidates.columns
        if len(chosen):
            columns = columns.select(candidates.positions[chosen])
        return cls(columns, chosen, len(candidates.models))

    def typed(self, path: Path, kind: ValueType) -> Typed:
        """Give a column of all candidates; missing where the model is another."""
        if len(self._chosen) == 0:
            return Typed(pa.nulls(self._count, ARROW_TYPES[kind]), None)
        values, wrong = self._columns.typed(path, kind)
        places = np.zeros(self._count, np.int64)
        places[self._chosen] = np.arange(len(self._chosen))
        missing = np.ones(self._count, np.bool_)
        missing[self._chosen] = False
        invalid = None
        if wrong is not None:
            invalid = np.zeros(self._count, np.bool_)
            invalid[self._chosen] = wrong
        return Typed(values.take(pa.array(places, mask=missing)), invalid)

    def presence(self, path: Path) -> pa.BooleanArray:
        """Give `p0`, `p1`, ..."""
        found = np.zeros(self._count, np.bool_)
        if len(self._chosen):
            found[self._chosen] = self._columns.present(path)
        return pa.array(found)


def _own_columns(
    plan: EventPlan, candidates: _Candidates, said: _Said
) -> tuple[list[pa.Array], dict[str, int]]:  # fmt: skip
    """Give `c0`, `c1`, ... and the counts of invalid values."""
    take = _Take(candidates.positions, candidates.columns.row_count)
    invalid_values: dict[str, int] = {}
    arrays = []
    for index, (path, kind) in enumerate(plan.columns):
        if index in plan.said_alone:
            values, invalid = said.typed(path, kind)
            arrays.append(values)
            if invalid is not None:
                _count_invalid(plan, index, candidates.models[invalid], invalid_values)
            continue
        values, invalid = candidates.columns.typed(path, kind)
        arrays.append(take(values))
        if invalid is not None:
            _count_invalid(plan, index, candidates.models[invalid[candidates.positions]], invalid_values)
    return arrays, invalid_values


def _count_invalid(plan: EventPlan, column: int, models: Models, counts: dict[str, int]) -> None:
    """Add the invalid values of one column to the counts of the models that declare it, once a declaration."""
    for model, count in enumerate(np.bincount(models, minlength=len(plan.models)).tolist()):
        declared = sum(index == column for index in plan.columns_of_model[model].values())
        if count and declared:
            counts[plan.models[model].id] = counts.get(plan.models[model].id, 0) + count * declared


def _rejected(hit_rows: Int64s, reasons: Codes) -> list[tuple[int, str]]:
    missed = np.ones(len(reasons), np.bool_)
    missed[hit_rows] = False
    rows = np.flatnonzero(missed)
    return [(row, _REASONS[code]) for row, code in zip(rows.tolist(), reasons[rows].tolist(), strict=True)]


def merge(plan: EventPlan, row_count: int, parts: list[tuple[Int64s, Decoded]]) -> Decoded:
    """Merge the parts of one batch that were decoded apart; each comes with the row numbers it had in the batch."""
    row_field = plan.hits_schema.field(0)
    batches = [
        part.hits.set_column(0, row_field, pa.array(rows[part.hits["row"].to_numpy()].astype(np.int32)))
        for rows, part in parts
    ]
    hits = pa.Table.from_batches(batches, plan.hits_schema).unify_dictionaries().sort_by("row")
    rejected = sorted((int(rows[row]), reason) for rows, part in parts for row, reason in part.rejected)
    counts: dict[str, int] = {}
    for _, part in parts:
        for model, count in part.invalid_values.items():
            counts[model] = counts.get(model, 0) + count
    broken: dict[tuple[str, str], tuple[int, int]] = {}
    for rows, part in parts:
        for found in part.violations:
            note(broken, found.model, found.rule, int(rows[found.row]), found.events)
    return Decoded(one_batch(hits), row_count, rejected, counts, violations_of(broken))


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """Give a table as a single batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_arrays(
        [pa.array([], field.type) for field in table.schema], schema=table.schema
    )
