"""What an earlier release stored is read by this one, to the same members and the same ids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.histories.story import Told, go_on

FOLDER = Path(__file__).parent
HISTORIES = sorted(path.parent.name for path in FOLDER.glob("*/expected.json"))
SIZE_MAX = 200_000


def there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Go into a copy of a history; gives what is expected of who reads it."""
    shutil.copytree(FOLDER / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    packed = Path("evaluator-0.db.zst").read_bytes()
    Path("evaluator-0.db").write_bytes(zstandard.ZstdDecompressor().decompress(packed))
    expected: dict[str, Any] = json.loads(Path("expected.json").read_text())
    return expected


def test_there_are_histories() -> None:
    assert HISTORIES


@pytest.mark.parametrize("checkpoints", [True, False], ids=["from its checkpoint", "from its log"])
@pytest.mark.parametrize("name", HISTORIES)
def test_a_stored_history_goes_on_as_it_did(
    name: str, checkpoints: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = there(name, tmp_path, monkeypatch)
    told = Told(1_000, expected.pop("at_ms"), checkpoints=checkpoints)
    recovered = told.checkpoints.status()["recovered"]
    # Another release's engine goes on from the log, which it must be able to; but it can read what the file is.
    reasons = {row["reason"] for row in recovered["passed_over"]}
    assert reasons <= ({"incompatible"} if checkpoints else {"gone"}), recovered
    assert recovered["from"] == "log" or checkpoints
    assert go_on(told) == expected


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_small(name: str) -> None:
    assert sum(path.stat().st_size for path in (FOLDER / name).rglob("*") if path.is_file()) < SIZE_MAX
