"""Whole files: the new one or the old one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.log.durable_files import replace_durably, replacing


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "state"
    replace_durably(path, b"one")
    replace_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    replace_durably(path, b"one")
    with pytest.raises(ValueError, match="half way"), replacing(path) as file:  # noqa: PT012
        file.write(b"tw")
        raise ValueError("half way")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_one_that_was_begun_before_and_goes_on_is_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(OSError, match="late"), replacing(path, check=lambda: _late(path)) as before:
        before.write(b"the one before")
    assert path.read_bytes() == b"its successor"
    assert list(tmp_path.iterdir()) == [path]


def _late(path: Path) -> None:
    replace_durably(path, b"its successor")
    message = "late"
    raise OSError(message)
