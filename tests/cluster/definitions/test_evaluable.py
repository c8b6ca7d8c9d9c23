"""What this release does not carry out is refused with its place; the rest passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.definitions.evaluable import unsupported
from cluster.definitions.parsing import load_paths, located
from tests.cluster.definitions.sample import KINDS, changed, document, parse, with_where

VIEW = {"event": "view", "within": "1h"}


@pytest.mark.parametrize(
    "where",
    [
        {"all": [VIEW, {"any": [VIEW, {"not": VIEW}]}]},
        {"trait": "tier", "matches": "a", "ignore_case": True},
        {"trait": "last_seen", "within_last": "1h"},
        {"event": "view", "between_ago": ["1m", "1h"]},
        {"event": "view", "since": "2026-11-01T00:00:00Z"},
        {"event": "view", "this": "day", "tz": "Europe/Berlin"},
        {"event": "order", "sum": "amount", "gt": 1, "within": "1h"},
        {"sequence": [{"event": "view"}, {"event": "order"}], "within": "1h"},
        {**VIEW, "not_followed_by": {"event": "order"}, "after": "1m"},
    ],
)
def test_the_whole_language_is_evaluated(where: Any) -> None:
    assert unsupported(parse(with_where(where))) == []


def test_references_are_evaluated() -> None:
    assert unsupported(parse(document())) == []


@pytest.mark.parametrize(
    ("at", "value", "path", "message"),
    [
        ("sources.1", {"id": "app", "kind": "file"}, "sources[1].kind",
         "files are not read as a source: `usher ingest FILE…` sends them, as often as they come"),
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
    (fault,) = unsupported(parse(changed(at, value)))
    assert (fault.path, fault.message) == (path, message)


def test_in_files_a_refused_option_is_named_with_its_own_file_and_place(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_text(json.dumps(document()))
    files[1].write_text(json.dumps({"version": 1, "sources": [{"id": "later", "kind": "file"}]}))
    merged = load_paths(files, {}, KINDS)
    (fault,) = located([one for one in unsupported(merged) if one.found == "source later"], files)
    assert (fault.file, fault.path) == (str(files[1]), "sources[0].kind")
