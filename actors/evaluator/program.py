"""The compiled form of published definitions: what the kernels run, and the names to read it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.evaluator.layout import ProgramArrays
from cluster.definitions.model import Column, EventModel, Filter, Published, Test


@dataclass(frozen=True, slots=True)
class Ring:
    """One distinct (event model, filter): the timestamps of the events that match it."""

    model: int
    where: Filter | None


@dataclass(frozen=True, slots=True)
class TraitLeaf:
    """One distinct trait condition of a parent; `leaf` is its index among all leaves."""

    leaf: int
    trait: str
    test: Test


@dataclass(frozen=True, slots=True)
class Program:
    """Flat arrays and their names. Index i of a tuple is index i in the arrays."""

    published: Published
    arrays: ProgramArrays
    parents: tuple[str, ...]
    models: tuple[EventModel, ...]
    #: by model index: the model's column name -> its column in the hits (`c0`, `c1`, ... of the event plan)
    model_columns: tuple[Mapping[str, str], ...]
    rings: tuple[Ring, ...]
    #: by parent index
    trait_leaves: tuple[tuple[TraitLeaf, ...], ...]
    trait_columns: tuple[Mapping[str, Column], ...]
    audiences: tuple[str, ...]
    audience_versions: tuple[int, ...]
    #: the index of each evaluated audience
    audience_index: Mapping[str, int]
    leaf_words: int
    member_words: int

    @property
    def model_rings(self) -> list[list[Filter | None]]:
        """Give the filters of each model's rings, in the order of the kernel's match bits."""
        result: list[list[Filter | None]] = [[] for _ in self.models]
        for ring in self.rings:
            result[ring.model].append(ring.where)
        return result
