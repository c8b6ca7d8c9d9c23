"""Opening SQLite files the way Usher needs them: durable, with typed errors for what a disk can do to us."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cluster.errors import Damaged, DataDirError, InternalError, StorageFull, UsherError
from cluster.limits import DISK_FREE_BYTES_MIN, RETRY_AFTER_MS

#: Pages of 16 KiB: a 500 KB payload takes 31 of them in place of 125 of 4 KiB.
_PAGE_BYTES: Final = 16 * 1024
#: The write-ahead log is written back after 256 pages (4 MiB): each time costs one commit some ms, 16 MiB would 30.
_WAL_PAGES: Final = 256
#: What its file may keep of the disk.
_WAL_FILE_PAGES: Final = 4_096
#: How long a connection waits for another one's lock, in s. Only a checkpoint or a take-over holds it.
_BUSY_S: Final = 10.0

_NO_ROOM: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def connect_writer(path: Path, *, durable: bool = True) -> sqlite3.Connection:
    """Open or create a file in WAL mode, synchronous=FULL, transactions begun and ended by hand.

    Not `durable`: whole after any crash, but a power cut may take the newest transactions.

    The connection may be used by one thread at a time, whichever. Raises `StorageFull` or `DataDirError`.
    """
    with typed_errors(path):
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_FILE_PAGES * _PAGE_BYTES}")
        except BaseException:
            connection.close()
            raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open an existing file for queries alone; they see the newest commit and never wait for the writer."""
    with typed_errors(path):
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA query_only=1")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Do what is inside in one transaction: durable at the end, or nothing of it happened."""
    with typed_errors(path):
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def typed_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, by who must act."""
    try:
        yield
    except sqlite3.Error as error:
        raise _typed(error, path) from error


#: What an operator does about a damaged file.
RESTORE: Final = "Stop Usher, then restore the data dir from a copy, or move this file away."


def require_room(path: Path, bytes_needed: int, *, keep_reserve: bool = True) -> None:
    """Raise `StorageFull` unless `bytes_needed` fit and, with `keep_reserve`, `DISK_FREE_BYTES_MIN` stay free."""
    kept_free_bytes = DISK_FREE_BYTES_MIN if keep_reserve else 0
    try:
        disk = os.statvfs(path.parent)
    except OSError as error:
        message = f"{path.parent} cannot be reached: {error.strerror}."
        raise StorageFull(message, retry_after_ms=RETRY_AFTER_MS, next_step=_MAKE_ROOM) from error
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes - bytes_needed < kept_free_bytes:
        message = (
            f"{path.parent} has {free_bytes} bytes free; {bytes_needed} are needed "
            f"and {kept_free_bytes} must stay free."
        )
        raise StorageFull(message, retry_after_ms=RETRY_AFTER_MS, next_step=_MAKE_ROOM)


_MAKE_ROOM: Final = (
    "Free space on this disk or make it writable; nothing acknowledged is lost, and senders may try again."
)


def damaged(path: Path, what: str, position: str = "", next_step: str = RESTORE) -> Damaged:
    """Make the error for a file that does not hold what was written to it."""
    return Damaged(f"{path} is damaged: {what}.", file=str(path), position=position or what, next_step=next_step)


def _typed(error: sqlite3.Error, path: Path) -> UsherError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _NO_ROOM:
        message = f"{path} cannot be written: {error}."
        return StorageFull(message, retry_after_ms=RETRY_AFTER_MS, next_step=_MAKE_ROOM)
    if primary in _DAMAGED:
        return damaged(path, str(error))
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DataDirError(
            f"{path} is held by another process.", next_step="Stop the other run of Usher on this data dir."
        )
    return InternalError(f"{path}: {error}", next_step="Please report this.")
