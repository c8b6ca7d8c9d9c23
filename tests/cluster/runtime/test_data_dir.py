"""The data dir: one owner at a time, an epoch that only grows, clear answers where it cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import DataDirError
from cluster.runtime.data_dir import DataDir


def test_it_is_made_private_and_counts_its_openings(tmp_path: Path) -> None:
    names = DataDir(tmp_path / "deep" / "usher")
    epochs = []
    for _ in range(3):
        with names.open() as owned:
            epochs.append(owned.epoch)
    assert epochs == [1, 2, 3]
    assert names.path.stat().st_mode & 0o777 == 0o700


def test_a_second_owner_is_told_which_process_holds_it(tmp_path: Path) -> None:
    with (
        DataDir(tmp_path).open(),
        pytest.raises(DataDirError, match=f"in use by process {os.getpid()}") as refused,
    ):
        DataDir(tmp_path).open()
    assert "--data-dir" in refused.value.next_step
    assert DataDir(tmp_path).epoch.read_text() == "1\n"


def test_the_lock_dies_with_its_process_even_when_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from cluster.runtime.data_dir import DataDir\n"
        "owned = DataDir(Path(sys.argv[1])).open(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30)
    with DataDir(tmp_path).open() as owned:
        assert owned.epoch == 2


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(DataDirError, match="cannot be used") as refused:
            DataDir(path).open()
        assert "write access" in refused.value.next_step


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_data_dir_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataDirError, match="cannot be used"):
        DataDir(tmp_path).open()


@pytest.mark.parametrize("content", ["", "one", "-1", "é"])
def test_a_damaged_epoch_is_refused_and_the_lock_let_go(tmp_path: Path, content: str) -> None:
    DataDir(tmp_path).epoch.write_text(content)
    with pytest.raises(DataDirError, match=r"damaged|cannot be used"):
        DataDir(tmp_path).open()
    DataDir(tmp_path).epoch.write_text("7")
    with DataDir(tmp_path).open() as owned:
        assert owned.epoch == 8


def test_names_lie_inside(tmp_path: Path) -> None:
    names = DataDir(tmp_path)
    found = {
        path.relative_to(tmp_path).as_posix()
        for path in (names.controller_db, names.delivery_db, names.evaluator_db(2), names.traits, names.membership,
                     names.admin_key, names.usher_json)
    }  # fmt: skip
    assert found == {
        "controller.db",
        "delivery.db",
        "evaluator-2.db",
        "traits",
        "membership",
        "admin.key",
        "usher.json",
    }
