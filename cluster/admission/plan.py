"""What published definitions ask of an event: which models it fits, which paths are read, at which types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.admission.typing_columns import ARROW_TYPES
from cluster.definitions.model import Column, Contract, Definitions, EventModel, Path, ValueType

#: The fields of a canonical event (semantics.md §1); paths start with one of them, any other reads as missing.
CANONICAL_FIELDS = (
    "type", "event", "user_id", "anonymous_id", "group_id", "previous_id", "message_id", "source",
    "timestamp", "received_at", "properties", "traits", "context",
)
#: The path of the canonical `timestamp`, the only one that is corrected for the sender's clock.
TIMESTAMP_PATH: Path = ("timestamp",)
MESSAGE_ID_PATH: Path = ("message_id",)
#: What a contract's schema is about.
PROPERTIES_PATH: Path = ("properties",)

#: Source codes of `FitTable.combinations`: no source, a source no definition names, then `plan.sources` from 2 on.
NO_SOURCE, UNKNOWN_SOURCE, FIRST_SOURCE = 0, 1, 2

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


def said_column(trait: str) -> str:
    """Name the column that an identify model has of a trait of its parent (`source: identify`)."""
    return f"\0traits.{trait}"


def presence_column(trait: str) -> str:
    """Name the column that says whether a row says the trait at all, be it null."""
    return f"\0says.{trait}"


class _Codes(dict[str, int]):
    """Codes of names, 0 for every other."""

    def __missing__(self, name: object) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class FitTable:
    """The models that fit, for every combination of type, event name and source that definitions tell apart.

    Codes: `type_codes[type]` and `name_codes[name]`; both give 0 for one that no model names. The models of
    combination `c` are `models[offsets[c]:offsets[c + 1]]`, ascending.
    """

    type_codes: Mapping[str, int]
    name_codes: Mapping[str, int]
    source_count: int
    offsets: npt.NDArray[np.int64]
    models: npt.NDArray[np.int16]
    #: How many models fit each combination.
    counts: npt.NDArray[np.int64]

    def combinations(
        self, types: npt.NDArray[np.int64], names: npt.NDArray[np.int64], sources: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Combine the three codes of each row into one index of `offsets`."""
        return (types * (len(self.name_codes) + 1) + names) * self.source_count + sources

    def fitting(self, type_code: int, name_code: int, source_code: int) -> list[int]:
        """Give the models of one row, ascending."""
        at = (type_code * (len(self.name_codes) + 1) + name_code) * self.source_count + source_code
        return [int(model) for model in self.models[self.offsets[at]:self.offsets[at + 1]]]


