"""Stored snapshots: immutable, counted by their files, passed over when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.traits.snapshot import TraitSnapshot, build_snapshot
from actors.traits.store import SnapshotStore, Stored, open_snapshot
from cluster.errors import StorageFull
from cluster.log import database
from tests.actors.traits.making import parent, table

FINGERPRINT = ("users.parquet 10 1764518400000000001",)


def snapshot(count: int = 3) -> TraitSnapshot:
    return build_snapshot(table(count), parent(), 64)


def write(store: SnapshotStore, count: int = 3) -> Stored:
    return store.write(snapshot(count), shape="s", source="users.parquet", fingerprint=FINGERPRINT, loaded_at_ms=5)


def test_a_stored_snapshot_comes_back_whole_with_what_was_known_of_it(tmp_path: Path) -> None:
    stored = write(SnapshotStore(tmp_path))
    again = SnapshotStore(tmp_path).newest("users")
    assert again is not None
    assert again.info == stored.info
    assert (again.info.version, again.info.fingerprint, again.info.row_count) == (1, FINGERPRINT, 3)
    assert again.table.equals(snapshot().table)
    assert again.path == tmp_path / "users" / "1.arrow"
    assert open_snapshot(again.path).equals(snapshot().table)


def test_versions_are_counted_by_files_also_after_old_ones_are_gone(tmp_path: Path) -> None:
    for version in range(1, 6):
        assert write(SnapshotStore(tmp_path)).info.version == version
    SnapshotStore(tmp_path).remove_below("users", 4)
    assert sorted(path.name for path in (tmp_path / "users").iterdir()) == ["4.arrow", "5.arrow"]
    assert write(SnapshotStore(tmp_path)).info.version == 6


def test_a_removed_version_stays_readable_for_who_has_it_open(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    first = write(store)
    write(store)
    store.remove_below("users", 2)
    assert first.table.column("key").to_pylist() == ["u0", "u1", "u2"]


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"something else entirely"])
def test_a_damaged_copy_is_passed_over_and_its_number_not_used_again(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = SnapshotStore(tmp_path)
    write(store, 3)
    write(store, 4).path.write_bytes(content)
    newest = store.newest("users")
    assert newest is not None
    assert newest.info.version == 1
    assert "2.arrow" in caplog.text
    assert write(store).info.version == 3


def test_an_unknown_parent_has_none(tmp_path: Path) -> None:
    assert SnapshotStore(tmp_path / "missing").newest("users") is None


def test_without_room_nothing_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "DISK_FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(StorageFull, match="must stay free"):
        write(SnapshotStore(tmp_path))
    assert list((tmp_path / "users").iterdir()) == []


def test_who_was_stopped_while_it_wrote_stores_nothing(tmp_path: Path) -> None:
    owns = False
    zombie, heir = SnapshotStore(tmp_path, lambda: owns), SnapshotStore(tmp_path)
    with pytest.raises(OSError, match="lapsed"):
        write(zombie)
    assert heir.newest("users") is None
    stored = write(heir, 4)
    with pytest.raises(OSError, match="lapsed"):
        write(zombie)
    again = heir.newest("users")
    assert again is not None
    assert (again.info, again.table.num_rows) == (stored.info, 4)
    owns = True
    assert write(zombie).info.version == 2
