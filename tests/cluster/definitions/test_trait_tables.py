"""Tables and related tables of a parent model: sound ones become columns, faults say where, what and what else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.definitions.canonical import canonical_json
from cluster.definitions.model import Column, Definitions, FilterNot, PropertyTest, RelatedTrait
from cluster.definitions.model import Test as ColumnTest
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import document_for_evaluation
from cluster.errors import DefinitionError

FILE = {"kind": "parquet", "path": "t.parquet"}
ORDERS = {
    "id": "orders",
    "source": FILE,
    "columns": {
        "amount": {"type": "number"},
        "kind": {"type": "string", "column": "category"},
        "at": {"type": "timestamp"},
    },
    "traits": {"orders": {"count": True}},
}


def parse(traits: dict[str, Any], where: Any = None) -> Definitions:
    document: dict[str, Any] = {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": traits}],
    }
    if where is not None:
        document["audiences"] = [{"id": "a", "parent": "users", "where": where}]
    return parse_document(document, "shop.json", {})


def related(**traits: Any) -> dict[str, Any]:
    return {"related": [{**ORDERS, "traits": traits}]}


def faults(traits: dict[str, Any], where: Any = None) -> list[tuple[str, str, str, str]]:
    with pytest.raises(DefinitionError) as error:
        parse(traits, where)
    cut = len("parent_models[0].traits")
    return [
        (fault.path[cut:].lstrip(".") if fault.path.startswith("parent") else fault.path,
         fault.message, fault.found, fault.allowed)
        for fault in error.value.faults
    ]  # fmt: skip


def test_traits_of_every_table_are_columns_of_the_parent_and_conditions_read_them() -> None:
    tables = [{"id": "scores", "source": FILE, "key": "customer", "columns": {
        "churn": {"type": "number", "column": "score"}}}]  # fmt: skip
    hats = {"not": {"property": "kind", "eq": "hats"}}
    traits = {"source": FILE, "columns": {"ltv": {"type": "number"}}, "tables": tables, **related(
        orders={"count": True, "where": hats}, last={"max": "at", "pii": True}, kinds={"list": "kind"},
        no_hats={"none": {"property": "kind", "eq": "hats"}},
    )}  # fmt: skip
    where = {"all": [{"trait": "churn", "gt": 1}, {"trait": "orders", "gte": 2}, {"trait": "last", "within_last": "1d"},
                     {"trait": "kinds", "has": "x"}, {"trait": "no_hats", "eq": True}]}  # fmt: skip
    users = parse(traits, where).parent_models["users"]
    assert users.columns == {
        "ltv": Column("ltv", "number"), "churn": Column("churn", "number"), "orders": Column("orders", "number"),
        "last": Column("last", "timestamp", (), True), "kinds": Column("kinds", "list"),
        "no_hats": Column("no_hats", "boolean"),
    }  # fmt: skip
    assert [(table.id, table.key, dict(table.columns)) for table in users.tables] == [
        ("", "user_id", {"ltv": "ltv"}), ("scores", "customer", {"churn": "score"}),
    ]  # fmt: skip
    (orders,) = users.related
    is_hats = PropertyTest("kind", ColumnTest("eq", "hats", "string"))
    assert orders.key == "user_id"
    assert orders.columns["kind"].path == ("category",)
    assert orders.traits[0] == RelatedTrait("orders", "count", where=FilterNot(is_hats))
    assert orders.traits[3] == RelatedTrait("no_hats", "none", test=is_hats)
    assert len(users.sources) == 3


def test_what_goes_into_logs_has_the_columns_and_neither_tables_nor_sources() -> None:
    traits = {"source": FILE, "refresh": "5m", "columns": {"ltv": {"type": "number"}}, **related(n={"count": True})}
    definitions = parse(traits, {"trait": "n", "gt": 1})
    written = document_for_evaluation(definitions)
    assert written["parent_models"][0]["traits"] == {
        "refresh": "5m", "columns": {"ltv": {"type": "number"}, "n": {"type": "number"}},
    }  # fmt: skip
    again = parse_document(json.loads(canonical_json(written)), "log", {})
    assert again.parent_models["users"].columns == definitions.parent_models["users"].columns
    assert again.audiences == definitions.audiences


QUANTIFIERS = "count, any, all, none, sum, avg, min, max, distinct, list"


@pytest.mark.parametrize(
    ("traits", "fault"),
    [
        (related(n={}), ("related[0].traits.n", "a related trait needs a head", "an empty mapping", QUANTIFIERS)),
        (related(n={"cnt": True}),
         ("related[0].traits.n", "a related trait needs a head (did you mean count?)", '"cnt"', QUANTIFIERS)),
        (related(n={"count": True, "sum": "amount"}),
         ("related[0].traits.n", "a related trait has exactly one head", "count, sum", QUANTIFIERS)),
        (related(n={"count": 3}),
         ("related[0].traits.n.count", "count counts rows", "3", "true, with `where` to count some of them")),
        (related(n={"sum": "amont"}),
         ("related[0].traits.n.sum", 'the related table has no column "amont" (did you mean amount?)', '"amont"',
          "amount, kind, at")),
        (related(n={"sum": "kind"}),
         ("related[0].traits.n.sum", "sum does not fit a string column", '"kind"', "a column of type number")),
        (related(n={"max": ["at"]}),
         ("related[0].traits.n.max", "max names a column by text", '["at"]', "amount, kind, at")),
        (related(n={"any": {"property": "colour", "eq": "red"}}),
         ("related[0].traits.n.any.property", 'the related table has no column "colour"', '"colour"',
          "amount, kind, at")),
        (related(n={"count": True, "were": {"property": "kind", "eq": "x"}}),
         ("related[0].traits.n.were", 'unknown key "were" (did you mean where?)', '{"property": "kind", "eq": "x"}',
          "count, where, pii, name, description")),
        ({"related": [{**ORDERS, "traits": {}}]}, ("related[0].traits", "must not be empty", "{}", "at least one")),
        ({"related": [{**ORDERS, "source": {"kind": "parket"}}]},
         ("related[0].source.kind", 'unknown kind of trait source "parket" (did you mean parquet?)', '"parket"',
          "parquet, arrow, csv, delta, iceberg, duckdb, adbc")),
        ({"source": FILE, "columns": {"orders": {"type": "number"}}, "related": [ORDERS]},
         ("related[0].traits.orders", "the trait is declared twice", '{"count": true}',
          "each trait in one table; `column` renames one")),
        ({"tables": [{"id": "orders", "source": FILE, "columns": {"a": {"type": "number"}}}], "related": [ORDERS]},
         ("related[0].id", "the id is used twice in these traits", '"orders"', "each id once")),
        ({"tables": [{"id": "t", "source": FILE, "columns": {}}]},
         ("tables[0].columns", "must not be empty", "{}", "at least one")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_fault_says_where_what_and_what_else(traits: dict[str, Any], fault: tuple[str, str, str, str]) -> None:
    assert faults(traits) == [fault]


def test_filters_do_not_look_at_the_time_because_they_are_evaluated_when_a_table_is_read() -> None:
    ((path, message, _, _),) = faults(related(n={"count": True, "where": {"property": "at", "within_last": "30d"}}))
    assert path == "related[0].traits.n.where.within_last"
    assert "traits" in message


def test_a_faulty_related_trait_is_no_second_fault_where_a_condition_reads_it() -> None:
    assert len(faults(related(n={"sum": "amont"}), {"trait": "n", "gt": 1})) == 1
    assert len(faults(related(n={}), {"trait": "n", "gt": 1})) == 1
