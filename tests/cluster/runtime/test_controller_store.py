from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import DataDirError, Fenced, StorageFull
from cluster.runtime.controller_store import ControllerStore, StoredDefinitions
from cluster.runtime.protocols import KeyRecord

KEY = KeyRecord("k1", "ci", "read", "ab" * 32, 7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ControllerStore]:
    store = ControllerStore(tmp_path / "controller.db")
    yield store
    store.close()


def reopened(store: ControllerStore, tmp_path: Path) -> ControllerStore:
    store.close()
    return ControllerStore(tmp_path / "controller.db")


def test_files_are_readable_by_their_owner_alone(store: ControllerStore, tmp_path: Path) -> None:
    store.add_key(KEY, "test")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert "controller.db-wal" in modes


def test_definitions_keys_and_meta_survive_reopening(store: ControllerStore, tmp_path: Path) -> None:
    stored = StoredDefinitions(1, {"version": 1, "audiences": [{"id": "é"}]}, {"é": 1})
    store.add_definitions(stored, 5, "ada", "audience é added")
    store.add_key(KEY, "ada")
    store.set_meta("in_force", "1")
    again = reopened(store, tmp_path)
    try:
        assert again.newest_version() == 1
        assert again.definitions(1) == stored
        assert again.keys() == [KEY]
        assert again.meta("in_force") == "1"
    finally:
        again.close()


def test_there_is_nothing_before_the_first_version(store: ControllerStore) -> None:
    assert store.newest_version() == 0
    assert store.definitions(0) is None
    assert store.placement() is None
    assert store.keys() == []


def test_audit_tells_who_did_what_when_newest_first(store: ControllerStore) -> None:
    store.add_definitions(StoredDefinitions(1, {}, {}), 5, "ada", "audience vip added")
    store.add_key(KEY, "bob")
    store.remove_key("k1", 9, "bob")
    rows = [(row["at_ms"], row["who"], row["action"], row["subject"]) for row in store.audit_rows(10)]
    assert rows == [
        (9, "bob", "revoke_key", "k1"),
        (7, "bob", "create_key", "k1"),
        (5, "ada", "apply", "version 1"),
    ]
    assert store.keys() == []


def test_starts_are_counted_over_reopenings(store: ControllerStore, tmp_path: Path) -> None:
    assert [store.count_start(), store.count_start()] == [1, 2]
    again = reopened(store, tmp_path)
    assert again.count_start() == 3
    again.close()


def test_a_file_that_is_no_database_is_a_data_dir_error(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(DataDirError, match=r"controller\.db"):
        ControllerStore(path)


def test_a_folder_that_is_missing_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="cannot be written"):
        ControllerStore(tmp_path / "missing" / "controller.db")


def test_an_owner_that_was_replaced_writes_nothing_and_who_only_looks_replaces_nobody(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    before = ControllerStore(path, 3)
    before.set_meta("a", "1")
    ControllerStore(path).close()
    before.set_meta("a", "2")
    after = ControllerStore(path, 4)
    with pytest.raises(Fenced):
        before.set_meta("a", "3")
    assert after.meta("a") == "2"
    with pytest.raises(Fenced):
        ControllerStore(path, 3)
