"""Kernels are compiled once a machine, before Ray starts, and a failure says so."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors.evaluator.kernels.cache import cache_dir, is_compiled, note_compiled
from cluster.errors import InternalError
from cluster.runtime.launch import compile_once


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_folder_is_the_one_that_was_named(cache: Path) -> None:
    assert cache_dir() == cache
    assert not is_compiled()
    note_compiled()
    assert is_compiled()


def test_what_is_compiled_is_not_compiled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note_compiled()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    steps: list[str] = []
    compile_once(steps.append)
    assert steps == []


def test_a_compiler_that_fails_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "no LLVM here")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(InternalError, match="no LLVM here"):
        compile_once(lambda _: None)
