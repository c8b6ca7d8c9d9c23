"""Traits that identify calls say: how they are declared, what is wrong of them, what they make an audience mean."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actors.evaluator.reach import recovery_ms
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import document_for_evaluation, evaluates_alike, publish
from cluster.errors import Fault
from tests.cluster.definitions.sample import KINDS, Tree, document, faults_of, parse

HOUR = 3_600_000
CALLS: dict[str, Any] = {
    "id": "calls", "parent": "users", "type": "identify", "foreign_key": ["user_id", "anonymous_id"],
    "retention": "3d",
}  # fmt: skip


def sample(column: Any = None, *, calls: dict[str, Any] | None = CALLS) -> Tree:
    """The sample with a trait `plan` that identify calls say, and one audience of it."""
    tree = document()
    columns = tree["parent_models"][0]["traits"]["columns"]
    columns["plan"] = {"type": "string", "source": "identify"} if column is None else column
    tree["event_models"] += [copy.deepcopy(calls)] if calls else []
    tree["audiences"].append({"id": "pro", "parent": "users", "where": {"trait": "plan", "eq": "pro"}})
    return tree


def fault(tree: Tree) -> tuple[str, str, str]:
    [found] = faults_of(tree)
    assert isinstance(found, Fault)
    return found.path, found.message, found.allowed


def test_it_stands_beside_those_of_the_warehouse() -> None:
    users = parse(sample()).parent_models["users"]
    assert users.identify_columns["plan"].path == ("traits", "plan")
    assert list(users.snapshot_columns) == ["ltv", "tier", "last_seen", "opted_in", "interests", "email"]
    assert "plan" not in users.tables[0].columns


def test_its_path_is_where_the_call_has_it() -> None:
    tree = sample({"type": "string", "source": "identify", "path": "traits.billing.plan", "pii": True})
    column = parse(tree).parent_models["users"].columns["plan"]
    assert (column.path, column.pii) == (("traits", "billing", "plan"), True)


AT = "parent_models[0].traits.columns.plan"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ({"type": "string", "source": "warehouse"}, (f"{AT}.source", "unknown value", "identify")),
        ({"type": "string", "source": "identify", "column": "p"},
         (f"{AT}.column", "a trait comes from a table or from identify calls, not from both",
          "path, its place in the call: traits.plan")),
        ({"type": "string", "path": "traits.plan"},
         (f"{AT}.path", "path goes with source: identify", "column, for a table's own name")),
        ({"type": "string", "source": "identify", "path": "properties.plan"},
         (f"{AT}.path", "what an identify call says of its user is in its traits",
          "dotted keys below traits, such as traits.address.city")),
        ({"type": "string", "source": "identify", "path": "traits"},
         (f"{AT}.path", "what an identify call says of its user is in its traits",
          "dotted keys below traits, such as traits.address.city")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(column: Any, expected: tuple[str, str, str]) -> None:
    assert fault(sample(column)) == expected


def test_without_a_model_of_such_calls_nothing_says_it() -> None:
    path, message, allowed = fault(sample(calls=None))
    assert path == f"{AT}.source"
    assert message == "no event model takes the identify calls of users, so nothing says this trait"
    assert allowed == (
        "an event model such as {id: users_identify, parent: users, type: identify, foreign_key: user_id}"
    )


def test_tables_have_none() -> None:
    tree = sample()
    source = {"kind": "csv", "path": "x.csv"}
    table = {"id": "more", "source": source, "columns": {"score": {"type": "number", "source": "identify"}}}
    tree["parent_models"][0]["traits"]["tables"] = [table]
    assert fault(tree)[1] == 'unknown key "source"'


@pytest.mark.parametrize("key", ["traits", "identifiers"])
def test_a_sync_cannot_send_it_yet(key: str) -> None:
    tree = sample()
    tree["syncs"][0][key] = ["plan"] if key == "traits" else {"user_id": "plan"}
    path, message, allowed = fault(tree)
    assert path == f"syncs[0].{key}" + ("[0]" if key == "traits" else ".user_id")
    assert message == '"plan" comes with identify calls: conditions can use it, syncs cannot send it yet'
    assert "plan" not in allowed
    assert "tier" in allowed


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({"path": "traits.other"}, True), ({"type": "number"}, True), ({"pii": True}, False),
    ],
)  # fmt: skip
def test_where_it_is_said_is_part_of_what_an_audience_means(change: dict[str, Any], grows: bool) -> None:
    where = {"trait": "plan", "is_set": True}
    before, after = sample(), sample({"type": "string", "source": "identify", **change})
    before["audiences"][-1]["where"] = after["audiences"][-1]["where"] = where
    published = publish(publish(None, parse(before)), parse(after))
    assert (published.audience_versions["pro"] == 2) is grows


@pytest.mark.parametrize("change", [{"foreign_key": "user_id"}, {"retention": "4d"}, {"source": "web"}])
def test_so_is_which_calls_say_it_and_how_long(change: dict[str, Any]) -> None:
    first = publish(None, parse(sample()))
    second = publish(first, parse(sample(calls={**CALLS, **change})))
    assert second.audience_versions["pro"] == 2
    assert second.audience_versions["quiet"] == 1
    assert not evaluates_alike(first, second)


def test_it_survives_the_log() -> None:
    first = publish(None, parse(sample()))
    logged = parse_document(document_for_evaluation(first.definitions), "log", KINDS)
    assert logged.parent_models["users"].columns == first.definitions.parent_models["users"].columns
    assert evaluates_alike(first, publish(None, logged))


def test_recovery_reads_as_far_back_as_calls_count() -> None:
    tree = sample()
    tree["audiences"] = [{
        "id": "pro", "parent": "users",
        "where": {"all": [{"trait": "plan", "eq": "pro"}, {"event": "view", "within": "5m"}]},
    }]  # fmt: skip
    tree["syncs"] = []
    assert recovery_ms(parse(tree)) == 3 * 24 * HOUR + 24 * HOUR


def test_the_longest_retention_of_such_models_is_how_long_calls_count() -> None:
    tree = sample()
    tree["event_models"].append({**CALLS, "id": "more_calls", "source": "web", "retention": "5d"})
    assert parse(tree).identify_retention_ms("users") == 5 * 24 * HOUR
