"""The filters of one event model -> the tables that the matching kernels read (`kernels/filter_layout.py`).

Building costs some tens of us a filter, once a program; the tables take a few hundred bytes a filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import address_of
from actors.evaluator.kernels.texts import fill_slots, hash_keys, hash_texts
from actors.evaluator.layout import I64, U64
from actors.evaluator.matching.facets import Facet, Facets, key_of, select
from actors.evaluator.matching.index import FilterIndex
from actors.evaluator.matching.programs import Patterns, Programs
from actors.evaluator.matching.trees import Cover, Node, covers_of, literals_of, tree_of
from cluster.definitions.model import Filter, Test


@dataclass(frozen=True, slots=True)
class FilterTables:
    """Filters as tables; `table` holds addresses of `arrays`, and lives as long as they do.

    `facets` are (column, kind, folded), in the order in which the kernels want the columns of a batch.
    """

    table: I64
    arrays: tuple[NDArray[Any], ...]
    facets: tuple[tuple[str, int, bool], ...]
    pattern_count: int
    #: pattern -> (place of its facet, test), of the regular expressions: those that select filters, and all others
    selecting_regexes: dict[int, tuple[int, Test]]
    other_regexes: dict[int, tuple[int, Test]]


def build(filters: Sequence[Filter | None]) -> FilterTables:
    """Build the tables; O(nodes * log constants). Raises InternalError for an operator that is not for events."""
    trees = [None if where is None else tree_of(where) for where in filters]
    covers = covers_of(trees)
    rests = [tree if cover is None else cover.rest for tree, cover in zip(trees, covers, strict=True)]
    collected = _collect(covers, rests)
    for i, cover in enumerate(covers):
        for literal in cover.literals if cover is not None else ():
            select(collected.of(literal), literal, i)
    facets = sorted(collected.all, key=lambda facet: not facet.indexed)
    places = {id(facet): place for place, facet in enumerate(facets)}
    index = FilterIndex([i for i, cover in enumerate(covers) if cover is None])
    patterns = Patterns()
    classes = [index.add_classes(facet) for facet in facets]
    selecting = [index.add_patterns(place, facet, patterns) for place, facet in enumerate(facets)]
    selecting_regexes = dict(patterns.regexes)
    programs = Programs(collected, places, patterns)
    entries = [-1 if rest is None else programs.entry(rest) for rest in rests]
    arrays = {
        **index.arrays(entries),
        **_constant_arrays(facets, classes, selecting, patterns),
        at.CODE: np.array(programs.code, np.int32).reshape(-1),
        at.RANGES: np.array(programs.ranges, np.int64).reshape(-1),
        at.PATTERNS: np.array(patterns.rows, np.int32).reshape(-1),
    }
    ordered = tuple(arrays[place] for place in range(0, at.M_ARRAYS_STOP, 2))
    words = [word for array in ordered for word in (address_of(array), array.size)]
    words += [len(filters), sum(facet.indexed for facet in facets)]
    return FilterTables(
        table=np.array(words, np.int64),
        arrays=ordered,
        facets=tuple((facet.column, facet.kind, facet.folded) for facet in facets),
        pattern_count=len(patterns.rows),
        selecting_regexes=selecting_regexes,
        other_regexes={n: regex for n, regex in patterns.regexes.items() if n not in selecting_regexes},
    )


def _collect(covers: Iterable[Cover | None], rests: Iterable[Node | None]) -> Facets:
    """Collect the facets of all literals; only with all constants known has any class a number."""
    facets = Facets()
    for cover, rest in zip(covers, rests, strict=True):
        for literal in cover.literals if cover is not None else ():
            facets.add(literal, selects=True)
        for literal in literals_of(rest) if rest is not None else ():
            facets.add(literal, selects=False)
    facets.close()
    return facets


def _constant_arrays(
    facets: Sequence[Facet], classes: Sequence[int], selecting: Sequence[tuple[int, int]], patterns: Patterns
) -> dict[int, NDArray[Any]]:
    """Give the facets and their constants; the patterns' text comes before that of the constants."""
    keys: list[int] = []
    texts: list[bytes] = []
    rows = []
    for facet in facets:
        if facet.kind in (at.STRING, at.LIST):
            rows.append((len(texts), len(facet.constants)))
            texts += [text.encode() for text in facet.constants]
        else:
            rows.append((len(keys), len(facet.constants)))
            keys += [key_of(value, facet.kind) for value in facet.constants]
    ends = np.cumsum([len(patterns.text), *map(len, texts)], dtype=np.int32)
    text = np.frombuffer(bytes(patterns.text) + b"".join(texts), np.uint8)
    constants = np.array(keys, np.int64)
    hashes = (hash_texts(ends, address_of(text)), hash_keys(constants))
    tables = [
        _slots_of(hashes[0 if facet.kind in (at.STRING, at.LIST) else 1][first : first + count])
        for facet, (first, count) in zip(facets, rows, strict=True)
    ]
    begins = np.cumsum([0, *map(len, tables)])
    facet_rows = [
        (facet.kind, classes[i], *rows[i], begins[i], len(tables[i]) - 1, *selecting[i])
        for i, facet in enumerate(facets)
    ]
    return {
        at.FACETS: np.array(facet_rows, np.int32).reshape(-1),
        at.CONSTANTS: constants,
        at.TEXT_STARTS: ends,
        at.TEXT: text,
        at.SLOTS: np.concatenate([np.empty(0, np.uint64), *tables]),
    }


def _slots_of(hashes: U64) -> U64:
    """Give a table of hashes at most half full, a power of two long."""
    slots = np.zeros(1 << (3 * len(hashes) // 2).bit_length(), np.uint64)
    fill_slots(hashes, slots)
    return slots
