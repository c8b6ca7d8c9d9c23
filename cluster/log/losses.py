"""What is looked for before a log's SQLite file is used: whether anything acknowledged is gone from its end."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from cluster.log.database import damaged
from cluster.log.ends import End
from cluster.log.write_ahead import inspect

_log = logging.getLogger("usher.log")

#: Before a damaged end is believed.
_LOOK_AGAIN_S: Final = 0.1


def look_at_the_end(path: Path) -> None:
    """Raise where SQLite is about to drop acknowledged commits; warn where it drops one that nobody was told of."""
    found = inspect(path)
    if found.lost:
        # An orphan may have written while the file was read: what is damage is still there a moment later.
        time.sleep(_LOOK_AGAIN_S)
        found = inspect(path)
    ahead = path.with_name(f"{path.name}-wal")
    if found.lost:
        step = (
            f"Stop Usher and keep copies of {path} and {ahead}; then restore all files of this name from a backup. To "
            f"go on without what was lost after that place instead: `truncate -s {found.torn_at} {ahead}`, and delete "
            f"{path.name}-acknowledged."
        )
        what = f"acknowledged commits lie behind damage at offset {found.torn_at}"
        raise damaged(ahead, what, f"offset {found.torn_at}", step)
    if found.torn_at is not None:
        # SQLite writes over it; if it turns out to be more, somebody will want to look at it.
        with suppress(OSError):
            shutil.copyfile(ahead, ahead.with_name(f"{ahead.name}-torn"))
        _log.warning(
            "%s ends with a commit that was cut short at offset %d. It was never acknowledged, and is dropped.",
            ahead, found.torn_at,
        )  # fmt: skip


def check_nothing_is_lost(path: Path, end: End, seq: int, transition_seq: int) -> None:
    """Raise where a log ends before what was acknowledged of it."""
    if end.seq >= seq and end.transition_seq >= transition_seq:
        return
    note = f"{path.name}-acknowledged"
    what = (
        f"it ends at entry {end.seq} and transition {end.transition_seq}, but entry {seq} and transition "
        f"{transition_seq} were acknowledged ({note})"
    )
    step = (
        f"Stop Usher and restore all files of this name from one backup. To go on without what is lost instead: delete "
        f"{note}."
    )
    raise damaged(path, what, f"after entry {end.seq}", step)
