"""Snapshots: whole, typed, with checked keys; or a SnapshotError that says what is wrong."""

from __future__ import annotations

import decimal
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.traits.snapshot import build_snapshot, empty_snapshot, snapshot_schema
from actors.traits.wanted import main_table, wanted_of
from cluster.errors import SnapshotError
from cluster.limits import KEY_BYTES_MAX
from cluster.model.partitions import partition_of
from tests.actors.traits.making import parent, table


def refused(rows: pa.Table, reason: str, **model: Any) -> str:
    with pytest.raises(SnapshotError) as error:
        build_snapshot(rows, parent(**model), 64)
    assert error.value.reason == reason
    assert error.value.next_step
    return error.value.message


def test_a_snapshot_has_key_partition_and_the_declared_columns_in_order() -> None:
    rows = table(unasked=[1, 2, 3]).select(["tier", "unasked", "ltv", "user_id"])
    snapshot = build_snapshot(rows, parent(), 64)
    assert snapshot.table.schema == snapshot_schema(parent())
    assert snapshot.table.column_names == ["key", "partition", "ltv", "tier"]
    assert snapshot.table.column("key").to_pylist() == ["u0", "u1", "u2"]
    assert snapshot.table.column("partition").to_pylist() == [
        partition_of(key.encode(), 64) for key in ("u0", "u1", "u2")
    ]
    assert snapshot.row_count == 3


def test_no_rows_are_a_snapshot_too() -> None:
    assert build_snapshot(table(0), parent(), 64).table.equals(empty_snapshot(parent()).table)
    assert build_snapshot(table(3).slice(0, 0), parent(), 64).row_count == 0


def test_a_parent_without_traits_is_its_keys() -> None:
    snapshot = build_snapshot(table(2), parent({}), 4)
    assert snapshot.table.column_names == ["key", "partition"]


def test_the_key_may_be_a_trait_as_well() -> None:
    model = parent({"user_id": "string"})
    assert wanted_of(main_table(model, None), model).names() == ["user_id"]
    assert build_snapshot(table(2), model, 4).table.column("user_id").to_pylist() == ["u0", "u1"]


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        (pa.array([1, 20, -3], pa.int32()), ["1", "20", "-3"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([decimal.Decimal(10**30)], pa.decimal128(38, 0)), [str(10**30)]),
        (pa.array(["é", "🙂", "a"], pa.large_string()), ["é", "🙂", "a"]),
        (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
    ],
)  # fmt: skip
def test_keys_are_text_and_whole_numbers_become_it(keys: Any, texts: list[str]) -> None:
    assert build_snapshot(pa.table({"user_id": keys}), parent({}), 64).table.column("key").to_pylist() == texts


@pytest.mark.parametrize(
    "keys", [pa.array([1.0]), pa.array([True]), pa.array([b"a"]), pa.array([0], pa.timestamp("ms")), pa.array([["a"]])]
)
def test_keys_of_another_type_are_refused(keys: Any) -> None:
    message = refused(pa.table({"user_id": keys}), "wrong_type", columns={})
    assert "'user_id'" in message
    assert "text or whole numbers" in message


def test_null_keys_are_refused_with_their_number_and_the_first_row() -> None:
    message = refused(table(4, user_id=["a", None, "c", None]), "null_key")
    assert "null in 2 row(s), first in row 1" in message
    refused(pa.table({"user_id": pa.nulls(2)}), "null_key", columns={})


def test_empty_keys_are_refused() -> None:
    assert "first in row 2" in refused(table(3, user_id=["a", "b", ""]), "empty_key")


def test_keys_are_as_long_as_the_limit_at_most() -> None:
    build_snapshot(table(1, user_id=["é" * (KEY_BYTES_MAX // 2)]), parent(), 64)
    assert str(KEY_BYTES_MAX + 1) in refused(table(1, user_id=["k" * (KEY_BYTES_MAX + 1)]), "key_too_long")


def test_duplicate_keys_are_refused_also_across_chunks() -> None:
    rows = pa.concat_tables([table(3), table(2).slice(1)])
    message = refused(rows, "duplicate_key")
    assert "1 row(s)" in message
    assert "'u1' for one comes 2 times" in message


def test_a_missing_column_is_named_with_those_found() -> None:
    message = refused(table(2).drop_columns(["tier"]), "missing_column")
    assert "'tier' is missing" in message
    assert "user_id, ltv" in message
    refused(table(2).drop_columns(["user_id"]), "missing_column")


def test_a_column_that_is_there_twice_is_refused() -> None:
    refused(table(2).append_column("ltv", pa.array([1, 2])), "ambiguous_column")


def test_a_column_of_a_wrong_type_is_refused_with_what_is_allowed() -> None:
    message = refused(table(1, ltv=[{"a": 1}]), "wrong_type")
    assert "'ltv' is declared number" in message
    assert "struct" in message
    assert "allowed: numbers" in message


def test_names_that_snapshots_use_themselves_are_refused() -> None:
    refused(table(1, key=["a"]), "reserved_name", columns={"key": "string"})


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    offsets = pa.array([0, 1], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
    refused(table(1, tier=broken), "damaged")


def test_values_that_cannot_be_read_are_missing_not_a_fault() -> None:
    rows = table(3, ltv=["12", "a lot", None], tier=pa.array([1.0, 2.5, None]))
    snapshot = build_snapshot(rows, parent(), 64)
    assert snapshot.table.column("ltv").to_pylist() == [12.0, None, None]
    assert snapshot.table.column("tier").to_pylist() == ["1", "2.5", None]


def test_two_hundred_thousand_users_are_typed_in_less_than_two_seconds() -> None:
    count = 200_000
    rng = np.random.default_rng(1)
    rows = pa.table({
        "user_id": [f"user_{i}" for i in range(count)], "ltv": rng.random(count),
        "tier": ["gold", None] * (count // 2),
        "last_seen": pa.array(rng.integers(0, 2**40, count), pa.timestamp("us", "UTC")),
        "opted_in": rng.random(count) > 0.5, "interests": [["a", None], None] * (count // 2),
        "age": [str(i % 99) for i in range(count)],
    })  # fmt: skip
    model = parent({"ltv": "number", "tier": "string", "last_seen": "timestamp", "opted_in": "boolean",
                    "interests": "list", "age": "number"})  # fmt: skip
    began = time.perf_counter()
    assert build_snapshot(rows, model, 64).row_count == count
    assert time.perf_counter() - began < 2
