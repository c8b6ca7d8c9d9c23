"""Several tables of one parent: joined by key, columns renamed, related traits and their defaults, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from actors.traits.reading import load_snapshot, look
from actors.traits.snapshot import TraitSnapshot, snapshot_schema
from cluster.definitions.model import ParentModel
from cluster.definitions.parsing import parse_document
from cluster.errors import SnapshotError
from cluster.model.partitions import partition_of
from tests.actors.traits.making import table, write_parquet

TRAITS = """
source: {kind: parquet, path: users.parquet}
columns: {ltv: {type: number}, tier: {type: string}}
tables:
  - id: scores
    source: {kind: csv, path: scores.csv}
    key: customer
    columns: {churn: {type: number, column: score}, labels: {type: list}}
related:
  - id: orders
    source: {kind: parquet, path: orders.parquet}
    key: buyer
    columns: {amount: {type: number}, category: {type: string}, at: {type: timestamp, column: paid_at}}
    traits:
      orders: {count: true}
      shoes: {count: true, where: {property: category, eq: shoes}}
      spent: {sum: amount}
      only_shoes: {all: {property: category, eq: shoes}}
      no_hats: {none: {property: category, eq: hats}}
      bought: {list: category}
      last_order: {max: at}
"""


def parent(traits: str = TRAITS, **changes: Any) -> ParentModel:
    read = {**yaml.safe_load(traits), **changes}
    document = {"version": 1, "parent_models": [{"id": "users", "primary_key": "user_id", "traits": read}]}
    return parse_document(document, "", {}).parent_models["users"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "users.parquet", table(3))
    (tmp_path / "scores.csv").write_text('customer,score,labels\nu1,0.5,"[""a""]"\nnew,0.25,[]\n')
    orders = {"buyer": ["u0", "u0", "u2", None, "ghost", "new"], "amount": [10.0, 5.0, 1.0, 7.0, 8.0, 2.0],
              "category": ["shoes", "hats", "shoes", "shoes", "hats", None],
              "paid_at": pa.array([1, 3, 2, 9, 9, None], pa.timestamp("s"))}  # fmt: skip
    write_parquet(tmp_path / "orders.parquet", pa.table(orders))
    return tmp_path


def load(folder: Path, model: ParentModel | None = None) -> TraitSnapshot:
    return load_snapshot(model or parent(), 64, folder)[0]


def test_every_user_of_any_table_has_every_trait_and_defaults_where_there_are_no_rows(folder: Path) -> None:
    snapshot = load(folder)
    assert snapshot.table.schema == snapshot_schema(parent())
    nothing = {"orders": 0.0, "shoes": 0.0, "spent": 0.0, "only_shoes": True, "no_hats": True, "bought": [],
               "last_order": None}  # fmt: skip
    gold, no_score = {"ltv": 1.0, "tier": "gold"}, {"churn": None, "labels": None}
    rows = {row.pop("key"): row for row in snapshot.table.to_pylist()}
    assert {key: row.pop("partition") for key, row in rows.items()} == {
        key: partition_of(key, 64) for key in ("u0", "u1", "u2", "new")
    }
    assert rows == {
        "u0": {**gold, **no_score, "orders": 2.0, "shoes": 1.0, "spent": 15.0, "only_shoes": False, "no_hats": False,
               "bought": ["hats", "shoes"], "last_order": 3_000},
        "u1": {**gold, "churn": 0.5, "labels": ["a"], **nothing},
        "u2": {**gold, **no_score, "orders": 1.0, "shoes": 1.0, "spent": 1.0, "only_shoes": True, "no_hats": True,
               "bought": ["shoes"], "last_order": 2_000},
        "new": {"ltv": None, "tier": None, "churn": 0.25, "labels": [], **nothing, "orders": 1.0, "spent": 2.0,
                "only_shoes": False},
    }  # fmt: skip
    assert snapshot.left_out == {"orders": {"no_key": 1, "no_user": 1}}


def test_without_another_table_the_related_ones_say_who_is_a_user(folder: Path) -> None:
    related = yaml.safe_load(TRAITS)["related"]
    snapshot = load(folder, parent("{}", related=related))
    assert sorted(snapshot.table.column("key").to_pylist()) == ["ghost", "new", "u0", "u2"]
    assert snapshot.left_out == {"orders": {"no_key": 1, "no_user": 0}}


def test_two_traits_may_read_one_column(folder: Path) -> None:
    columns = {"ltv": {"type": "number"}, "ltv_text": {"type": "string", "column": "ltv"}}
    model = parent("source: {kind: parquet, path: users.parquet}", columns=columns)
    assert load(folder, model).table.column("ltv_text").to_pylist() == ["1", "1", "1"]


def test_a_look_is_one_at_every_source(folder: Path) -> None:
    before = look(parent(), folder)
    assert load_snapshot(parent(), 64, folder)[1] == before
    for name in ("users.parquet", "orders.parquet"):
        write_parquet(folder / name, table(1))
        after = look(parent(), folder)
        assert after != before
        before = after
    (folder / "scores.csv").write_text("customer,score,labels\n")
    assert look(parent(), folder) != before


@pytest.mark.parametrize(
    ("name", "table_", "reason", "message"),
    [
        ("scores.csv", "customer,labels\nu1,[]\n", "missing_column", "'score' is missing"),
        ("scores.csv", "customer,score,labels\nu1,1,[]\nu1,2,[]\n", "duplicate_key", "table 'scores'"),
        ("orders.parquet", table(1), "missing_column", "'buyer' is missing"),
        ("orders.parquet", pa.table({"buyer": [1.5], "amount": [1], "category": [""], "paid_at": [1]}), "wrong_type",
         "table 'orders'"),
    ],
)  # fmt: skip
def test_a_fault_in_one_table_refuses_the_snapshot_and_names_the_table(
    folder: Path, name: str, table_: Any, reason: str, message: str
) -> None:
    if isinstance(table_, str):
        (folder / name).write_text(table_)
    else:
        write_parquet(folder / name, table_)
    with pytest.raises(SnapshotError) as error:
        load(folder)
    assert error.value.reason == reason
    assert message in error.value.message
