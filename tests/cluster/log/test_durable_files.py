"""Whole files: the new one or the old one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.log import durable_files
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


def test_a_large_file_is_written_whole_and_synced_slice_by_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_files, "_SYNCED_BYTES", 100)
    sizes: list[int] = []
    monkeypatch.setattr(durable_files.os, "fdatasync", lambda file: sizes.append(os.fstat(file).st_size))
    content = bytes(range(250)) * 4
    with (tmp_path / "large").open("wb") as file:
        slices = durable_files.InSlices(file)
        assert slices.write(content[:30]) == 30
        assert slices.write(memoryview(content)[30:]) == 970
    assert (tmp_path / "large").read_bytes() == content
    assert sizes == [130 + 100 * step for step in range(9)]
