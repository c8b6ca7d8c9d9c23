"""`sync_log.db`: what every sync sent and what came back. Losing its last rows loses no delivery.

A row is a line of the log (`LogRow`); what was asked and answered is kept once an attempt, for all of its lines.
Each sync's log is bounded in rows, bytes and time, the oldest dropped first.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from actors.delivery.bounds import SYNC_LOG_BYTES_MAX, SYNC_LOG_KEEP_MS
from actors.delivery.commits import Commits
from actors.delivery.log_lines import shown_records, user_key
from actors.delivery.rows import Exchange, LogRow
from cluster.limits import SYNC_LOG_ROWS_MAX
from cluster.runtime.protocols import SYNC_SUCCESSES, LogQuery
from destinations.times import iso_ms

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS exchanges (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sync TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS exchanges_of_sync ON exchanges (sync, number);
CREATE TABLE IF NOT EXISTS lines (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sync TEXT NOT NULL, bytes INTEGER NOT NULL, exchange INTEGER,
    at_ms INTEGER NOT NULL, batch_id TEXT NOT NULL, count INTEGER NOT NULL, outcome TEXT NOT NULL, status INTEGER,
    attempt INTEGER NOT NULL, latency_ms REAL, reason TEXT NOT NULL, removes INTEGER NOT NULL,
    request_id TEXT NOT NULL, notes TEXT NOT NULL, users BLOB NOT NULL, names BLOB NOT NULL,
    kind TEXT NOT NULL DEFAULT 'changes'
);
CREATE INDEX IF NOT EXISTS lines_of_sync ON lines (sync, number, bytes, at_ms);
"""
_COLUMNS: Final = (
    "at_ms", "batch_id", "count", "outcome", "status", "attempt", "latency_ms", "reason", "removes", "request_id",
    "notes", "kind", "users", "names",
)  # fmt: skip
_INSERT: Final = (
    f"INSERT INTO lines (sync, bytes, exchange, {', '.join(_COLUMNS)}) VALUES ({', '.join('?' * (len(_COLUMNS) + 3))})"
)
#: What a line takes beside its texts.
_LINE_BYTES: Final = 120
#: Trimming looks at a sync's log once in so many rows, or bytes.
_TRIM_EVERY: Final = 500
_TRIM_EVERY_BYTES: Final = 2**20
#: Rows of one answer that shows requests, responses and records.
DETAIL_ROWS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it was read; the exchange is there where it was asked for and kept."""

    number: int
    row: LogRow
    exchange: Exchange | None


class SyncLog:
    """Open it with `await SyncLog.open(Commits(path, name))` inside the event loop that will use it."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        #: How long rows are kept, and how many bytes of them a sync.
        self.keep_ms = SYNC_LOG_KEEP_MS
        self.bytes_max = SYNC_LOG_BYTES_MAX
        #: By sync: rows and bytes added since its log was trimmed.
        self._added: dict[str, tuple[int, int]] = {}

    @classmethod
    async def open(cls, commits: Commits) -> Self:
        """Open or create the file. Raises StorageFull or DataDirError."""
        log = cls(commits)

        def prepare(connection: sqlite3.Connection) -> None:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            if "kind" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(lines)")}:
                connection.execute("ALTER TABLE lines ADD COLUMN kind TEXT NOT NULL DEFAULT 'changes'")

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

    def append(self, sync: str, rows: Sequence[LogRow], exchange: Exchange | None = None) -> None:
        """Add the lines of one attempt, soon."""
        if not rows:
            return
        sizes = [_size_bytes(row) for row in rows]
        if exchange is not None:
            sizes[0] += len(exchange.request) + len(exchange.response)
        trims = self._is_to_trim(sync, len(rows), sum(sizes))
        keep_from_ms, bytes_max = rows[-1].at_ms - self.keep_ms, self.bytes_max

        def write(connection: sqlite3.Connection) -> None:
            number = None
            if exchange is not None:
                number = connection.execute(
                    "INSERT INTO exchanges (sync, request, response) VALUES (?, ?, ?)",
                    (sync, exchange.request, exchange.response),
                ).lastrowid
            connection.executemany(
                _INSERT,
                [
                    (sync, size, number, *(getattr(row, column) for column in _COLUMNS))
                    for row, size in zip(rows, sizes, strict=True)
                ],
            )
            if trims:
                _trim(connection, sync, keep_from_ms, bytes_max)

        # Nobody waits for it; `failure` says what became of it, and a future may be forgotten once it was asked.
        self._commits.write(write, lazy=True).add_done_callback(lambda done: done.cancelled() or done.exception())

    def _is_to_trim(self, sync: str, rows: int, size_bytes: int) -> bool:
        known_rows, known_bytes = self._added.get(sync, (0, 0))
        rows, size_bytes = known_rows + rows, known_bytes + size_bytes
        trims = rows >= _TRIM_EVERY or size_bytes >= _TRIM_EVERY_BYTES
        self._added[sync] = (0, 0) if trims else (rows, size_bytes)
        return trims

    async def rows(self, sync: str, query: LogQuery) -> list[Line]:
        """Rows with their numbers, newest last: those after `after`, or with `after` <= 0 the newest ones."""
        where, values = _where(sync, query)
        forward = query.after > 0
        order = "number" if forward else "number DESC"
        columns = ", ".join(f"lines.{column}" for column in _COLUMNS)

        def read(connection: sqlite3.Connection) -> list[Line]:
            found = connection.execute(
                f"SELECT lines.number, exchanges.request, exchanges.response, {columns} FROM lines"
                f" LEFT JOIN exchanges ON exchanges.number = lines.exchange AND {int(query.detail)}"
                f" WHERE lines.number IN (SELECT number FROM lines WHERE {where} ORDER BY {order} LIMIT ?)"
                " ORDER BY lines.number",
                (*values, query.limit),
            )
            return [
                Line(number, LogRow(*row), None if request is None else Exchange(request, response))
                for number, request, response, *row in found
            ]

        await self._commits.caught_up()
        return await self._commits.read(read)

    async def trim(self, now_ms: int) -> None:
        """Drop what is too old or too much of every sync, those included that send nothing any more."""
        keep_from_ms, bytes_max = now_ms - self.keep_ms, self.bytes_max

        def write(connection: sqlite3.Connection) -> None:
            for (sync,) in connection.execute("SELECT DISTINCT sync FROM lines").fetchall():
                _trim(connection, sync, keep_from_ms, bytes_max)

        await self._commits.write(write, lazy=True)

    async def forget(self, sync: str) -> None:
        """Delete a sync's rows."""
        self._added.pop(sync, None)
        await self._commits.write(lambda connection: _delete(connection, sync))


