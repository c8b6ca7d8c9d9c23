"""Coercion at its edges; tests/properties holds the same functions to the reference evaluator."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.definitions.model import ValueType
from cluster.model.values import (
    MISSING,
    TIMESTAMP_MAX_MS,
    coerce,
    coerce_boolean,
    coerce_list,
    coerce_number,
    coerce_string,
    coerce_timestamp,
    coercer,
    number_text,
)

NO_SCALAR: list[Any] = [None, [], {}, [1], {"a": 1}]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0.0), (-3, -3.0), (2**53 + 1, float(2**53)), (1.5, 1.5), ("12", 12.0), ("-0.5e-3", -0.0005),
        ("1E+2", 100.0),
        ("0", 0.0),
    ],
)  # fmt: skip
def test_numbers_and_json_number_texts_become_numbers(value: object, number: float) -> None:
    assert coerce_number(value) == number
    assert type(coerce_number(value)) is float


@pytest.mark.parametrize(
    "value",
    [
        *NO_SCALAR, True, False, "", " 1", "1 ", "1\n", "+1", "01", ".5", "5.", "1e", "0x10", "1_000", "NaN",
        "Infinity", "-Infinity",
        "1e999", "١", 10**400, math.nan, math.inf, -math.inf,
    ],
)  # fmt: skip
def test_what_is_no_finite_json_number_is_missing(value: object) -> None:
    assert coerce_number(value) is MISSING


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""), ("a b", "a b"), (12, "12"), (12.0, "12"), (-0.0, "0"), (0.1, "0.1"), (-2.50, "-2.5"),
        (2**53 + 1, "9007199254740993"),
        (10**25, "10000000000000000000000000"), (1e15, "1000000000000000"), (1e16, "10000000000000000"),
        (1.5e20, "150000000000000000000"), (1e21, "1e+21"), (-1.25e22, "-1.25e+22"), (1e-4, "0.0001"),
        (1.5e-5, "0.000015"),
        (1e-6, "0.000001"), (-1e-7, "-1e-7"), (1.5e-7, "1.5e-7"), (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (True, "true"), (False, "false"),
    ],
)  # fmt: skip
def test_scalars_become_their_shortest_text(value: object, text: str) -> None:
    assert coerce_string(value) == text


@pytest.mark.parametrize("value", [*NO_SCALAR, math.nan, math.inf, -math.inf, pytest.param(10**5_000, id="huge")])
def test_what_has_no_text_is_missing(value: object) -> None:
    assert coerce_string(value) is MISSING


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_numbers_text_reads_back_as_the_same_number(number: float) -> None:
    text = number_text(number)
    assert text is not None
    assert float(text) == number
    assert len(text) <= len(repr(number)) or 1e16 <= abs(number) < 1e21 or abs(number) < 1e-4


@given(st.integers(-(2**100), 2**100))
def test_an_integers_text_is_exact(number: int) -> None:
    assert number_text(number) == json.dumps(number)


@pytest.mark.parametrize(("value", "boolean"), [(True, True), (False, False), ("true", True), ("false", False)])
def test_booleans_and_their_texts_become_booleans(value: object, boolean: bool) -> None:
    assert coerce_boolean(value) is boolean


@pytest.mark.parametrize("value", [*NO_SCALAR, 0, 1, 1.0, "True", "TRUE", "1", "yes", ""])
def test_what_is_no_boolean_is_missing(value: object) -> None:
    assert coerce_boolean(value) is MISSING


@pytest.mark.parametrize(
    ("value", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0), ("1970-01-01 00:00:00", 0), ("1970-01-01t00:00:00z", 0),
        ("2025-11-30T16:00:00.051Z", 1_764_518_400_051),
        ("2025-11-30T17:00:00+01:00", 1_764_518_400_000), ("2025-11-30T10:30:00-05:30", 1_764_518_400_000),
        ("2025-11-30T16:00:00-00:00", 1_764_518_400_000), ("2025-11-30T16:00:00.5Z", 1_764_518_400_500),
        ("2025-11-30T16:00:00.999999999Z", 1_764_518_400_999), ("1969-12-31T23:59:59.9999Z", -1),
        ("1969-12-31T23:59:59.0001Z", -1_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000), ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800_000), ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        (0, 0), (1, 1_000), (-1, -1_000), (100_000_000_000, 100_000_000_000_000), (100_000_000_001, 100_000_000_001),
        (-100_000_000_001, -100_000_000_001), (1_764_518_400_051, 1_764_518_400_051),
        (1_764_518_400.051, 1_764_518_400_051),
        (1.0019, 1_001), (1.001, 1_001), (-0.0001, -1), (1_764_518_400_051.9, 1_764_518_400_051),
        (-1_764_518_400_051.1, -1_764_518_400_052),
        (TIMESTAMP_MAX_MS, TIMESTAMP_MAX_MS),
    ],
)  # fmt: skip
def test_rfc_3339_texts_and_numbers_become_ms(value: object, at_ms: int) -> None:
    assert coerce_timestamp(value) == at_ms
    assert type(coerce_timestamp(value)) is int


@pytest.mark.parametrize(
    "value",
    [
        *NO_SCALAR, True, False, "", "now", "1764518400", "2025-11-30", "2025-11-30T16:00Z",
        "2025-11-30T16:00:00,5Z", "2025-11-30T16:00:00.Z",
        "20251130T160000Z", "2025-W48-7T16:00:00Z", "2025-11-30T16:00:00+0100", "2025-11-30T16:00:00+01",
        "2025-11-30T24:00:00Z",
        "2025-11-30T16:60:00Z", "2025-11-30T16:00:61Z", "2025-11-30T16:00:60Z", "2025-13-01T00:00:00Z",
        "2025-00-01T00:00:00Z",
        "2025-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2025-11-31T00:00:00Z", "2025-11-00T00:00:00Z",
        "2025-11-30T16:00:00+24:00",
        "2025-11-30T16:00:00+01:60", "2025-11-30T16:00:00 Z", " 2025-11-30T16:00:00Z", "2025-11-30T16:00:00Z\n",
        "２025-11-30T16:00:00Z",
        math.nan, math.inf, 1e300, 2**63, -(2**63) - 1, 10**400,
    ],
)  # fmt: skip
def test_what_is_no_time_is_missing(value: object) -> None:
    assert coerce_timestamp(value) is MISSING


@given(st.datetimes())
def test_times_agree_with_the_standard_library(at: datetime) -> None:
    expected = (at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert coerce_timestamp(at.isoformat()) == expected


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ([], []), (["a", None, 12.0, True, ""], ["a", "12", "true", ""]), ([None], []),
        ([["a"], {"b": 1}, "c"], ["c"]),
        ([math.nan, 1], ["1"]),
    ],
)  # fmt: skip
def test_list_elements_become_text_and_what_has_none_is_dropped(value: object, items: list[str]) -> None:
    assert coerce_list(value) == items


@pytest.mark.parametrize("value", [None, "a", 1, True, {}, {"a": "b"}])
def test_what_is_no_list_is_missing(value: object) -> None:
    assert coerce_list(value) is MISSING


@pytest.mark.parametrize(
    ("type_", "value"), [("string", "12"), ("number", 12.0), ("boolean", MISSING), ("timestamp", 12_000),
    ("list", MISSING)]
)
def test_coerce_goes_by_the_declared_type(type_: ValueType, value: object) -> None:
    assert coerce(12, type_) == value
    assert coercer(type_)(12) == value
