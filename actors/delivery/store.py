"""`delivery.db`: what delivery must not forget. SQLite, WAL, synchronous=FULL, off the event loop.

One thread does everything, in the order asked. A write returns a future that is done when the write is durable. What
is asked while a commit is under way shares the next one, and writes that nobody waits for (outcomes, cursors past
nothing) wait LAZY_MS for company: a new batch, which somebody waits for, must seldom find a commit under way.
When the disk refuses, the same writes are tried again until they succeed: nothing passes them, so delivery stands
still rather than forget, and `failure` says why.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from actors.delivery.changes import Cursors
from actors.delivery.instructions import HaltState
from actors.delivery.rows import DeadLetter, LogRow, StoredRow, SyncRow
from cluster.errors import StorageFull
from cluster.limits import SYNC_DEAD_LETTERS_MAX, SYNC_LOG_ROWS_MAX, SYNC_REVIVE_BATCHES_MAX
from cluster.log.database import connect_writer, transaction
from destinations.records import Record

_Result = TypeVar("_Result")
_Write = Callable[[sqlite3.Connection], None]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS syncs (
    sync TEXT PRIMARY KEY, incarnation INTEGER NOT NULL, identity TEXT NOT NULL, fingerprint BLOB NOT NULL,
    next_order INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0, halted TEXT NOT NULL DEFAULT '',
    halt_reason TEXT NOT NULL DEFAULT '', delivered INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (
    sync TEXT NOT NULL, evaluator INTEGER NOT NULL, seq INTEGER NOT NULL, spool_seq INTEGER NOT NULL,
    PRIMARY KEY (sync, evaluator)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spools (
    sync TEXT NOT NULL, evaluator INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (sync, evaluator)
);
CREATE TABLE IF NOT EXISTS batches (
    sync TEXT NOT NULL, ord INTEGER NOT NULL, id TEXT NOT NULL, records BLOB NOT NULL, body BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, first_attempt_ms INTEGER NOT NULL DEFAULT 0,
    next_attempt_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (sync, ord)
);
CREATE TABLE IF NOT EXISTS dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sync TEXT NOT NULL, id TEXT NOT NULL, records BLOB NOT NULL,
    body BLOB NOT NULL, died_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS dead_letters_of_sync ON dead_letters (sync, number);
CREATE TABLE IF NOT EXISTS sync_log (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sync TEXT NOT NULL, at_ms INTEGER NOT NULL, batch_id TEXT NOT NULL,
    count INTEGER NOT NULL, outcome TEXT NOT NULL, status INTEGER, attempt INTEGER NOT NULL,
    latency_ms REAL, reason TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sync_log_of_sync ON sync_log (sync, number);
"""
_TABLES: Final = ("syncs", "cursors", "spools", "batches", "dead_letters", "sync_log")
#: Trimming looks at a sync's log once in so many rows.
_TRIM_EVERY: Final = 500
#: How long a write that nobody waits for may wait for a commit. A crash meanwhile costs a resend under the same id.
LAZY_MS: Final = 20
#: Pause before writes that the disk refused are tried again.
_REFUSED_PAUSE_S: Final = 0.5

_pack = msgspec.msgpack.Encoder().encode
_unpack_records = msgspec.msgpack.Decoder(tuple[Record, ...]).decode


