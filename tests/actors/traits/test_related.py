"""Related tables: their rows as traits, whatever the batches, like a plain loop over each user's rows."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.traits import related
from actors.traits.related import Related, RelatedBuilder
from actors.traits.wanted import wanted_of_related
from cluster.definitions.model import (
    Column,
    Filter,
    FilterAll,
    FilterNot,
    ParentModel,
    PropertyTest,
    RelatedTable,
    RelatedTrait,
)
from cluster.definitions.model import Test as ColumnTest
from tests.actors.traits.making import source_of

COLUMNS = {
    "amount": Column("amount", "number", ("amount",)),
    "kind": Column("kind", "string", ("category",)),
    "at": Column("at", "timestamp", ("at",)),
    "back": Column("back", "boolean", ("back",)),
}
SHOES: Filter = PropertyTest("kind", ColumnTest("eq", "shoes", "string"))
DEAR: Filter = PropertyTest("amount", ColumnTest("gt", 5.0, "number"))
BACK: Filter = PropertyTest("back", ColumnTest("eq", True, "boolean"))
TRAITS = (
    RelatedTrait("orders", "count"),
    RelatedTrait("dear_shoes", "count", where=FilterAll((SHOES, DEAR))),
    RelatedTrait("ever_back", "any", test=BACK),
    RelatedTrait("all_shoes", "all", test=SHOES),
    RelatedTrait("all_dear_are_shoes", "all", test=SHOES, where=DEAR),
    RelatedTrait("never_back", "none", test=BACK),
    RelatedTrait("spent", "sum", "amount"),
    RelatedTrait("spent_else", "sum", "amount", where=FilterNot(SHOES)),
    RelatedTrait("mean", "avg", "amount"),
    RelatedTrait("least", "min", "amount"),
    RelatedTrait("last_at", "max", "at"),
    RelatedTrait("last_shoes", "max", "at", where=SHOES),
    RelatedTrait("kinds", "distinct", "kind"),
    RelatedTrait("amounts", "distinct", "amount", where=BACK),
    RelatedTrait("kind_list", "list", "kind"),
    RelatedTrait("back_list", "list", "kind", where=BACK),
)
TABLE = RelatedTable("orders", source_of("parquet", path="orders.parquet"), "user_id", COLUMNS, TRAITS)
SCHEMA = pa.schema([
    ("user_id", pa.string()), ("amount", pa.float64()), ("category", pa.string()), ("at", pa.timestamp("ms")),
    ("back", pa.bool_()),
])  # fmt: skip

rows = st.lists(
    st.fixed_dictionaries({
        "user_id": st.sampled_from(["a", "b", "c", "", None]),
        "amount": st.none() | st.sampled_from([0.0, -0.0, 1.0, 5.0, 5.5, 100.0]),
        "category": st.none() | st.sampled_from(["shoes", "hats", ""]),
        "at": st.none() | st.integers(0, 5),
        "back": st.none() | st.booleans(),
    }),
    max_size=30,
)  # fmt: skip


def folded(given: list[dict[str, Any]], cuts: int = 1, table: RelatedTable = TABLE) -> Related:
    builder = RelatedBuilder(table, wanted_of_related(table, ParentModel("users", "user_id", {})))
    size = max(1, -(-len(given) // cuts))
    for start in range(0, len(given), size):
        for batch in pa.Table.from_pylist(given[start : start + size], SCHEMA).to_batches():
            builder.add(batch)
    return builder.finish()


def by_user(found: Related) -> dict[str, dict[str, Any]]:
    names = list(found.traits.columns)
    columns = [found.traits.columns[name].to_pylist() for name in names]
    return {
        key: dict(zip(names, values, strict=True))
        for key, *values in zip(found.traits.keys.to_pylist(), *columns, strict=True)
    }


def plain(own: list[dict[str, Any]]) -> dict[str, Any]:
    """The traits of one user's rows, in the words of docs/traits.md."""
    shoes = [row for row in own if row["category"] == "shoes"]
    dear = [row for row in own if row["amount"] is not None and row["amount"] > 5]
    back = [row for row in own if row["back"] is True]
    amounts = [row["amount"] for row in own if row["amount"] is not None]
    times = [row["at"] for row in own if row["at"] is not None]
    return {
        "orders": len(own),
        "dear_shoes": sum(row in shoes for row in dear),
        "ever_back": bool(back),
        "all_shoes": len(shoes) == len(own),
        "all_dear_are_shoes": all(row in shoes for row in dear),
        "never_back": not back,
        "spent": sum(amounts),
        "spent_else": sum(row["amount"] or 0 for row in own if row not in shoes),
        "mean": sum(amounts) / len(amounts) if amounts else None,
        "least": min(amounts, default=None),
        "last_at": max(times, default=None),
        "last_shoes": max((row["at"] for row in shoes if row["at"] is not None), default=None),
        "kinds": len({row["category"] for row in own} - {None}),
        "amounts": len({row["amount"] for row in back} - {None}),
        "kind_list": sorted({row["category"] for row in own} - {None}),
        "back_list": sorted({row["category"] for row in back} - {None}),
    }


@given(rows, st.integers(1, 8))
def test_traits_are_those_of_a_plain_loop_over_each_users_rows(given: list[dict[str, Any]], cuts: int) -> None:
    found = folded(given, cuts)
    owned = defaultdict(list)
    for row in given:
        if row["user_id"]:
            owned[row["user_id"]].append(row)
    assert by_user(found) == {user: plain(own) for user, own in owned.items()}
    assert found.without_key == sum(not row["user_id"] for row in given)
    assert dict(zip(found.traits.keys.to_pylist(), found.rows.to_pylist(), strict=True)) == {
        user: len(own) for user, own in owned.items()
    }


def test_folding_early_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [{"user_id": f"u{i % 7}", "amount": float(i), "category": f"c{i % 3}", "at": i, "back": i % 2 == 0}
             for i in range(200)]  # fmt: skip
    late = by_user(folded(given, 40))
    monkeypatch.setattr(related, "_FOLD_ROWS_MIN", 3)
    assert by_user(folded(given, 40)) == late


def test_defaults_are_what_a_user_without_rows_has() -> None:
    found = folded([])
    assert len(found.traits.keys) == 0
    nothing = plain([])
    for trait in TRAITS:
        assert found.traits.defaults.get(trait.name) == nothing[trait.name], trait.name
        assert len(found.traits.columns[trait.name]) == 0
