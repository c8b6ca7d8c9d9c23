"""What this release does not carry out is refused with its place; the rest passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.definitions.evaluable import unsupported
from cluster.definitions.parsing import load_paths, located
from cluster.errors import Fault
from tests.cluster.definitions.sample import KINDS, Tree, changed, document, parse, with_where

ALLOWED = "event counts with within, trait conditions that do not depend on time, all, any, not"
VIEW = {"event": "view", "within": "1h"}


def evaluated(tree: Tree) -> Tree:
    """Take out what the sample has of references."""
    tree["audiences"] = tree["audiences"][:4]
    return tree


@pytest.mark.parametrize(
    "where",
    [
        VIEW,
        {**VIEW, "exactly": 2},
        {"event": "order", "at_most": 2, "within": "1h", "where": {"not": {"property": "tags", "has_any": ["a"]}}},
        {"trait": "last_seen", "gt": "2026-11-01T00:00:00Z"},
        {"trait": "tier", "matches": "a", "ignore_case": True},
        {"all": [VIEW, {"any": [VIEW, {"not": VIEW}]}]},
    ],
)
def test_counts_traits_and_boolean_logic_are_evaluated(where: Any) -> None:
    assert unsupported(parse(evaluated(with_where(where)))) == []


HEADS = [
    ({"trait": "last_seen", "within_last": "1h"}, ".within_last", "within_last"),
    ({"trait": "last_seen", "more_than_ago": "1h"}, ".more_than_ago", "more_than_ago"),
    ({"trait": "last_seen", "within_next": "1h"}, ".within_next", "within_next"),
    ({"event": "view", "between_ago": ["1m", "1h"]}, ".between_ago", "between_ago"),
    ({"event": "view", "since": "2026-11-01T00:00:00Z"}, ".since", "since"),
    ({"event": "view", "this": "day"}, ".this", "this"),
    ({"event": "order", "sum": "amount", "gt": 1, "within": "1h"}, ".sum", "the aggregate sum"),
    ({"sequence": [{"event": "view"}], "within": "1h"}, ".sequence", "sequence"),
    ({**VIEW, "not_followed_by": {"event": "order"}, "after": "1m"}, ".not_followed_by", "not_followed_by"),
    ({"audience": "quiet"}, ".audience", "a reference to an audience"),
]


@pytest.mark.parametrize(("where", "path", "head"), HEADS)
def test_the_rest_of_the_language_is_refused_where_it_stands(where: Any, path: str, head: str) -> None:
    message = f"{head} is part of the language but not evaluated by this release yet"
    faults = unsupported(parse(evaluated(with_where(where))), "shop.yaml")
    assert faults == [Fault("shop.yaml", f"audiences[0].where{path}", message, "audience hide_promo", ALLOWED)]
    nested = unsupported(parse(evaluated(with_where({"not": {"any": [VIEW, {"all": [where]}]}}))))
    assert [fault.path for fault in nested] == [f"audiences[0].where.not.any[1].all[0]{path}"]


@pytest.mark.parametrize(("where", "path", "head"), HEADS)
def test_audiences_that_are_not_evaluated_may_hold_anything(where: Any, path: str, head: str) -> None:
    assert unsupported(parse(evaluated(changed("audiences.2.where", where)))) == []
    assert len(unsupported(parse(evaluated(changed("audiences.1.where", where if path != ".audience" else
                                                   {"audience": "hide_promo"}))))) == 1  # fmt: skip


@pytest.mark.parametrize(
    ("at", "value", "path", "message"),
    [
        ("sources.1.kind", "kafka", "sources[1].kind", "kafka sources are not available in this release yet"),
        ("parent_models.0.traits.source", {"kind": "delta", "path": "x", "version": 3},
        "parent_models[0].traits.source.kind",
         "delta trait sources are not available in this release yet"),
        ("syncs.0.min_stay", "1h", "syncs[0].min_stay",
        "the sync option min_stay is not available in this release yet"),
        ("syncs.0.cooldown", "0s", "syncs[0].cooldown",
        "the sync option cooldown is not available in this release yet"),
        ("syncs.1.debounce", "1h", "syncs[1].debounce",
        "the sync option debounce is not available in this release yet"),
        ("syncs.0.consent", {"trait": "opted_in"}, "syncs[0].consent",
         "the sync option consent is not available in this release yet"),
        ("syncs.0.on_delete", "remove", "syncs[0].on_delete",
        "on_delete: remove is not available in this release yet"),
    ],
)  # fmt: skip
def test_options_that_are_not_carried_out_are_refused(at: str, value: Any, path: str, message: str) -> None:
    (fault,) = unsupported(parse(evaluated(changed(at, value))))
    assert (fault.path, fault.message) == (path, message)


def test_the_sample_has_its_two_references() -> None:
    assert [fault.path for fault in unsupported(parse(document()))] == [
        "audiences[4].where.any[0].audience",
        "audiences[4].where.any[1].audience",
    ]


def test_in_files_a_refused_head_is_named_with_its_own_file_and_place(tmp_path: Path) -> None:
    later = {"id": "later", "parent": "users", "where": {"event": "view", "since": "2026-11-01T00:00:00Z"}}
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_text(json.dumps(evaluated(document())))
    files[1].write_text(json.dumps({"version": 1, "audiences": [later]}))
    merged = load_paths(files, {}, KINDS)
    (fault,) = located([one for one in unsupported(merged) if one.found == "audience later"], files)
    assert (fault.file, fault.path) == (str(files[1]), "audiences[0].where.since")