class DeliveryStore:
    """Open it with `await DeliveryStore.open(path)` inside the event loop that will use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="delivery-store")
        self._connection: sqlite3.Connection
        self._waiting: list[tuple[_Write, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._lazy: asyncio.TimerHandle | None = None
        #: Somebody waits for one of the waiting writes.
        self._urgent = False
        self._log_rows = 0
        #: Why the disk refuses writes, empty while it takes them.
        self.failure = ""
        #: Keys the fingerprints of settings, so that the file tells nothing about a weak secret.
        self.salt = b""

    @classmethod
    async def open(cls, path: Path) -> DeliveryStore:
        """Open or create the file. Raises StorageFull or DataDirError."""
        store = cls(path)
        try:
            await asyncio.get_running_loop().run_in_executor(store._thread, store._open)
        except BaseException:
            store._thread.shutdown()
            raise
        return store

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        self._commit_now()
        while self._committer is not None and not self._committer.done():
            await asyncio.shield(self._committer)
        await self._in_thread(lambda connection: connection.close())
        self._thread.shutdown()

    async def abandon(self) -> None:
        """Close the file and forget what waits, as the end of the process would."""
        self._waiting.clear()
        self._commit_now()
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        await self._in_thread(lambda connection: connection.close())
        self._thread.shutdown()

    # --- syncs and cursors -------------------------------------------------------------------------

    async def sync_names(self) -> list[str]:
        """Every sync the file knows."""
        return await self._in_thread(
            lambda connection: [name for (name,) in connection.execute("SELECT sync FROM syncs ORDER BY sync")]
        )

    async def sync(self, sync: str) -> SyncRow | None:
        """Give what is known of a sync."""

        def read(connection: sqlite3.Connection) -> SyncRow | None:
            row = connection.execute(
                "SELECT incarnation, identity, fingerprint, next_order, held, halted, halt_reason, delivered, failed"
                " FROM syncs WHERE sync=?", (sync,)
            ).fetchone()  # fmt: skip
            if row is None:
                return None
            incarnation, identity, fingerprint, next_order, held, *halt_and_counts = row
            return SyncRow(sync, incarnation, identity, fingerprint, next_order, bool(held), *halt_and_counts)

        return await self._in_thread(read)

    def create(self, sync: str, incarnation: int, identity: str, fingerprint: bytes) -> Awaitable[None]:
        """Begin a sync; whatever an earlier one of this name left is forgotten, except its log."""

        def write(connection: sqlite3.Connection) -> None:
            _forget(connection, sync, keep_log=True)
            connection.execute(
                "INSERT INTO syncs (sync, incarnation, identity, fingerprint) VALUES (?, ?, ?, ?)",
                (sync, incarnation, identity, fingerprint),
            )

        return self._write(write)

    def forget(self, sync: str) -> Awaitable[None]:
        """Forget a sync that definitions no longer have."""
        return self._write(lambda connection: _forget(connection, sync, keep_log=False))

    def set_fingerprint(self, sync: str, fingerprint: bytes) -> Awaitable[None]:
        """Remember with which destination settings the sync ran last."""
        return self._write(
            lambda connection: _run(connection, "UPDATE syncs SET fingerprint=? WHERE sync=?", fingerprint, sync)
        )

    def set_halt(self, sync: str, state: HaltState, reason: str) -> Awaitable[None]:
        """Remember that the sync stopped, or with an empty state that it goes on."""
        return self._write(
            lambda connection: _run(
                connection, "UPDATE syncs SET halted=?, halt_reason=? WHERE sync=?", state, reason, sync
            )
        )

    def set_held(self, sync: str, held: bool) -> Awaitable[None]:
        """Remember whether changes are being held."""
        return self._write(
            lambda connection: _run(connection, "UPDATE syncs SET held=? WHERE sync=?", int(held), sync), lazy=True
        )

    async def cursor(self, sync: str, evaluator: int) -> tuple[int, int] | None:
        """Give `(seq, spool_seq)`: changes up to `spool_seq` are in the spool, later ones in the evaluator's log."""
        return await self._in_thread(
            lambda connection: connection.execute(
                "SELECT seq, spool_seq FROM cursors WHERE sync=? AND evaluator=?", (sync, evaluator)
            ).fetchone()
        )

    def start_cursor(
        self, sync: str, evaluator: int, seq: int, spool_seq: int, payload: bytes | None
    ) -> Awaitable[None]:
        """Make a cursor and the first members it will read from `payload` durable together."""

        def write(connection: sqlite3.Connection) -> None:
            _run(
                connection, "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)", sync, evaluator, seq, spool_seq
            )
            if payload is not None:
                _run(connection, "INSERT OR REPLACE INTO spools VALUES (?, ?, ?)", sync, evaluator, payload)

        return self._write(write)

    async def spool(self, sync: str, evaluator: int) -> bytes:
        """Give the first members, an Arrow IPC stream; empty where they have all been taken."""
        row = await self._in_thread(
            lambda connection: connection.execute(
                "SELECT payload FROM spools WHERE sync=? AND evaluator=?", (sync, evaluator)
            ).fetchone()
        )
        return b"" if row is None else bytes(row[0])

    def move_cursors(self, sync: str, cursors: Cursors) -> Awaitable[None]:
        """Let cursors pass what needs no sending."""
        return self._write(lambda connection: _move(connection, sync, cursors), lazy=True)

    # --- batches -----------------------------------------------------------------------------------

    async def batches(self, sync: str) -> list[StoredRow]:
        """Every unfinished batch, in order."""

        def read(connection: sqlite3.Connection) -> list[StoredRow]:
            rows = connection.execute(
                "SELECT ord, id, records, body, attempts, first_attempt_ms, next_attempt_ms FROM batches"
                " WHERE sync=? ORDER BY ord", (sync,)
            )  # fmt: skip
            return [
                StoredRow(ord_, id_, _unpack_records(records), body, attempts, first_ms, next_ms)
                for ord_, id_, records, body, attempts, first_ms, next_ms in rows
            ]

        return await self._in_thread(read)

    def seal(
        self, sync: str, batches: Sequence[StoredRow], cursors: Cursors, next_order: int, log: Sequence[LogRow]
    ) -> Awaitable[None]:
        """Make batches durable, and with them the cursors that they allow. `log` tells of dropped records."""

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (sync, row.order, row.id, _pack(row.records), row.body, row.attempts, row.first_attempt_ms,
                     row.next_attempt_ms)
                    for row in batches
                ],
            )  # fmt: skip
            connection.execute(
                "UPDATE syncs SET next_order=max(next_order, ?), failed=failed+? WHERE sync=?",
                (next_order, sum(row.count for row in log), sync),
            )
            _move(connection, sync, cursors)
            self._append_log(connection, sync, log)

        return self._write(write)

    def defer(
        self, sync: str, batch_id: str, attempts: int, first_attempt_ms: int, next_attempt_ms: int, log: LogRow
    ) -> Awaitable[None]:
        """Remember a failed attempt."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE batches SET attempts=?, first_attempt_ms=?, next_attempt_ms=? WHERE sync=? AND id=?",
                (attempts, first_attempt_ms, next_attempt_ms, sync, batch_id),
            )
            self._append_log(connection, sync, [log])

        return self._write(write, lazy=True)

    def settle(
        self, sync: str, order: int, delivered: int, dead: DeadLetter | None, log: Sequence[LogRow],
        rest: StoredRow | None = None,
    ) -> Awaitable[None]:  # fmt: skip
        """Finish a batch, or put `rest` in its place: delivered records are counted, dead ones kept."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM batches WHERE sync=? AND ord=?", (sync, order))
            if rest is not None:
                connection.execute(
                    "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (sync, rest.order, rest.id, _pack(rest.records), rest.body, rest.attempts,
                     rest.first_attempt_ms, rest.next_attempt_ms),
                )  # fmt: skip
            if dead is not None:
                _bury(connection, sync, dead)
            connection.execute(
                "UPDATE syncs SET delivered=delivered+?, failed=failed+? WHERE sync=?",
                (delivered, 0 if dead is None else len(dead.records), sync),
            )
            self._append_log(connection, sync, log)

        return self._write(write, lazy=rest is None)

    # --- dead letters and the log ------------------------------------------------------------------

    async def dead_letters(self, sync: str, limit: int) -> list[DeadLetter]:
        """The newest dead letters, newest last."""

        def read(connection: sqlite3.Connection) -> list[DeadLetter]:
            rows = connection.execute(
                "SELECT id, records, body, died_ms, attempts, reason, request, response FROM dead_letters"
                " WHERE sync=? ORDER BY number DESC LIMIT ?", (sync, limit)
            ).fetchall()  # fmt: skip
            return [DeadLetter(row[0], _unpack_records(row[1]), *row[2:]) for row in reversed(rows)]

        return await self._in_thread(read)

    async def dead_letter_count(self, sync: str) -> int:
        """How many dead letters (batches) are kept."""
        row = await self._in_thread(
            lambda connection: connection.execute(
                "SELECT count(*) FROM dead_letters WHERE sync=?", (sync,)
            ).fetchone()
        )
        return int(row[0])

    async def revive(self, sync: str, next_order: int) -> list[StoredRow]:
        """Turn the oldest dead letters back into batches, orders from `next_order` on, ids and bytes unchanged."""
        revived: list[StoredRow] = []

        def write(connection: sqlite3.Connection) -> None:
            revived.clear()
            rows = connection.execute(
                "SELECT number, id, records, body FROM dead_letters WHERE sync=? ORDER BY number LIMIT ?",
                (sync, SYNC_REVIVE_BATCHES_MAX),
            ).fetchall()
            for offset, (number, id_, records, body) in enumerate(rows):
                row = StoredRow(next_order + offset, id_, _unpack_records(records), body)
                revived.append(row)
                connection.execute(
                    "INSERT INTO batches (sync, ord, id, records, body) VALUES (?, ?, ?, ?, ?)",
                    (sync, row.order, id_, records, body),
                )
                connection.execute("DELETE FROM dead_letters WHERE number=?", (number,))
            connection.execute(
                "UPDATE syncs SET next_order=max(next_order, ?) WHERE sync=?", (next_order + len(rows), sync)
            )

        await self._write(write)
        return revived

    async def log_rows(self, sync: str, *, failed: bool, after: int, limit: int) -> list[tuple[int, LogRow]]:
        """Rows with their numbers, newest last: those after `after`, or with `after` <= 0 the newest ones."""
        only = "AND outcome != 'delivered'" if failed else ""
        order = "number LIMIT ?" if after > 0 else "number DESC LIMIT ?"

        def read(connection: sqlite3.Connection) -> list[tuple[int, LogRow]]:
            rows = connection.execute(
                "SELECT number, at_ms, batch_id, count, outcome, status, attempt, latency_ms, reason FROM sync_log"
                f" WHERE sync=? AND number>? {only} ORDER BY {order}", (sync, max(after, 0), limit)
            ).fetchall()  # fmt: skip
            return [(row[0], LogRow(*row[1:])) for row in (rows if after > 0 else reversed(rows))]

        return await self._in_thread(read)

    # --- the thread --------------------------------------------------------------------------------

    def _open(self) -> None:
        self._connection = connect_writer(self._path)
        with transaction(self._connection, self._path):
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", (os.urandom(32),))
            (self.salt,) = self._connection.execute("SELECT value FROM meta WHERE key='salt'").fetchone()

    async def _in_thread(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: work(self._connection)
        )

    def _write(self, write: _Write, *, lazy: bool = False) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((write, done))
        if not lazy:
            self._commit_now()
        elif self._lazy is None:
            self._lazy = loop.call_later(LAZY_MS / 1000, self._commit_now)
        return done

    def _commit_now(self) -> None:
        """Commit everything that waits, lazy or not: the order of writes is the order asked."""
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        self._urgent = bool(self._waiting)
        if self._urgent and (self._committer is None or self._committer.done()):
            task = self._commit_waiting()
            self._committer = asyncio.get_running_loop().create_task(task, name="delivery-commit")

    async def _commit_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._urgent:
            group, self._waiting = self._waiting, []
            self._urgent = False
            try:
                await self._commit_until_taken(loop, [write for write, _ in group])
            except Exception as error:
                # Not a full disk: a bug or a damaged file. Whoever waits must know; nothing is retried.
                self.failure = str(error)
                for _, done in group:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in group:
                if not done.done():
                    done.set_result(None)

    async def _commit_until_taken(self, loop: asyncio.AbstractEventLoop, writes: list[_Write]) -> None:
        while True:
            try:
                await loop.run_in_executor(self._thread, self._commit, writes)
            except StorageFull as error:
                self.failure = str(error)
                await asyncio.sleep(_REFUSED_PAUSE_S)
                continue
            self.failure = ""
            return

    def _commit(self, writes: list[_Write]) -> None:
        with transaction(self._connection, self._path):
            for write in writes:
                write(self._connection)

    def _append_log(self, connection: sqlite3.Connection, sync: str, rows: Iterable[LogRow]) -> None:
        for row in rows:
            connection.execute(
                "INSERT INTO sync_log (sync, at_ms, batch_id, count, outcome, status, attempt, latency_ms, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (sync, row.at_ms, row.batch_id, row.count, row.outcome, row.status, row.attempt, row.latency_ms,
                 row.reason),
            )  # fmt: skip
            self._log_rows += 1
            if self._log_rows % _TRIM_EVERY == 0:
                _trim(connection, "sync_log", sync, SYNC_LOG_ROWS_MAX)


