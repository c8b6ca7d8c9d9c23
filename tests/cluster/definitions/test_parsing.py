"""Sound documents: every key arrives where it should, defaults are filled in, files and secrets come together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cluster import limits
from cluster.definitions.model import (
    Column,
    Destination,
    EventModel,
    ParentModel,
    Settings,
    Source,
    Sync,
    TraitTable,
)
from cluster.definitions.parsing import load_paths, parse_document, parse_documents
from cluster.definitions.trait_sources import ParquetSource
from cluster.errors import DefinitionError
from tests.cluster.definitions.sample import KINDS, HookSettings, document, parse

FIXTURES = Path(__file__).parents[2] / "fixtures" / "semantics"
CASES = sorted(FIXTURES.glob("*/definitions.json"))
SMALL = "version: 1\nparent_models:\n  - {id: users, primary_key: user_id}\n"


def test_there_are_worked_cases() -> None:
    assert len(CASES) >= 8


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_every_worked_case_is_sound(path: Path) -> None:
    definitions = load_paths([path], {}, {})
    raw = json.loads(path.read_text())
    assert list(definitions.audiences) == [audience["id"] for audience in raw["audiences"]]
    assert parse_document(definitions.document, "again", {}) == definitions


def test_every_key_of_a_document_arrives() -> None:
    definitions = parse(document())
    assert definitions.settings == Settings(604_800_000, 86_400_000, 1_000, 32, 10_000_000, 259_200_000, 2**21)
    assert definitions.sources["web"] == Source("web", "http", "key-of-web", ("shop",), "Web", "The shop")
    assert definitions.sources["app"].app_id == ("ios", "android")
    users = definitions.parent_models["users"]
    assert users == ParentModel(
        "users", "user_id", users.columns, users.tables, (), 60_000, "Users", "Shoppers"
    )
    columns = {name: name for name in users.columns}
    assert users.tables == (TraitTable("", ParquetSource(path="users.parquet"), "user_id", columns),)
    assert users.columns["email"] == Column("email", "string", (), True)
    order = definitions.event_models["order"]
    assert order == EventModel(
        "order", "users", "web", "track", "order_completed", (("user_id",),), ("timestamp",), order.columns,
        172_800_000, "Order completed", "Paid orders",
    )  # fmt: skip
    assert order.columns["first"] == Column("first", "boolean", ("properties", "is_first"))
    assert definitions.destinations["personalization"] == Destination(
        "personalization", "webhook",
        HookSettings.model_validate(
            {"url": "https://example.com/hooks", "secret": "hush-hush-hush", "headers": {"x-team": "growth"},
            "batch_size": 50}
        ),
        "Personalization", "The shop's own",
    )  # fmt: skip
    assert definitions.syncs["promo_suppression"] == Sync(
        id="promo_suppression", audience="hide_promo", destination="personalization",
        identifiers={"user_id": "user_id", "mail": "email"}, on_exit="remove", deliver="changes", initial="none",
        traits=("ltv", "tier"), batch_size=20, batch_age_ms=250, name="Promo suppression", description="To the shop",
    )  # fmt: skip
    assert [audience.status for audience in definitions.audiences.values()] == [
        "published", "paused", "draft", "archived", "published",
    ]  # fmt: skip


def test_what_is_left_out_has_its_default() -> None:
    definitions = parse(document())
    view, sync = definitions.event_models["view"], definitions.syncs["quiet_sync"]
    assert (view.source, view.event, view.timestamp, dict(view.columns)) == (None, None, ("timestamp",), {})
    assert view.foreign_key == (("user_id",), ("anonymous_id",))
    assert view.retention_ms == definitions.settings.retention_ms
    assert definitions.event_models["login"].type == "track"
    assert (sync.on_exit, sync.initial, sync.on_delete, sync.deliver) == ("remove", "members", "keep", None)
    bare = parse_document({"version": 1}, "bare.json", {}).settings
    assert bare == Settings(
        limits.RETENTION_DEFAULT_MS, limits.DEDUP_HORIZON_DEFAULT_MS, limits.DEDUP_IDS_DEFAULT_MAX,
        limits.PARTITIONS_DEFAULT
    )


def test_a_merged_document_is_kept_and_parses_to_the_same() -> None:
    definitions = parse(document())
    assert definitions.document == document()
    assert parse_document(definitions.document, "shop.json", KINDS) == definitions


def test_yaml_and_json_say_the_same() -> None:
    as_json = parse_documents([("shop.json", json.dumps(document()))], {}, KINDS)
    as_yaml = parse_documents([("shop.yaml", yaml.safe_dump(document()).encode())], {}, KINDS)
    assert as_yaml == as_json == parse(document())


def test_a_document_in_a_folder_of_files_is_merged_by_id(tmp_path: Path) -> None:
    whole = document()
    (tmp_path / "more").mkdir()
    (tmp_path / ".hidden.yaml").write_text("not: read")
    (tmp_path / "notes.txt").write_text("not: read")
    for index, (key, value) in enumerate(whole.items()):
        folder = tmp_path / "more" if index % 2 else tmp_path
        (folder / f"{index}.yaml").write_text(yaml.safe_dump({key: value}))
    definitions = load_paths([tmp_path], {}, KINDS)
    assert definitions.document == whole
    assert definitions == parse(whole)


def test_an_object_in_two_files_with_the_same_content_counts_once() -> None:
    definitions = parse_documents([("a.yaml", SMALL), ("b.yaml", SMALL)], {}, {})
    assert list(definitions.parent_models) == ["users"]


def test_settings_of_several_files_are_merged_by_key() -> None:
    files = [("a.yaml", "version: 1\nsettings: {retention: 2d}"),
    ("b.yaml", "settings: {partitions: 8, retention: 2d}")]
    settings = parse_documents(files, {}, {}).settings
    assert (settings.retention_ms, settings.partitions) == (172_800_000, 8)


def test_a_name_in_braces_is_read_from_the_environment() -> None:
    tree = document()
    tree["sources"][0]["write_key"] = "${KEY}"
    tree["destinations"][0]["headers"]["x-team"] = "a ${TEAM}-$${TEAM} $TEAM"
    text = json.dumps(tree)
    definitions = parse_documents([("shop.json", text)], {"KEY": "k-1", "TEAM": "blue"}, KINDS)
    assert definitions.sources["web"].write_key == "k-1"
    assert definitions.destinations["personalization"].settings.headers == {"x-team": "a blue-${TEAM} $TEAM"}
    assert definitions.document["sources"][0]["write_key"] == "k-1"


def test_a_merged_document_is_not_substituted_again() -> None:
    tree = document()
    tree["destinations"][0]["headers"]["x-team"] = "${TEAM}"
    assert parse(tree).destinations["personalization"].settings.headers == {"x-team": "${TEAM}"}


def test_secrets_are_in_no_repr() -> None:
    assert "hush-hush-hush" not in repr(parse(document()))
    assert "key-of-web" not in repr(parse(document()))


def test_an_empty_section_is_an_empty_list() -> None:
    assert parse_documents([("a.yaml", SMALL + "audiences:\nsyncs: []\n")], {}, {}).audiences == {}


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"\xff\xfe", "not UTF-8"), (b"", "empty"),
    (b"x" * 9_000_000, "too large")]
)
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "shop.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DefinitionError) as caught:
        load_paths([path], {}, KINDS)
    (fault,) = caught.value.faults
    assert fault.file == str(path)
    assert message in fault.message


def test_a_folder_without_definitions_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="no definitions file"):
        load_paths([tmp_path], {}, KINDS)
    with pytest.raises(DefinitionError, match="no definitions file was given"):
        load_paths([], {}, KINDS)
    with pytest.raises(DefinitionError, match="no definitions file was given"):
        parse_documents([], {}, KINDS)
