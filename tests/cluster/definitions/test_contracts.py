"""Contracts in definitions: faults, and what of a contract changes what an audience means."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.definitions.model import Contract, Definitions
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import evaluates_alike, publish
from cluster.errors import DefinitionError


def parse(contract: Any) -> Definitions:
    order = {"id": "order", "parent": "users", "foreign_key": "user_id", "columns": {
        "amount": {"path": "properties.amount", "type": "number"}}}  # fmt: skip
    if contract is not None:
        order["contract"] = contract
    document = {
        "version": 1, "parent_models": [{"id": "users", "primary_key": "user_id"}], "event_models": [order],
        "audiences": [{"id": "a", "parent": "users", "where": {"event": "order", "within": "5m"}}],
    }  # fmt: skip
    return parse_document(document, "shop.json", {})


def test_a_contract_has_a_mode_columns_and_a_schema() -> None:
    made = parse({"required": ["amount"], "schema": {"type": "object"}}).event_models["order"].contract
    assert made == Contract("warn", ("amount",), {"type": "object"})
    assert parse(None).event_models["order"].contract is None


@pytest.mark.parametrize(
    ("contract", "path", "message"),
    [
        ({"mode": "refuse"}, ".mode", "unknown value"),
        ({"required": ["amont"]}, ".required[0]", 'no column of this event model "amont" (did you mean amount?)'),
        ({"schema": {"type": "objekt"}}, ".schema", "not a usable JSON Schema"),
        ({"schema": {"$ref": "https://example.com/x.json"}}, ".schema", "not a usable JSON Schema"),
        ({"schema": {"$ref": "file:///etc/hostname"}}, ".schema", "not a usable JSON Schema"),
        ({"schema": {"pattern": "("}}, ".schema", "not a usable JSON Schema"),
        ({"schema": {"pattern": "(?=a)b"}}, ".schema", "not a usable JSON Schema"),
        ({"schema": [1]}, ".schema", "not a usable JSON Schema"),
        ({"requires": ["amount"]}, ".requires", 'unknown key "requires" (did you mean required?)'),
    ],
)
def test_a_fault_says_where_and_what(contract: Any, path: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parse(contract)
    (fault,) = error.value.faults
    assert fault.path == f"event_models[0].contract{path}"
    assert fault.message.startswith(message)


@pytest.mark.parametrize(
    ("before", "after", "alike"),
    [
        (None, {"mode": "warn", "required": ["amount"]}, True),
        ({"mode": "warn", "schema": {"required": ["x"]}}, {"mode": "allow", "required": ["amount"]}, True),
        (None, {"mode": "block", "required": ["amount"]}, False),
        ({"mode": "block", "required": ["amount"]}, {"mode": "block", "schema": {"required": ["amount"]}}, False),
    ],
)
def test_only_what_blocks_changes_what_an_audience_means(before: Any, after: Any, alike: bool) -> None:
    first = publish(None, parse(before))
    second = publish(first, parse(after))
    assert evaluates_alike(first, second) is alike
    assert second.audience_versions == {"a": 1 if alike else 2}
