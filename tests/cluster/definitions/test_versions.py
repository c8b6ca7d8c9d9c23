"""An audience's version grows when its meaning changes, and never serves two lives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.definitions.canonical import canonical_json
from cluster.definitions.model import Published
from cluster.definitions.parsing import load_paths, parse_document
from cluster.definitions.versions import Change, difference, document_for_evaluation, evaluates_alike, publish
from tests.cluster.definitions.sample import Tree, changed, document, parse

CASES = sorted((Path(__file__).parents[2] / "fixtures" / "semantics").glob("*/definitions.json"))


def versions_after(*trees: Tree) -> dict[str, int]:
    published: Published | None = None
    for tree in trees:
        published = publish(published, parse(tree))
    assert published is not None
    assert published.version == len(trees)
    return dict(published.audience_versions)


def test_the_first_publication_is_version_1_of_everything() -> None:
    assert set(versions_after(document()).values()) == {1}


def test_publishing_the_same_again_grows_no_audience() -> None:
    assert set(versions_after(document(), document()).values()) == {1}


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("audiences.0.name", "Another name"), ("audiences.0.description", ""), ("audiences.0.status", "paused"),
        ("event_models.0.name", "x"), ("event_models.0.columns.amount.type", "string"),
        ("event_models.0.columns.more", {"path": "context.x", "type": "string"}),
        ("event_models.2.foreign_key", "user_id"),
        ("parent_models.0.traits.columns.opted_in.type", "string"),
        ("parent_models.0.traits.source.path", "y.parquet"),
        ("destinations.0.url", "https://example.org"), ("settings.partitions", 8), ("settings.dedup.horizon", "1h"),
        ("sources.0.write_key", "other"), ("audiences.2.where", {"trait": "ltv", "gt": 1}),
    ],
)  # fmt: skip
def test_what_an_audience_does_not_mean_does_not_grow_it(at: str, value: Any) -> None:
    versions = versions_after(document(), changed(at, value))
    assert (versions["hide_promo"], versions["quiet"], versions["again"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("at", "value", "grown"),
    [
        ("audiences.0.where", {"trait": "ltv", "gt": 301}, {"hide_promo", "again"}),
        ("audiences.1.where", {"trait": "ltv", "gt": 301}, {"quiet", "again"}),
        ("event_models.0.event", "order_paid", {"hide_promo", "again"}),
        ("event_models.0.type", "screen", {"hide_promo", "again"}),
        ("event_models.0.source", "app", {"hide_promo", "again"}),
        ("event_models.0.foreign_key", "anonymous_id", {"hide_promo", "again"}),
        ("event_models.0.timestamp", "received_at", {"hide_promo", "again"}),
        ("event_models.0.retention", "3d", {"hide_promo", "again"}),
        ("event_models.0.columns.channel.path", "properties.medium", {"hide_promo", "again"}),
        ("settings.retention", "8d", {"hide_promo", "quiet", "again", "idea", "old"}),
        ("parent_models.0.primary_key", "id", {"hide_promo", "quiet", "again", "idea", "old"}),
        ("audiences.2.where", {"trait": "tier", "in": ["silver"]}, {"idea", "old"}),
    ],
)  # fmt: skip
def test_what_an_audience_means_grows_it_and_what_refers_to_it(at: str, value: Any, grown: set[str]) -> None:
    tree = changed(at, value)
    if at.endswith("primary_key"):
        tree["syncs"] = []
    versions = versions_after(document(), tree)
    assert {id_ for id_, version in versions.items() if version == 2} == grown


def test_a_traits_type_grows_the_audiences_that_use_it() -> None:
    before = changed("audiences.0.where", {"trait": "tier", "is_set": True})
    after = changed("audiences.0.where", {"trait": "tier", "is_set": True})
    after["parent_models"][0]["traits"]["columns"]["tier"]["type"] = "number"
    after["audiences"][2]["where"] = before["audiences"][2]["where"] = {"trait": "ltv", "gt": 1}
    versions = versions_after(before, after)
    assert {id_ for id_, version in versions.items() if version == 2} == {"hide_promo", "again"}


def alike(after: Tree, first: Tree | None = None) -> bool:
    before = publish(None, parse(first or document()))
    published = publish(before, parse(after))
    logged = parse_document(document_for_evaluation(published.definitions), "<log>", {})
    same = evaluates_alike(before, published)
    assert evaluates_alike(before, Published(2, logged, published.audience_versions)) == same, "as read from a log"
    return same


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("audiences.0.name", "Another name"), ("audiences.0.status", "paused"), ("event_models.0.name", "x"),
        ("parent_models.0.traits.source.path", "y.parquet"), ("destinations.0.url", "https://example.org"),
        ("sources.0.write_key", "other"),
    ],
)  # fmt: skip
def test_what_only_others_read_lets_an_evaluator_go_on_as_it_is(at: str, value: Any) -> None:
    assert alike(changed(at, value))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("audiences.0.where", {"trait": "ltv", "gt": 301}), ("audiences.0.id", "another"),
        ("event_models.0.columns.more", {"path": "context.x", "type": "string"}),
        ("event_models.0.retention", "3d"), ("parent_models.0.primary_key", "id"),
        ("parent_models.0.traits.columns.opted_in.type", "string"), ("settings.dedup.horizon", "1h"),
        ("settings.retention", "8d"),
    ],
)  # fmt: skip
def test_what_evaluation_reads_makes_it_build_anew(at: str, value: Any) -> None:
    assert not alike(_without(changed(at, value), "again"), _without(document(), "again"))
    assert alike(_without(document(), "again"), _without(document(), "again"))


def test_the_order_of_models_sources_and_audiences_makes_it_build_anew() -> None:
    for section in ("event_models", "sources", "audiences"):
        tree = document()
        tree[section] = tree[section][::-1]
        assert not alike(tree), section


def _without(tree: Tree, id_: str) -> Tree:
    tree["audiences"] = [audience for audience in tree["audiences"] if audience["id"] not in (id_, "again")]
    tree["syncs"] = []
    return tree


def _with_status(status: str) -> Tree:
    tree = _without(document(), "again")
    tree["audiences"][0]["status"] = status
    return tree


def test_an_id_that_comes_back_counts_on() -> None:
    gone = _without(document(), "hide_promo")
    assert versions_after(document(), gone)["hide_promo"] == 1
    assert versions_after(document(), gone, document())["hide_promo"] == 2
    assert versions_after(document(), gone, gone, document(), gone, document())["hide_promo"] == 3


@pytest.mark.parametrize(
    ("statuses", "version"),
    [
        (["published", "archived", "published"], 2),
        (["published", "archived", "archived"], 1),
        (["published", "archived", "draft"], 2),
        (["archived", "paused"], 2),
        (["draft", "published"], 1),
        (["published", "draft", "published"], 2),
        (["published", "paused", "published"], 1),
    ],
)
def test_a_version_never_serves_two_lives(statuses: list[str], version: int) -> None:
    assert versions_after(*map(_with_status, statuses))["hide_promo"] == version


def test_difference_names_every_object() -> None:
    tree = changed("audiences.1.name", "Quiet ones")
    tree["sources"].append({"id": "pos", "kind": "http"})
    tree["syncs"] = tree["syncs"][:1]
    tree["settings"]["partitions"] = 8
    found = difference(parse(document()), parse(tree))
    assert [change for change in found if change.change != "unchanged"] == [
        Change("settings", "settings", "changed"),
        Change("sources", "pos", "added"),
        Change("audiences", "quiet", "changed"),
        Change("syncs", "quiet_sync", "removed"),
    ]
    assert len(found) == 1 + 3 + 2 + 3 + 5 + 1 + 2
    assert {change.change for change in difference(None, parse(document()))} == {"added"}
    assert {change.change for change in difference(parse(document()), parse(document()))} == {"unchanged"}


def test_what_goes_into_logs_evaluates_alike_and_holds_no_secret() -> None:
    tree = document()
    uri = "postgresql://u:s3cr3t@h/d"
    tree["parent_models"][0]["traits"]["source"] = {"kind": "adbc", "uri": uri, "query": "SELECT 1"}
    definitions = parse(tree)
    written = document_for_evaluation(definitions)
    text = canonical_json(written)
    assert not any(secret in text for secret in ("key-of-web", "hush-hush", "s3cr3t", "example.com"))
    read = parse_document(json.loads(text), "log", {})
    assert (read.settings, read.event_models, read.audiences) == (
        replace(definitions.settings, sync_log_keep_ms=None, sync_log_bytes_max=None),
        definitions.event_models, definitions.audiences,
    )  # fmt: skip
    assert list(read.sources) == ["web", "app"]
    assert read.parent_models["users"].columns == definitions.parent_models["users"].columns
    assert read.parent_models["users"].primary_key == "user_id"
    assert read.parent_models["users"].sources == ()
    assert (read.destinations, read.syncs) == ({}, {})
    assert canonical_json(document_for_evaluation(read)) == text


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_the_worked_cases_survive_the_log(path: Path) -> None:
    definitions = load_paths([path], {}, {})
    read = parse_document(document_for_evaluation(definitions), "log", {})
    assert (read.settings, read.audiences, read.event_models) == (
        definitions.settings, definitions.audiences, definitions.event_models,
    )  # fmt: skip
    assert publish(publish(None, definitions), read).audience_versions == dict.fromkeys(definitions.audiences, 1)


def test_settings_are_written_out_so_that_new_defaults_change_no_log() -> None:
    written = document_for_evaluation(parse_document({"version": 1}, "x", {}))["settings"]
    assert set(written) == {"retention", "dedup", "partitions"}
    assert set(written["dedup"]) == {"horizon", "max_ids"}


def test_equal_trees_have_one_text() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == canonical_json({"a": "é", "b": [1, 2.5, None]})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
