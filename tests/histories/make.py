"""Stores a history: `python -m tests.histories.make NAME`. Never over one that is there."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard

from tests.histories.story import START_MS, Told, go_on, tell

FOLDER = Path(__file__).parent


def make(name: str) -> Path:
    """Tell the story in a folder of its own, store it, then go on with a copy to learn what is expected."""
    kept = FOLDER / name
    kept.mkdir()
    with TemporaryDirectory() as work:
        os.chdir(work)
        told = Told(1, START_MS)
        tell(told)
        at_ms = told.clock.now_ms()
        told.log.close()
        with sqlite3.connect("evaluator-0.db") as connection:
            connection.execute("VACUUM")
        connection.close()
        packed = zstandard.ZstdCompressor(level=19).compress(Path("evaluator-0.db").read_bytes())
        (kept / "evaluator-0.db.zst").write_bytes(packed)
        for folder in ("checkpoints", "traits"):
            shutil.copytree(folder, kept / folder)
        expected = {"at_ms": at_ms, **go_on(Told(2, at_ms))}
        os.chdir(FOLDER)
    (kept / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    return kept


if __name__ == "__main__":
    print(make(sys.argv[1]))
