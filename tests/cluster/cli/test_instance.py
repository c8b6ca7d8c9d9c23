"""Whose a data dir is, told by its lock and never by a pid in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cluster.cli.instance import read_instance, running_pid
from cluster.errors import DataDirError
from cluster.runtime.data_dir import DataDir


def test_a_held_data_dir_names_its_holder_and_a_left_one_nobody(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    with DataDir(tmp_path).open():
        assert running_pid(tmp_path) == os.getpid()
    assert (tmp_path / "lock").read_text().strip() == str(os.getpid())
    assert running_pid(tmp_path) is None


def test_looking_at_a_data_dir_keeps_nobody_out(tmp_path: Path) -> None:
    DataDir(tmp_path).open().close()
    assert running_pid(tmp_path) is None
    DataDir(tmp_path).open().close()


def test_no_description_is_no_instance(tmp_path: Path) -> None:
    assert read_instance(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"pid": 1})])
def test_a_damaged_description_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "usher.json").write_text(content)
    with pytest.raises(DataDirError, match="USHER_URL"):
        read_instance(tmp_path)
