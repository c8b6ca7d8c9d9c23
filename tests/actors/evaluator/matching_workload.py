"""Filters and columns of every kind, drawn from a source of randomness: Hypothesis's, or a seed's.

Values come from small sets, so that most tests are true somewhere; texts fold their case in ways that differ in
length. Run as a program it prints a digest of what the kernels match, so that a test can run it without numba.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from actors.evaluator.matching.matcher import Matcher
from actors.evaluator.matching.operators import evaluate_test
from cluster.definitions.model import Filter, FilterAll, FilterAny, FilterNot, PropertyTest, Test

TEXTS = ("", "a", "A", "ab", "web", "Web", "web shop", "ß", "ss", "SS", "straße", "STRASSE", "Σ", "ς", "İ", "i̇", "ﬁ")
REGEXES = ("a", "^s", "(?:ss|b)$", "^$", "[A-Z]", "straße", ".", "b s")
NUMBERS = (-0.0, 0.0, 1.0, -1.5, 2.5, 3.0, 5e-324, -5e-324, 1e300, -1e300, 0.1)
TIMES = (0, 1, -1, 1_700_000_000_000, 1_700_000_000_001, -(10**12))
TYPES = {"code": "string", "plain": "string", "n": "number", "ok": "boolean", "t": "timestamp", "tags": "list"}
_ORDERED = ("gt", "gte", "lt", "lte", "between")
OPERATORS = {
    "string": ("is_set", "eq", "ne", "in", "not_in", "contains", "not_contains", "starts_with", "ends_with", "matches"),
    "number": ("is_set", "eq", "ne", "in", "not_in", *_ORDERED),
    "boolean": ("is_set", "eq", "ne", "in", "not_in"),
    "timestamp": ("is_set", "eq", "ne", "in", "not_in", *_ORDERED),
    "list": ("is_set", "has", "has_any", "has_all", "not_has"),
}
VALUES: dict[str, tuple[Any, ...]] = {
    "string": TEXTS, "number": NUMBERS, "boolean": (True, False), "timestamp": TIMES, "list": TEXTS,
}  # fmt: skip


def draw_test(draw: random.Random) -> PropertyTest:
    column, type_ = draw.choice(sorted(TYPES.items()))
    op = draw.choice(OPERATORS[type_])
    values = VALUES[type_]
    operand: Any = draw.choice(values)
    if op == "is_set":
        operand = draw.random() < 0.5
    elif op == "matches":
        operand = draw.choice(REGEXES)
    elif op == "between":
        operand = tuple(sorted((operand, draw.choice(values))))
    elif op in ("in", "not_in", "has_any", "has_all"):
        operand = tuple(draw.choice(values) for _ in range(draw.randrange(1, 4)))
    elif type_ == "list":
        operand = (operand,)
    ignore_case = type_ in ("string", "list") and draw.random() < 0.4
    return PropertyTest(column, Test(op, operand, type_, ignore_case))


def draw_filter(draw: random.Random, depth: int = 3) -> Filter:
    kind = draw.random()
    if depth == 0 or kind < 0.35:
        return draw_test(draw)
    if kind < 0.45:
        return FilterNot(draw_filter(draw, depth - 1))
    children = tuple(draw_filter(draw, depth - 1) for _ in range(draw.randrange(1, 4)))
    return FilterAll(children) if kind < 0.75 else FilterAny(children)


def draw_filters(draw: random.Random, most: int) -> list[Filter | None]:
    return [None if draw.random() < 0.1 else draw_filter(draw) for _ in range(draw.randrange(most + 1))]


def draw_columns(draw: random.Random, rows: int) -> dict[str, pa.Array]:
    """Columns of `rows` rows, each a slice of a longer one."""
    return {name: _slice(draw, type_, name == "plain", rows) for name, type_ in TYPES.items()}


def _slice(draw: random.Random, type_: str, plain: bool, rows: int) -> pa.Array:
    before, after = draw.randrange(11), draw.randrange(3)
    return _column(draw, type_, plain, before + rows + after).slice(before, rows)


def _column(draw: random.Random, type_: str, plain: bool, rows: int) -> pa.Array:
    values = VALUES[type_]
    holes = draw.choice((0.0, 0.3, 1.0))

    def some(value: Callable[[], Any]) -> list[Any]:
        return [None if draw.random() < holes else value() for _ in range(rows)]

    if type_ == "list":
        return pa.array(
            some(lambda: [draw.choice((*TEXTS, None)) for _ in range(draw.randrange(4))]), pa.list_(pa.string())
        )
    if type_ == "string" and not plain:
        # Values that no row has, and values that are there twice.
        dictionary = [draw.choice(TEXTS) for _ in range(draw.randrange(1, 30))]
        places = pa.array(some(lambda: draw.randrange(len(dictionary))), pa.int32())
        start = draw.randrange(3)
        kept = pa.array(["never", "web", "ß"][:start] + dictionary).slice(start)
        return pa.DictionaryArray.from_arrays(places, kept)
    types = {"string": pa.string(), "number": pa.float64(), "boolean": pa.bool_(), "timestamp": pa.int64()}
    return pa.array(some(lambda: draw.choice(values)), types[type_])


def evaluate_filter(columns: dict[str, pa.Array], where: Filter) -> Any:
    """A filter's truth for each row, one test after the other."""
    if isinstance(where, PropertyTest):
        return evaluate_test(columns[where.column], where.test)
    if isinstance(where, FilterNot):
        return ~evaluate_filter(columns, where.child)
    results = [evaluate_filter(columns, child) for child in where.children]
    return np.logical_and.reduce(results) if isinstance(where, FilterAll) else np.logical_or.reduce(results)


def expected(columns: dict[str, pa.Array], rows: int, filters: list[Filter | None]) -> list[list[int]]:
    """What each row matches, one filter after the other."""
    truths = [
        np.ones(rows, np.bool_) if where is None else evaluate_filter(columns, where) for where in filters
    ]
    return [[i for i, truth in enumerate(truths) if truth[row]] for row in range(rows)]


def rows_of(found: tuple[Any, Any]) -> list[list[int]]:
    offsets, ids = found
    return [ids[start:stop].tolist() for start, stop in pairwise(offsets)]


def digest(seed: int) -> str:
    """What the kernels give for a seed's workload, however they are run."""
    draw = random.Random(seed)
    matcher = Matcher([draw_filter(draw) for _ in range(150)])
    rows = 40
    found = rows_of(matcher.match(draw_columns(draw, rows), rows))
    return hashlib.sha256(repr(found).encode()).hexdigest()


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(digest(int(argument)))
