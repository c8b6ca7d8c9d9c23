"""Matching finds for each row exactly the filters that are true for it, whatever index they are found by."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.evaluator.matching.matcher import Matcher, equality_key, equality_keys, match_hits
from cluster.definitions.model import Filter, FilterAll, FilterAny, FilterNot, PropertyTest
from cluster.definitions.model import Test as Comparison
from cluster.errors import InternalError
from tests.actors.evaluator.matching_workload import (
    TYPES,
    VALUES,
    digest,
    draw_columns,
    draw_filters,
    draw_test,
    expected,
    rows_of,
)

#: A source of randomness; what is drawn from it shrinks by its sizes alone, which are drawn beside it.
SOURCES = st.integers(0, 2**32).map(random.Random)


def text(op: str, operand: Any, column: str = "code", *, ignore_case: bool = False) -> PropertyTest:
    return PropertyTest(column, Comparison(op, operand, "string", ignore_case))


def number(op: str, operand: Any, column: str = "n") -> PropertyTest:
    return PropertyTest(column, Comparison(op, operand, "number"))


def matched(filters: list[Filter | None], **columns: pa.Array) -> list[list[int]]:
    return rows_of(Matcher(filters).match(columns, len(next(iter(columns.values())))))


@settings(max_examples=150, deadline=None)
@given(SOURCES, st.integers(0, 60), st.integers(0, 40))
def test_each_row_gets_the_filters_that_are_true_for_it(draw: random.Random, rows: int, most: int) -> None:
    filters = draw_filters(draw, most)
    columns = draw_columns(draw, rows)
    assert rows_of(Matcher(filters).match(columns, rows)) == expected(columns, rows, filters)


@settings(max_examples=100, deadline=None)
@given(SOURCES)
def test_bare_tests_of_every_operator_are_what_evaluation_says(draw: random.Random) -> None:
    filters: list[Filter | None] = [draw_test(draw) for _ in range(60)]
    columns = draw_columns(draw, 12)
    assert rows_of(Matcher(filters).match(columns, 12)) == expected(columns, 12, filters)


@settings(max_examples=60, deadline=None)
@given(SOURCES, st.integers(0, 30), st.integers(1, 4))
def test_hits_of_several_models_get_the_filters_of_their_own(draw: random.Random, rows: int, count: int) -> None:
    filters = [draw_filters(draw, 10) for _ in range(count)]
    columns = draw_columns(draw, rows)
    # Each model has names of its own for the columns of the hits.
    names = [{name: f"c{i}" for i, name in enumerate(TYPES)} for _ in range(count)]
    hits = pa.record_batch({f"c{i}": columns[name] for i, name in enumerate(TYPES)})
    models = np.array([draw.randrange(count) for _ in range(rows)], np.int16)
    first = np.cumsum([5, *map(len, filters)])[:-1].astype(np.int32)
    found = rows_of(match_hits([Matcher(each) for each in filters], names, hits, models, first))
    rights = [expected(columns, rows, each) for each in filters]
    assert found == [[int(first[m]) + i for i in rights[m][row]] for row, m in enumerate(models.tolist())]


@pytest.mark.parametrize("rows", [0, 1])
def test_no_filters_match_nothing(rows: int) -> None:
    offsets, ids = Matcher([]).match({}, rows)
    assert (offsets.tolist(), ids.tolist()) == ([0] * (rows + 1), [])
    assert (offsets.dtype, ids.dtype) == (np.int32, np.int32)


def test_an_empty_batch_has_one_offset() -> None:
    columns = {"code": pa.array([], pa.string()), "n": pa.array([], pa.float64())}
    offsets, ids = Matcher([None, text("eq", "a"), number("gt", 1.0)]).match(columns, 0)
    assert (offsets.tolist(), ids.tolist()) == ([0], [])


def test_a_filter_found_by_several_of_its_values_is_named_once() -> None:
    where = FilterAny((text("eq", "a"), text("eq", "A", ignore_case=True), number("gt", 0.0), text("contains", "a")))
    assert matched([where], code=pa.array(["a", "A", None]), n=pa.array([1.0, 1.0, 1.0])) == [[0], [0], [0]]


def test_case_is_folded_beyond_ascii() -> None:
    filters: list[Filter | None] = [
        text("eq", "STRASSE", ignore_case=True), text("eq", "STRASSE"), text("contains", "ß", ignore_case=True),
        text("eq", "ΣΊΣΥΦΟΣ", ignore_case=True),
    ]  # fmt: skip
    assert matched(filters, code=pa.array(["straße", "Strasse", "σίσυφος", None])) == [[0, 2], [0, 2], [3], []]


def test_minus_zero_is_zero_and_the_next_number_is_not() -> None:
    tiny = 5e-324
    filters: list[Filter | None] = [
        number("eq", 0.0), number("gt", -0.0), number("lt", 0.0), number("between", (-0.0, tiny)),
    ]  # fmt: skip
    inside: list[Filter | None] = [FilterAll((text("eq", "a"), where)) for where in filters if where]
    columns = {"n": pa.array([-0.0, 0.0, tiny, -tiny]), "code": pa.array(["a"] * 4)}
    assert matched(filters + inside, **columns) == [[0, 3, 4, 7], [0, 3, 4, 7], [1, 3, 5, 7], [2, 6]]


def test_not_a_number_is_no_number_but_there() -> None:
    filters: list[Filter | None] = [
        number("gte", 0.0), number("lt", 0.0), number("ne", 0.0), number("is_set", True),
        number("between", (-1e9, 1e9)),
    ]  # fmt: skip
    inside: list[Filter | None] = [FilterAll((text("eq", "a"), where)) for where in filters if where]
    values = pa.array(np.array([np.nan, -np.nan, np.inf, -np.inf]))
    found = matched(filters + inside, n=values, code=pa.array(["a"] * 4))
    assert found == [[2, 3, 7, 8], [2, 3, 7, 8], [0, 2, 3, 5, 7, 8], [1, 2, 3, 6, 7, 8]]


def test_thousands_of_thresholds_and_values_match_as_one_by_one() -> None:
    filters: list[Filter | None] = [number("gte", float(i)) for i in range(1_000)]
    filters += [number("between", (float(i), float(i + 3))) for i in range(1_000)]
    filters += [text("eq", f"v{i}") for i in range(1_000)] + [text("ne", f"v{i}") for i in range(3)]
    columns = {"n": pa.array([-1.0, 0.0, 499.5, 2_000.0, None]), "code": pa.array(["v1", "v999", "v1000", None, "v0"])}
    assert matched(filters, **columns) == expected(columns, 5, filters)


def test_regular_expressions_in_many_programs_are_asked_of_the_rows_that_come_to_them() -> None:
    filters: list[Filter | None] = [
        FilterAll((text("eq", f"v{i % 7}"), text("matches", f"[{i % 10}5]$", "plain"), text("matches", "^x", "plain")))
        for i in range(300)
    ]
    columns = {
        "code": pa.array([f"v{i % 9}" for i in range(400)]),
        "plain": pa.array([f"{'xy'[i % 2]}{i}" for i in range(400)]),
    }
    assert matched(filters, **columns) == expected(columns, 400, filters)


def test_regular_expressions_beside_the_one_that_selects_are_asked_too() -> None:
    where = FilterAll((text("matches", "^a"), text("matches", "b$")))
    either = FilterAny((where, FilterAll((text("matches", "c"), FilterNot(text("matches", "d"))))))
    found = matched([where, either], code=pa.array(["ab", "a", "b", "c", "cd", None, "abcd"]))
    assert found == [[0, 1], [], [], [1], [], [], []]


def test_the_rest_of_a_conjunction_is_tested_where_its_rarest_value_is() -> None:
    filters = [FilterAll((text("eq", "web", "channel"), text("eq", f"p{i}", "product"))) for i in range(3)]
    assert equality_keys(filters) == [("product", f"p{i}") for i in range(3)]


@pytest.mark.parametrize(
    ("where", "key"),
    [
        (None, None),
        (text("eq", "a"), ("code", "a")),
        (text("eq", "A", ignore_case=True), ("code", "a")),
        (text("in", ("a", "a")), ("code", "a")),
        (text("in", ("a", "b")), None),
        (text("ne", "a"), None),
        (FilterNot(text("ne", "a")), ("code", "a")),
        (number("gte", 1.0), None),
        (number("eq", 1.0), ("n", 1.0)),
        (PropertyTest("tags", Comparison("has", ("x",), "list")), ("tags", "x")),
        (PropertyTest("tags", Comparison("has_all", ("x", "y"), "list")), ("tags", "x")),
        (FilterAll((number("gt", 1.0), FilterAll((text("eq", "a"), text("matches", "b"))))), ("code", "a")),
        (FilterAll((text("contains", "a"), text("eq", "b", "plain"))), ("plain", "b")),
        (FilterAny((text("eq", "a"), text("eq", "b"))), None),
        (FilterAny((text("eq", "a"), number("gt", 1.0))), None),
    ],
)
def test_a_filter_is_known_by_its_equality(where: Filter | None, key: tuple[str, Any] | None) -> None:
    assert equality_key(where) == key


def test_operators_that_need_a_clock_are_refused() -> None:
    with pytest.raises(InternalError, match="within_last on timestamp"):
        Matcher([PropertyTest("t", Comparison("within_last", 1_000, "timestamp"))])


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(InternalError, match="int32"):
        Matcher([number("gt", 1.0)]).match({"n": pa.array([1], pa.int32())}, 1)


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(InternalError, match="2 events has 1 rows"):
        Matcher([number("gt", 1.0)]).match({"n": pa.array([1.0])}, 2)


def test_plain_kernels_stay_in_bounds_and_give_what_compiled_ones_give() -> None:
    seeds = ("1", "2", "3")
    command = [sys.executable, "-m", "tests.actors.evaluator.matching_workload", *seeds]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    plain = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert plain.returncode == 0, plain.stderr[-4_000:]
    assert plain.stdout.split() == [digest(int(seed)) for seed in seeds]


def test_every_type_has_values() -> None:
    assert set(VALUES) == set(TYPES.values())
