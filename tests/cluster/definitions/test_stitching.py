"""`parent_models[].stitching`: what it may be, and what goes with it."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.definitions.model import Stitching
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import document_for_evaluation, evaluates_alike, publish
from cluster.errors import DefinitionError

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "parent_models": [{"id": "users", "primary_key": "user_id", "stitching": True}],
    "event_models": [
        {"id": "page", "parent": "users", "type": "page", "foreign_key": ["user_id", "anonymous_id"]},
        {"id": "order", "parent": "users", "foreign_key": "user_id"},
    ],
    "audiences": [{"id": "a", "parent": "users", "where": {"event": "page", "within": "1h"}}],
}


def with_stitching(value: Any) -> dict[str, Any]:
    return {**DOCUMENT, "parent_models": [{**DOCUMENT["parent_models"][0], "stitching": value}]}


@pytest.mark.parametrize(("written", "read"), [
    (True, Stitching()), (False, None), ({}, Stitching()), ({"ids_per_user": 5}, Stitching(ids_per_user=5)),
], ids=["on", "off", "bounds by default", "a bound"])  # fmt: skip
def test_it_is_on_off_or_bounds(written: Any, read: Stitching | None) -> None:
    definitions = parse_document(with_stitching(written), "test.yaml", {})
    assert definitions.parent_models["users"].stitching == read
    # A log says it whole.
    again = parse_document(document_for_evaluation(definitions), "log", {})
    assert again.parent_models["users"].stitching == read


@pytest.mark.parametrize("wrong", [1, "yes", {"ids_per_user": 0}, {"chains": True}], ids=str)
def test_nothing_else_is_taken(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="stitching"):
        parse_document(with_stitching(wrong), "test.yaml", {})


def test_other_keys_and_a_second_parent_are_refused() -> None:
    document = {
        **DOCUMENT,
        "parent_models": [
            *DOCUMENT["parent_models"], {"id": "shops", "primary_key": "shop", "stitching": True},
        ],
        "event_models": [
            *DOCUMENT["event_models"], {"id": "sold", "parent": "users", "foreign_key": "properties.buyer"},
        ],
    }  # fmt: skip
    with pytest.raises(DefinitionError) as caught:
        parse_document(document, "test.yaml", {})
    assert {fault.path: fault.allowed for fault in caught.value.faults} == {
        "parent_models[1].stitching": "stitching of one parent model",
        "event_models[2].foreign_key": "user_id, or [user_id, anonymous_id]",
    }


def test_its_audiences_mean_something_else_with_it() -> None:
    before = publish(None, parse_document(with_stitching(False), "test.yaml", {}))
    after = publish(before, parse_document(DOCUMENT, "test.yaml", {}))
    assert after.audience_versions == {"a": 2}
    assert not evaluates_alike(before, after)
