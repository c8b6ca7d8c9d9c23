"""Coercion of whole Arrow arrays is, value by value, the coercion of semantics.md §2."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.traits.columns import ARROW_TYPES, WrongType, convert
from cluster.definitions.model import ValueType
from cluster.model.values import coerce

TYPES: tuple[ValueType, ...] = ("string", "number", "boolean", "timestamp", "list")

texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from([
        "12", "-0.5", "1e3", "1e999", "NaN", "Infinity", "0x1", " 1", "true", "false", "True", "", "٣",
        "2026-11-23T10:00:00Z", "2026-11-23 10:00:00.12345+02:00", "1969-12-31T23:59:59.9999Z", "2026-02-30T00:00:00Z",
    ]),
)  # fmt: skip
numbers = st.one_of(
    st.floats(), st.sampled_from([0.0, -0.0, 12.0, 1e11, 1e11 + 1, -1e11, 1e300, 1e-7, 1e21, 1.5e9, 99999999999.5])
)
integers = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 10**11, 10**11 + 1, -(10**11), -(10**11) - 1, 2**53 + 1])
)
arrays = st.one_of(
    st.lists(st.none() | texts).map(lambda rows: pa.array(rows, pa.string())),
    st.lists(st.none() | texts).map(lambda rows: pa.array(rows, pa.large_string())),
    st.lists(st.none() | texts).map(lambda rows: pa.array(rows, pa.string()).dictionary_encode()),
    st.lists(st.none() | texts).map(lambda rows: pa.array(rows, pa.string_view())),
    st.lists(st.none() | numbers).map(lambda rows: pa.array(rows, pa.float64())),
    st.lists(st.none() | integers).map(lambda rows: pa.array(rows, pa.int64())),
    st.lists(st.none() | st.integers(0, 2**64 - 1)).map(lambda rows: pa.array(rows, pa.uint64())),
    st.lists(st.none() | st.integers(-128, 127)).map(lambda rows: pa.array(rows, pa.int8())),
    st.lists(st.none() | st.booleans()).map(lambda rows: pa.array(rows, pa.bool_())),
    st.lists(st.none()).map(lambda rows: pa.array(rows, pa.null())),
)
lists = st.one_of(
    st.lists(st.none() | st.lists(st.none() | texts, max_size=3)).map(
        lambda rows: pa.array(rows, pa.list_(pa.string()))
    ),
    st.lists(st.none() | st.lists(st.none() | numbers, max_size=3)).map(
        lambda rows: pa.array(rows, pa.large_list(pa.float64()))
    ),
    st.lists(st.none() | st.lists(st.none() | st.booleans(), min_size=2, max_size=2)).map(
        lambda rows: pa.array(rows, pa.list_(pa.bool_(), 2))
    ),
)


def same(found: object, wanted: object) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return found == wanted and math.copysign(1, found) == math.copysign(1, wanted)
    return found == wanted and type(found) is type(wanted)


@given(arrays, st.sampled_from(TYPES), st.integers(0, 3))
def test_a_column_is_coerced_as_its_values_are(array: Any, type_: ValueType, start: int) -> None:
    array = array.slice(start)
    wanted = [coerce(value, type_) for value in array.to_pylist()]
    try:
        found = convert(array, type_)
    except WrongType:
        assert [value for value in wanted if value is not None] == []
        return
    assert found.type == ARROW_TYPES[type_]
    found.validate(full=True)
    assert all(same(one, other) for one, other in zip(found.to_pylist(), wanted, strict=True))


@given(lists, st.integers(0, 3))
def test_list_elements_become_text_and_nulls_in_lists_are_dropped(array: Any, start: int) -> None:
    array = array.slice(start)
    found = convert(array, "list")
    found.validate(full=True)
    assert found.to_pylist() == [coerce(value, "list") for value in array.to_pylist()]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@given(ticks=st.lists(st.none() | st.integers(-(2**62), 2**62)))
def test_a_timestamp_of_any_unit_and_zone_is_cut_to_ms_downwards(
    unit: str, zone: str | None, ticks: list[int | None]
) -> None:
    a_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    found = convert(pa.array(ticks, pa.timestamp(unit, zone)), "timestamp").to_pylist()
    exact = [None if tick is None else tick * 1_000 // a_second for tick in ticks]
    assert found == [ms if ms is not None and -(2**63) <= ms < 2**63 else None for ms in exact]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_a_date_is_its_first_instant_in_utc(kind: Any) -> None:
    days = [dt.date(1970, 1, 2), None, dt.date(1969, 12, 31)]
    assert convert(pa.array(days, kind), "timestamp").to_pylist() == [86_400_000, None, -86_400_000]


def test_nan_and_infinity_are_missing_numbers() -> None:
    array = pa.array([math.nan, math.inf, -math.inf, 1.5, None], pa.float32())
    assert convert(array, "number").to_pylist() == [None, None, None, 1.5, None]


def test_half_floats_and_decimals_are_numbers() -> None:
    assert convert(pa.array(np.array([0.5, np.inf], np.float16)), "number").to_pylist() == [0.5, None]
    prices = pa.array([decimal.Decimal("12.50"), None], pa.decimal128(8, 2))
    assert convert(prices, "number").to_pylist() == [12.5, None]
    assert convert(prices, "string").to_pylist() == ["12.5", None]


def test_a_whole_decimal_keeps_all_its_digits_as_text() -> None:
    ids = pa.array([decimal.Decimal("12345678901234567890123")], pa.decimal128(38, 0))
    assert convert(ids, "string").to_pylist() == ["12345678901234567890123"]


def test_run_ends_and_extension_types_are_only_storage() -> None:
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["1", None]))
    assert convert(runs, "number").to_pylist() == [1.0, 1.0, None]
    uuids = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["7", "x"]))
    assert convert(uuids, "number").to_pylist() == [7.0, None]


STRUCT = pa.struct([("a", pa.int64())])


@pytest.mark.parametrize(
    ("kind", "type_"),
    [(kind, type_) for kind in (STRUCT, pa.binary(), pa.time64("us"), pa.duration("s")) for type_ in TYPES]
    + [(pa.bool_(), "number"), (pa.timestamp("ms"), "number"), (pa.date32(), "number"),
       (pa.list_(pa.int64()), "number"),
       (pa.int64(), "boolean"), (pa.float64(), "boolean"), (pa.timestamp("ms"), "boolean"),
       (pa.timestamp("ms"), "string"), (pa.date32(), "string"), (pa.list_(pa.string()), "string"),
       (pa.bool_(), "timestamp"), (pa.list_(pa.string()), "timestamp"),
       (pa.string(), "list"), (pa.int64(), "list"), (pa.list_(STRUCT), "list"),
       (pa.list_(pa.list_(pa.string())), "list")],
)  # fmt: skip
def test_a_type_that_never_holds_a_value_is_a_wrong_column(kind: Any, type_: ValueType) -> None:
    with pytest.raises(WrongType) as refused:
        convert(pa.nulls(2, kind), type_)
    assert refused.value.allowed
