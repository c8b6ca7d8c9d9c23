"""A change put into a document by id."""

from __future__ import annotations

from cluster.definitions.merging import merge_documents
from tests.cluster.definitions.sample import document, faults_of, parse


def test_an_object_with_a_known_id_takes_its_place_whole() -> None:
    change = {"audiences": [{"id": "quiet", "parent": "users", "where": {"trait": "ltv", "gt": 1}}]}
    merged = merge_documents(document(), change)
    assert [audience["id"] for audience in merged["audiences"]] == ["hide_promo", "quiet", "idea", "old", "again"]
    assert merged["audiences"][1] == change["audiences"][0]
    assert {key: value for key, value in merged.items() if key != "audiences"} == {
        key: value for key, value in document().items() if key != "audiences"
    }


def test_a_new_object_comes_last_and_settings_merge_by_key() -> None:
    change = {"settings": {"retention": "9d"}, "parent_models": [{"id": "shops", "primary_key": "shop"}]}
    definitions = parse(merge_documents(document(), change))
    assert list(definitions.parent_models) == ["users", "accounts", "shops"]
    assert definitions.settings.retention_ms == 9 * 86_400_000
    assert definitions.settings.partitions == 32


def test_merging_into_nothing_gives_the_change() -> None:
    assert parse(merge_documents({}, document())) == parse(document())


def test_faults_of_a_change_survive_merging() -> None:
    change = {
        "audience": [],
        "sources": "web",
        "syncs": [5, {"id": 7}],
        "parent_models": [{"id": "x", "primary_key": "a"}, {"id": "x", "primary_key": "b"}],
    }
    paths = {fault.path for fault in faults_of(merge_documents(document(), change))}
    assert {"audience", "sources", "syncs[2]", "syncs[3].id", "parent_models[3].id"} <= paths
