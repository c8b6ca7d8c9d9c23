"""Who may write to a SQLite file of one owner: its epoch stands in the file, and every write looks for it there.

In `user_version`, a number of 31 bits in SQLite's own header, which is part of each transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from cluster.errors import Fenced
from cluster.log.database import connect_reader, transaction, typed_errors


class Occupancy:
    """One process's hold on a file: an earlier owner's next write raises Fenced and changes nothing."""

    def __init__(self, connection: sqlite3.Connection, path: Path, epoch: int) -> None:
        self._connection = connection
        self._path = path
        self._epoch = epoch

    @classmethod
    def take(cls, connection: sqlite3.Connection, path: Path, epoch: int | None) -> Self:
        """Take a file over. Raises Fenced where an owner of a higher epoch has had it.

        None: whoever opens last owns.
        """
        with transaction(connection, path):
            seen = _seen(connection)
            if epoch is None:
                epoch = seen + 1
            if seen > epoch:
                raise _fenced(path, seen)
            connection.execute(f"PRAGMA user_version={epoch:d}")
        return cls(connection, path, epoch)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do what is inside in one transaction of the owner's. Raises Fenced for who is that no more."""
        with transaction(self._connection, self._path):
            seen = _seen(self._connection)
            if seen != self._epoch:
                raise _fenced(self._path, seen)
            yield


def highest_epoch(path: Path) -> int:
    """Give the epoch of a file's last owner; 0 where there is no file, or none has owned it."""
    if not path.exists():
        return 0
    with closing(connect_reader(path)) as connection, typed_errors(path):
        return _seen(connection)


def _seen(connection: sqlite3.Connection) -> int:
    (seen,) = connection.execute("PRAGMA user_version").fetchone()
    return int(seen)


def _fenced(path: Path, epoch: int) -> Fenced:
    message = f"{path} belongs to another process, of a later start; this one may not write to it any more."
    return Fenced(message, next_step="This one ends by itself.", epoch=epoch)
