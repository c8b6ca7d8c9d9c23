"""A table with any number of rows a user, folded into traits batch by batch: what is held grows with users, not rows.

Each trait is a sum, a minimum or a maximum over the rows that its filter takes, so that partial results of batches
fold like rows do; those of distinct values are pairs of key and value, each kept once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.evaluator.matching.operators import evaluate_test
from actors.traits.columns import ARROW_TYPES
from actors.traits.tables import Keyed, places_of
from actors.traits.typing_batches import Batch, check_bytes, typed_columns, typed_keys
from actors.traits.wanted import Wanted
from cluster.definitions.model import Filter, FilterAll, FilterAny, FilterNot, PropertyTest, RelatedTable, RelatedTrait

Bools: TypeAlias = npt.NDArray[np.bool_]
#: Arrow tables and arrays; pyarrow ships no types.
Table: TypeAlias = Any
Array: TypeAlias = Any
Columns: TypeAlias = Mapping[str, Array]

_KEY: Final = "key"
_VALUE: Final = "value"
_ROWS: Final = "rows"
_NO_NUMBER: Final = pa.scalar(None, pa.int64())
#: Partial rows that wait before they are folded: about twice what is folded already, and at least this many.
_FOLD_ROWS_MIN: Final = 1_000_000
#: What a trait is for a user without rows; the others are missing.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "count": 0.0, "any": False, "all": True, "none": True, "sum": 0.0, "distinct": 0.0, "list": [],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Related:
    """The traits of a related table by key, the rows that each key has, and how many rows name no user at all."""

    traits: Keyed
    rows: Any
    without_key: int


@dataclass(slots=True)
class _Folding:
    """Partial results: a table with the columns `by` and others, each folded by its function."""

    by: tuple[str, ...]
    functions: Mapping[str, str]
    folded: Table | None = None
    waiting: list[Table] = field(default_factory=list)
    waiting_rows: int = 0

    def add(self, rows: Table) -> None:
        part = self._fold(rows)
        self.waiting.append(part)
        self.waiting_rows += part.num_rows
        if self.waiting_rows > max(_FOLD_ROWS_MIN, 2 * (0 if self.folded is None else self.folded.num_rows)):
            self.result()

    def result(self) -> Table | None:
        """Fold what waits; None where nothing came."""
        parts = [*([] if self.folded is None else [self.folded]), *self.waiting]
        if self.waiting:
            self.folded = parts[0] if len(parts) == 1 else self._fold(pa.concat_tables(parts))
            self.waiting, self.waiting_rows = [], 0
        return self.folded

    def _fold(self, rows: Table) -> Table:
        grouped = rows.group_by(list(self.by)).aggregate(list(self.functions.items()))
        names = [name.removesuffix(f"_{self.functions.get(name.rpartition('_')[0])}") for name in grouped.column_names]
        return grouped.rename_columns(names)


class RelatedBuilder:
    """Takes batches of a related table. Rows with a null or an empty key name no user: they are counted, not used."""

    def __init__(self, table: RelatedTable, wanted: Wanted) -> None:
        self._table = table
        self._wanted = wanted
        self._without_key = 0
        functions = {_ROWS: "sum"}
        for index, trait in enumerate(table.traits):
            functions |= {f"{index}.{name}": function for name, function in _FOLDS.get(trait.quantifier, {}).items()}
        self._totals = _Folding((_KEY,), functions)
        self._pairs = {
            index: _Folding((_KEY, _VALUE), {})
            for index, trait in enumerate(table.traits)
            if trait.quantifier in ("distinct", "list")
        }

    def add(self, batch: Batch) -> None:
        """Take rows that have at least the wanted columns; raises `SnapshotError`, reason `wrong_type`, `damaged`."""
        check_bytes(batch, self._wanted)
        keys, columns = typed_keys(batch, self._wanted), typed_columns(batch, self._wanted)
        known = pc.greater(pc.fill_null(pc.binary_length(keys), 0), 0)
        self._without_key += batch.num_rows - (pc.sum(known).as_py() or 0)
        if not pc.all(known, min_count=0).as_py():
            keys, columns = keys.filter(known), {name: column.filter(known) for name, column in columns.items()}
        if not len(keys):
            return
        totals = {_KEY: keys, _ROWS: pa.array(np.ones(len(keys), np.int64))}
        for index, trait in enumerate(self._table.traits):
            taken = _mask(trait.where, columns, len(keys))
            if index in self._pairs:
                self._pairs[index].add(_pairs(keys, columns[str(trait.column)], taken))
            for name, values in _partials(trait, columns, taken).items():
                totals[f"{index}.{name}"] = values
        self._totals.add(pa.table(totals))

    def finish(self) -> Related:
        """Give every trait of every key that came."""
        totals = self._totals.result()
        if totals is None:
            totals = pa.table({_KEY: pa.array([], pa.string()), _ROWS: pa.array([], pa.int64())})
        keys = totals.column(_KEY)
        columns = {trait.name: self._column(index, trait, totals) for index, trait in enumerate(self._table.traits)}
        defaults = {
            trait.name: _DEFAULTS[trait.quantifier] for trait in self._table.traits if trait.quantifier in _DEFAULTS
        }
        return Related(Keyed(keys, columns, defaults), totals.column(_ROWS), self._without_key)

    def _column(self, index: int, trait: RelatedTrait, totals: Table) -> Any:
        if index in self._pairs:
            return _of_pairs(trait, self._pairs[index].result(), totals.column(_KEY))
        parts = {name: totals.column(f"{index}.{name}") for name in _FOLDS[trait.quantifier] if totals.num_rows}
        if not parts:
            return pa.chunked_array([], ARROW_TYPES[self._type(trait)])
        return _RESULTS[trait.quantifier](parts).cast(ARROW_TYPES[self._type(trait)])

    def _type(self, trait: RelatedTrait) -> Any:
        if trait.quantifier in ("any", "all", "none"):
            return "boolean"
        if trait.quantifier in ("min", "max"):
            return self._table.columns[str(trait.column)].type
        return "number"


#: The partial columns of a quantifier, each with the function that folds it.
_FOLDS: Final[Mapping[str, Mapping[str, str]]] = {
    "count": {"n": "sum"}, "any": {"n": "sum"}, "all": {"n": "sum"}, "none": {"n": "sum"},
    "sum": {"sum": "sum"}, "avg": {"sum": "sum", "n": "sum"}, "min": {"least": "min"}, "max": {"most": "max"},
}  # fmt: skip
#: From folded columns to the trait.
_RESULTS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "count": lambda parts: parts["n"],
    "any": lambda parts: pc.greater(parts["n"], 0),
    "all": lambda parts: pc.equal(parts["n"], 0),
    "none": lambda parts: pc.equal(parts["n"], 0),
    "sum": lambda parts: parts["sum"],
    "avg": lambda parts: pc.divide(parts["sum"], pc.if_else(pc.equal(parts["n"], 0), _NO_NUMBER, parts["n"])),
    "min": lambda parts: parts["least"],
    "max": lambda parts: parts["most"],
}


def _partials(trait: RelatedTrait, columns: Columns, taken: Bools) -> dict[str, Array]:
    """Give what a batch's rows add to a trait's folded columns."""
    if trait.quantifier == "count":
        return {"n": _whole(taken)}
    if trait.test is not None:
        holds = _mask(trait.test, columns, len(taken))
        return {"n": _whole(taken & (~holds if trait.quantifier == "all" else holds))}
    if trait.quantifier in ("distinct", "list"):
        return {}
    values = columns[str(trait.column)]
    values = values if taken.all() else pc.if_else(pa.array(taken), values, pa.scalar(None, values.type))
    if trait.quantifier in ("min", "max"):
        return {"least" if trait.quantifier == "min" else "most": values}
    partials = {"sum": pc.fill_null(values, 0.0)}
    return partials if trait.quantifier == "sum" else {**partials, "n": values.is_valid().cast(pa.int64())}


def _whole(truth: Bools) -> Array:
    return pa.array(truth.astype(np.int64))


def _pairs(keys: Array, values: Array, taken: Bools) -> Table:
    kept = pc.and_(values.is_valid(), pa.array(taken))
    values = values.filter(kept)
    if pa.types.is_floating(values.type):
        values = pc.add(values, 0.0)  # minus zero is zero
    return pa.table({_KEY: keys.filter(kept), _VALUE: values})


def _of_pairs(trait: RelatedTrait, pairs: Table | None, keys: Any) -> Any:
    """Give the number of a key's values, or the values themselves in order; those of keys without any are empty."""
    if pairs is None:
        pairs = pa.table({_KEY: pa.array([], pa.string()), _VALUE: pa.array([], pa.string())})
    if trait.quantifier == "distinct":
        counted = pairs.group_by(_KEY).aggregate([([], "count_all")])
        places = places_of(keys, counted.column(_KEY))
        return pc.fill_null(counted.column("count_all").take(places), 0).cast(pa.float64())
    return _lists(pairs, keys)


def _lists(pairs: Table, keys: Any) -> Any:
    """Put each key's values into a list, in the order of `keys`: sorted by the key's place, then by value."""
    placed = pa.table({"place": places_of(pairs.column(_KEY), keys), _VALUE: pairs.column(_VALUE)})
    ordered = placed.sort_by([("place", "ascending"), (_VALUE, "ascending")])
    offsets = np.zeros(len(keys) + 1, np.int32)
    np.cumsum(np.bincount(ordered.column("place").to_numpy(), minlength=len(keys)), out=offsets[1:])
    chunks = ordered.column(_VALUE).chunks
    values = pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), values)])


def _mask(where: Filter | None, columns: Columns, rows: int) -> Bools:
    """Say which rows a filter takes; all where there is none."""
    if where is None:
        return np.ones(rows, np.bool_)
    if isinstance(where, PropertyTest):
        return evaluate_test(columns[where.column], where.test)
    if isinstance(where, FilterNot):
        return ~_mask(where.child, columns, rows)
    assert isinstance(where, FilterAll | FilterAny)
    together = np.logical_and if isinstance(where, FilterAll) else np.logical_or
    found: Bools = together.reduce([_mask(child, columns, rows) for child in where.children])
    return found