def shown_line(line: Line, query: LogQuery) -> dict[str, Any]:
    """Give a row as people see it, with `query.detail` its records, request and response."""
    row = line.row
    shown: dict[str, Any] = {
        "id": line.number,
        "time": iso_ms(row.at_ms),
        "kind": row.kind,
        "batch_id": row.batch_id,
        "count": row.count,
        "adds": row.count - row.removes if row.users else None,
        "removes": row.removes if row.users else None,
        "outcome": row.outcome,
        "status": row.status,
        "attempt": row.attempt,
        "latency_ms": None if row.latency_ms is None else round(row.latency_ms, 1),
        "request_id": row.request_id,
        "reason": row.reason,
        "notes": row.notes,
    }
    if query.detail:
        shown["records"], shown["records_left_out"] = shown_records(row, query.user)
        shown["request"] = None if line.exchange is None else json.loads(line.exchange.request)
        shown["response"] = None if line.exchange is None else json.loads(line.exchange.response)
    return shown


def _size_bytes(row: LogRow) -> int:
    texts = len(row.batch_id) + len(row.reason) + len(row.request_id) + len(row.notes)
    return _LINE_BYTES + texts + len(row.users) + len(row.names)


def _where(sync: str, query: LogQuery) -> tuple[str, list[Any]]:
    terms: list[tuple[str, list[Any]]] = [("sync=?", [sync]), ("number>?", [max(query.after, 0)])]
    if query.failed:
        terms.append((f"outcome NOT IN ({_marks(SYNC_SUCCESSES)})", [*SYNC_SUCCESSES]))
    if query.outcomes:
        terms.append((f"outcome IN ({_marks(query.outcomes)})", [*query.outcomes]))
    if query.kinds:
        terms.append((f"kind IN ({_marks(query.kinds)})", [*query.kinds]))
    if query.since_ms is not None:
        terms.append(("at_ms>=?", [query.since_ms]))
    if query.until_ms is not None:
        terms.append(("at_ms<?", [query.until_ms]))
    if query.user:
        terms.append(("instr(users, ?) > 0", [user_key(query.user)]))
    return " AND ".join(term for term, _ in terms), [value for _, values in terms for value in values]


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _delete(connection: sqlite3.Connection, sync: str) -> None:
    connection.execute("DELETE FROM lines WHERE sync=?", (sync,))
    connection.execute("DELETE FROM exchanges WHERE sync=?", (sync,))


def _trim(connection: sqlite3.Connection, sync: str, keep_from_ms: int, bytes_max: int) -> None:
    """Drop a sync's rows up to the newest one that is too old, too many, or too much; a read of one index."""
    (last,) = connection.execute(
        "SELECT max(number) FROM (SELECT number, at_ms, row_number() OVER newest AS place,"
        " sum(bytes) OVER newest AS total FROM lines WHERE sync=? WINDOW newest AS (ORDER BY number DESC))"
        " WHERE at_ms < ? OR place > ? OR total > ?",
        (sync, keep_from_ms, SYNC_LOG_ROWS_MAX, bytes_max),
    ).fetchone()
    if last is None:
        return
    connection.execute("DELETE FROM lines WHERE sync=? AND number<=?", (sync, last))
    connection.execute(
        "DELETE FROM exchanges WHERE sync=?1 AND number <"
        " coalesce((SELECT exchange FROM lines WHERE sync=?1 AND exchange NOT NULL ORDER BY number LIMIT 1), ?2)",
        (sync, 2**63 - 1),
    )
