"""Habits of every file: no marks left, no long files, no path of one machine, packages say what they are."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("cluster", "actors", "destinations", "benchmarks", "tests")
LINES_MAX = 500
#: Put together so that this file does not find itself.
MARKS = re.compile("|".join(r"\b" + mark + r"\b" for mark in ("TO" + "DO", "FIX" + "ME", "XX" + "X")))
MACHINE_PATHS = re.compile(
    r"(?<![\w.:/])/(?:" + "|".join(("wo" + "rk/", "opt/" + "venv", "ro" + "ot/", "ho" + "me/")) + ")"
)


def python_files() -> list[Path]:
    return sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))


def committed_text_files() -> list[Path]:
    """Every text file of the project (from git where there is one: build leftovers do not count)."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        files = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        files = [*python_files(), *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *(ROOT / "docs").rglob("*.md")]
    return [path for path in files if path.is_file() and path.suffix in TEXT and "fixtures" not in path.parts]


TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".sh", ".cfg", ".txt", ""}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_are_found() -> None:
    assert len(python_files()) > 20
    assert ROOT / "pyproject.toml" in committed_text_files()


def test_no_mark_of_unfinished_work_is_left() -> None:
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in python_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MARKS.search(line)
    ]
    assert found == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: length for name, length in lengths.items() if length > LINES_MAX} == {}


def test_nothing_names_a_path_of_one_machine() -> None:
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in committed_text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("folder", CODE)
def test_every_package_has_a_docstring(folder: str) -> None:
    packages = sorted({path.parent for path in (ROOT / folder).rglob("*.py")})
    without = [
        relative(package)
        for package in packages
        if not (package / "__init__.py").exists()
        or not ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    ]
    assert without == []
