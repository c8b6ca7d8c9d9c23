"""A node without the data dir gets copies of the trait snapshots, whole ones alone, and evaluators find them there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest

from actors.evaluator import entries
from actors.traits import store as traits_store
from actors.traits.store import SnapshotStore
from cluster.errors import DataDirError, NotReady
from cluster.runtime import snapshots
from cluster.runtime.protocols import Reply
from cluster.runtime.snapshots import fetch_snapshots


class Loader:
    """The loader's store, behind calls that may be refused."""

    def __init__(self, folder: Path) -> None:
        self.store = SnapshotStore(folder)
        self.refusals = 0

    def _answer(self, reply: Reply) -> Reply:
        if self.refusals:
            self.refusals -= 1
            return {"error": "not_ready", "message": "it is starting"}
        return reply

    async def snapshots(self) -> Reply:
        return self._answer({"snapshots": self.store.kept()})

    async def snapshot_part(self, parent: str, version: int, offset: int) -> Reply:
        return self._answer({"bytes": self.store.part(parent, version, offset)})


def keep(folder: Path, parent: str, version: int, *ltv: float) -> Path:
    path = folder / parent / f"{version}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"ltv": list(ltv)})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traits_store, "PART_BYTES", 100)
    monkeypatch.setattr(snapshots, "_AGAIN_S", 0.001)
    monkeypatch.setattr(entries, "_FOLDERS", [])


def test_copies_are_the_loaders_files_and_an_evaluator_finds_them(tmp_path: Path) -> None:
    home, here = tmp_path / "home" / "traits", tmp_path / "here" / "traits"
    loader = Loader(home)
    there = keep(home, "users", 7, 1.0, 2.0, 3.0)
    keep(home, "accounts", 1, 5.0)
    keep(here, "users", 6, 9.0)
    loader.refusals = 3
    asyncio.run(fetch_snapshots(loader, here))
    assert (here / "users" / "7.arrow").read_bytes() == there.read_bytes()
    assert sorted(path.relative_to(here).as_posix() for path in here.glob("*/*")) == [
        "accounts/1.arrow", "users/7.arrow"
    ]  # fmt: skip
    entries.look_for_snapshots_in(here)
    there.unlink()
    assert entries.read_snapshot_file(str(there)).column("ltv").to_pylist() == [1.0, 2.0, 3.0]
    with pytest.raises(DataDirError, match=r"users/8\.arrow"):
        entries.read_snapshot_file(str(home / "users" / "8.arrow"))


def test_a_data_dir_that_was_copied_has_its_own(tmp_path: Path) -> None:
    before = keep(tmp_path / "before" / "traits", "users", 7, 1.0)
    keep(tmp_path / "now" / "traits", "users", 7, 2.0)
    entries.look_for_snapshots_in(tmp_path / "now" / "traits")
    assert entries.read_snapshot_file(str(before)).column("ltv").to_pylist() == [2.0]


def test_one_that_is_dropped_meanwhile_is_left_out(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    loader = Loader(home)
    path = keep(home, "users", 7, 1.0)

    async def dropped(parent: str, version: int, offset: int) -> Reply:
        path.unlink(missing_ok=True)
        return {"bytes": loader.store.part(parent, version, offset)}

    loader.snapshot_part = dropped  # type: ignore[method-assign]
    asyncio.run(fetch_snapshots(loader, here))
    assert list(here.glob("*/*")) == []


def test_a_loader_that_never_answers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_PATIENCE_S", 0.01)
    loader = Loader(tmp_path)
    loader.refusals = 1_000_000
    with pytest.raises(NotReady, match="it is starting"):
        asyncio.run(fetch_snapshots(loader, tmp_path / "here"))


def test_what_is_not_kept_is_not_given_whatever_its_name(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "traits")
    keep(tmp_path / "traits", "users", 1, 1.0)
    keep(tmp_path, "secret", 1, 1.0)
    assert store.part("../secret", 1, 0) is None
    assert store.part("users", 2, 0) is None
    assert store.part("users", 1, 10**9) == b""