def _run(connection: sqlite3.Connection, statement: str, *values: Any) -> None:
    connection.execute(statement, values)


def _move(connection: sqlite3.Connection, sync: str, cursors: Cursors) -> None:
    for evaluator, seq in cursors.items():
        _run(connection, "UPDATE cursors SET seq=? WHERE sync=? AND evaluator=?", seq, sync, evaluator)
        connection.execute(
            "DELETE FROM spools WHERE sync=?1 AND evaluator=?2 AND"
            " (SELECT spool_seq FROM cursors WHERE sync=?1 AND evaluator=?2) <= ?3",
            (sync, evaluator, seq),
        )


def _bury(connection: sqlite3.Connection, sync: str, dead: DeadLetter) -> None:
    connection.execute(
        "INSERT INTO dead_letters (sync, id, records, body, died_ms, attempts, reason, request, response)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (sync, dead.id, _pack(dead.records), dead.body, dead.died_ms, dead.attempts, dead.reason, dead.request,
         dead.response),
    )  # fmt: skip
    _trim(connection, "dead_letters", sync, SYNC_DEAD_LETTERS_MAX)


def _trim(connection: sqlite3.Connection, table: str, sync: str, rows_max: int) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE sync=?1 AND number <="
        f" (SELECT number FROM {table} WHERE sync=?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (sync, rows_max),
    )


def _forget(connection: sqlite3.Connection, sync: str, *, keep_log: bool) -> None:
    for table in _TABLES:
        if not (keep_log and table == "sync_log"):
            connection.execute(f"DELETE FROM {table} WHERE sync=?", (sync,))
