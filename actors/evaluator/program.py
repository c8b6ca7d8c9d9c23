"""The compiled form of published definitions: what the kernels run, and the names to read it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from actors.evaluator.layout import ProgramArrays
from actors.evaluator.symbols import Unit
from cluster.definitions.model import Column, EventModel, Filter, Published, Test

Taken = Literal["number", "time", "identity"]


@dataclass(frozen=True, slots=True)
class TraitLeaf:
    """One distinct trait condition of a parent; `leaf` is its index among all leaves."""

    leaf: int
    trait: str
    test: Test


@dataclass(frozen=True, slots=True)
class ValueColumn:
    """A column whose values structures take: as float64 to be summed, as times, or as identities."""

    name: str
    taken: Taken


@dataclass(frozen=True, slots=True)
class Program:
    """Flat arrays and their names. Index i of a tuple is index i in the arrays."""

    published: Published
    arrays: ProgramArrays
    parents: tuple[str, ...]
    models: tuple[EventModel, ...]
    #: by model index: the model's column name -> its column in the hits (`c0`, `c1`, ... of the event plan)
    model_columns: tuple[Mapping[str, str], ...]
    #: by model index: its distinct filters (None: matches all); numbered through all models
    model_filters: tuple[tuple[Filter | None, ...], ...]
    #: by model index: the columns of the kernel's values
    model_values: tuple[tuple[ValueColumn, ...], ...]
    #: by parent index
    trait_leaves: tuple[tuple[TraitLeaf, ...], ...]
    trait_columns: tuple[Mapping[str, Column], ...]
    #: by parent index: the traits whose times a user's row holds
    time_columns: tuple[tuple[str, ...], ...]
    #: unit and time zone
    calendars: tuple[tuple[Unit, str], ...]
    #: in order of dependency: what one refers to lies before it
    audiences: tuple[str, ...]
    audience_versions: tuple[int, ...]
    #: the index of each evaluated audience
    audience_index: Mapping[str, int]
    leaf_words: int
    #: the longest of all event models, ms
    retention_ms: int