class EventPlan:
    """Built once per published version; immutable afterwards, and cheap to pickle (it keeps no decoder).

    `columns` are the distinct (path, type) pairs over all event models, in the order of first use: column `i` of
    it is `c{i}` of the hits. `models`, `parents` (ids) and `sources` (ids) are in document order.
    `columns_of_model[m]` maps the model's own column names to indices into `columns`; identify models also have the
    traits of their parent that come with such calls, as `said_column` names them. `presences` are the paths of these:
    `p{i}` of the hits says whether a row has something at path `i` of them, be it null, and `presences_of_model[m]` is
    what `columns_of_model[m]` is for columns.
    """

    def __init__(self, definitions: Definitions) -> None:
        self.models: tuple[EventModel, ...] = tuple(definitions.event_models.values())
        self.parents: tuple[str, ...] = tuple(definitions.parent_models)
        self.sources: tuple[str, ...] = tuple(definitions.sources)
        self.model_index: dict[str, int] = {model.id: index for index, model in enumerate(self.models)}
        self.source_index: dict[str, int] = {source: index for index, source in enumerate(self.sources)}
        self.parent_of_model: tuple[int, ...] = tuple(self.parents.index(model.parent) for model in self.models)
        self.column_index: dict[tuple[Path, ValueType], int] = {}
        said = [_said(definitions, model) for model in self.models]
        read = [
            {**model.columns, **{said_column(trait): column for trait, column in own.items()}}
            for model, own in zip(self.models, said, strict=True)
        ]
        for columns in read:
            for column in columns.values():
                self.column_index.setdefault((column.path, column.type), len(self.column_index))
        self.columns: tuple[tuple[Path, ValueType], ...] = tuple(self.column_index)
        self.columns_of_model: tuple[dict[str, int], ...] = tuple(
            {name: self.column_index[column.path, column.type] for name, column in columns.items()} for columns in read
        )
        self.presences: tuple[Path, ...] = tuple(dict.fromkeys(column.path for own in said for column in own.values()))
        self.presences_of_model: tuple[dict[str, int], ...] = tuple(
            {presence_column(trait): self.presences.index(column.path) for trait, column in own.items()} for own in said
        )
        #: The models whose rows say traits, and the columns that are read for them alone (missing in others' hits).
        self.says = np.array([bool(own) for own in said], np.bool_)
        declared = {(column.path, column.type) for model in self.models for column in model.columns.values()}
        self.said_alone = frozenset(index for index, column in enumerate(self.columns) if column not in declared)
        self.hits_schema: pa.Schema = _hits_schema(self.columns, len(self.presences))
        #: Models with a contract that asks something, by index.
        self.contracts: dict[int, Contract] = {
            index: model.contract
            for index, model in enumerate(self.models)
            if model.contract is not None and (model.contract.required or model.contract.schema is not None)
        }
        #: Distinct foreign keys, and which one each model uses.
        self.keys: tuple[tuple[Path, ...], ...] = tuple(dict.fromkeys(model.foreign_key for model in self.models))
        self.key_of_model = np.array([self.keys.index(model.foreign_key) for model in self.models], np.int64)
        #: Distinct `timestamp` paths other than the canonical one; -1 in `time_of_model` is the canonical one.
        self.times: tuple[Path, ...] = tuple(
            dict.fromkeys(model.timestamp for model in self.models if model.timestamp != TIMESTAMP_PATH)
        )
        self.time_of_model = np.array(
            [self.times.index(m.timestamp) if m.timestamp in self.times else -1 for m in self.models], np.int64
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every canonical path that columns, keys and times read, each once."""
        read = [path for path, _ in self.columns] + [path for key in self.keys for path in key] + list(self.times)
        if any(contract.schema is not None for contract in self.contracts.values()):
            read.append(PROPERTIES_PATH)
        return tuple(dict.fromkeys(read))

    def fit_table(self, *, sourceless_fits_all: bool) -> FitTable:
        """Tabulate which models fit. In replay an event without `source` fits every model (semantics.md §1)."""
        type_codes = _codes(model.type for model in self.models)
        name_codes = _codes(model.event for model in self.models if model.event is not None)
        source_count = FIRST_SOURCE + len(self.sources)
        fits = np.zeros((len(type_codes) + 1, len(name_codes) + 1, source_count, len(self.models)), np.bool_)
        for index, model in enumerate(self.models):
            names = slice(None) if model.event is None else name_codes[model.event]
            fits[type_codes[model.type], names, self._source_codes(model, sourceless_fits_all), index] = True
        combinations = fits.reshape(math.prod(fits.shape[:-1]), len(self.models))
        counts = combinations.sum(axis=1, dtype=np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        models = np.nonzero(combinations)[1].astype(np.int16)
        return FitTable(type_codes, name_codes, source_count, offsets, models, counts)

    def _source_codes(self, model: EventModel, sourceless_fits_all: bool) -> slice | list[int]:
        if model.source is None:
            return slice(None)
        own = FIRST_SOURCE + self.source_index[model.source]
        return [NO_SOURCE, own] if sourceless_fits_all else [own]


def _said(definitions: Definitions, model: EventModel) -> Mapping[str, Column]:
    """Give the traits that a model's rows say of its parent's users."""
    return definitions.parent_models[model.parent].identify_columns if model.type == "identify" else {}


def _hits_schema(columns: tuple[tuple[Path, ValueType], ...], presences: int) -> pa.Schema:
    own = [pa.field(f"c{index}", ARROW_TYPES[kind]) for index, (_, kind) in enumerate(columns)]
    own += [pa.field(f"p{index}", pa.bool_(), nullable=False) for index in range(presences)]
    return pa.schema([*_FIXED_FIELDS, *own])


def _codes(names: Iterable[str]) -> _Codes:
    return _Codes((name, code) for code, name in enumerate(dict.fromkeys(names), start=1))
