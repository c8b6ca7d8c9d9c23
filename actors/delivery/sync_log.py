"""`sync_log.db`: what every sync sent and what came back. Losing its last rows loses no delivery."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, Self

from actors.delivery.commits import Commits
from actors.delivery.rows import LogRow
from cluster.limits import SYNC_LOG_ROWS_MAX

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sync_log (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sync TEXT NOT NULL, at_ms INTEGER NOT NULL, batch_id TEXT NOT NULL,
    count INTEGER NOT NULL, outcome TEXT NOT NULL, status INTEGER, attempt INTEGER NOT NULL,
    latency_ms REAL, reason TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sync_log_of_sync ON sync_log (sync, number);
"""
#: Trimming looks at a sync's log once in so many rows.
_TRIM_EVERY: Final = 500


class SyncLog:
    """Open it with `await SyncLog.open(Commits(path, name))` inside the event loop that will use it."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._appended = 0

    @classmethod
    async def open(cls, commits: Commits) -> Self:
        """Open or create the file. Raises StorageFull or DataDirError."""
        log = cls(commits)

        def prepare(connection: sqlite3.Connection) -> None:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)

        await log._commits.open(prepare)
        return log

    @property
    def failure(self) -> str:
        """Why the disk refuses writes, empty while it takes them."""
        return self._commits.failure

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        await self._commits.close()

    async def abandon(self) -> None:
        """Close the file and forget what waits."""
        await self._commits.abandon()

    def append(self, sync: str, rows: Sequence[LogRow]) -> None:
        """Add rows, soon."""

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO sync_log (sync, at_ms, batch_id, count, outcome, status, attempt, latency_ms, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (sync, row.at_ms, row.batch_id, row.count, row.outcome, row.status, row.attempt, row.latency_ms,
                     row.reason)
                    for row in rows
                ],
            )  # fmt: skip
            self._appended += len(rows)
            if self._appended % _TRIM_EVERY < len(rows):
                _trim(connection, sync)

        if rows:
            # Nobody waits for it; `failure` says what became of it, and a future may be forgotten once it was asked.
            self._commits.write(write, lazy=True).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def rows(self, sync: str, *, failed: bool, after: int, limit: int) -> list[tuple[int, LogRow]]:
        """Rows with their numbers, newest last: those after `after`, or with `after` <= 0 the newest ones."""
        only = "AND outcome != 'delivered'" if failed else ""
        order = "number LIMIT ?" if after > 0 else "number DESC LIMIT ?"

        def read(connection: sqlite3.Connection) -> list[tuple[int, LogRow]]:
            rows = connection.execute(
                "SELECT number, at_ms, batch_id, count, outcome, status, attempt, latency_ms, reason FROM sync_log"
                f" WHERE sync=? AND number>? {only} ORDER BY {order}", (sync, max(after, 0), limit)
            ).fetchall()  # fmt: skip
            return [(row[0], LogRow(*row[1:])) for row in (rows if after > 0 else reversed(rows))]

        await self._commits.caught_up()
        return await self._commits.read(read)

    async def forget(self, sync: str) -> None:
        """Delete a sync's rows."""
        await self._commits.write(lambda connection: _delete(connection, sync))


def _delete(connection: sqlite3.Connection, sync: str) -> None:
    connection.execute("DELETE FROM sync_log WHERE sync=?", (sync,))


def _trim(connection: sqlite3.Connection, sync: str) -> None:
    connection.execute(
        "DELETE FROM sync_log WHERE sync=?1 AND number <="
        " (SELECT number FROM sync_log WHERE sync=?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (sync, SYNC_LOG_ROWS_MAX),
    )
