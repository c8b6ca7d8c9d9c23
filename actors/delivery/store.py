"""`delivery.db`: what delivery must not forget. See `actors.delivery.commits` for when a write is durable."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

from actors.delivery.changes import SWEEP, Change, Cursors, Told, spool_of
from actors.delivery.commits import Commits
from actors.delivery.flaps import Flaps
from actors.delivery.instructions import HaltState
from actors.delivery.ledger import LedgerStore
from actors.delivery.letters import LetterStore, insert_batches, read_batches
from actors.delivery.present import PresentStore
from actors.delivery.room import RoomStore
from actors.delivery.rows import Asked, DeadLetter, Later, Spool, StoredRow, SyncRow
from actors.delivery.schema import forget, prepare, run

AlertsKey: TypeAlias = Literal["alerts", "alerts_memory"]
NOTHING_TOLD: Final[Mapping[str, Told]] = {}


class DeliveryStore:
    """Open it with `await DeliveryStore.open(Commits(path, name))` inside the event loop that will use it."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        #: Dead letters.
        self.letters = LetterStore(self._commits)
        #: What was told of whom.
        self.ledger = LedgerStore(self._commits)
        #: Whom a resync has told of.
        self.present = PresentStore(self._commits)
        #: What waits on disk.
        self.room = RoomStore(self._commits, self.ledger)
        #: Keys the fingerprints of settings, so that the file tells nothing about a weak secret.
        self.salt = b""

    @classmethod
    async def open(cls, commits: Commits) -> Self:
        """Open or create the file. Raises StorageFull or DataDirError."""
        store = cls(commits)

        def begin(connection: sqlite3.Connection) -> bytes:
            salt = prepare(connection)
            store.letters.load(connection)
            store.room.load(connection, salt)
            return salt

        store.salt = await store._commits.open(begin)
        return store

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._commits.folder

    @property
    def failure(self) -> str:
        """Why the disk refuses writes, empty while it takes them."""
        return self._commits.failure

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        await self._commits.close()

    async def abandon(self) -> None:
        """Close the file and forget what waits, as the end of the process would."""
        await self._commits.abandon()

    # --- alerts ------------------------------------------------------------------------------------

    async def alerts(self, key: AlertsKey = "alerts") -> bytes:
        """Give what `set_alerts` kept, empty where nothing was."""
        row = await self._commits.read(
            lambda connection: connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        )
        return b"" if row is None else bytes(row[0])

    def set_alerts(self, kept: bytes, key: AlertsKey = "alerts") -> Awaitable[None]:
        """Keep how alerts stand and the notices that are not sent yet, or what rules look back on."""
        return self._commits.write(
            lambda connection: run(connection, "INSERT OR REPLACE INTO meta VALUES (?, ?)", key, kept)
        )

    # --- syncs and cursors -------------------------------------------------------------------------

    async def sync_names(self) -> list[str]:
        """Every sync the file knows."""
        return await self._commits.read(
            lambda connection: [name for (name,) in connection.execute("SELECT sync FROM syncs ORDER BY sync")]
        )

    async def sync(self, sync: str) -> SyncRow | None:
        """Give what is known of a sync."""

        def read(connection: sqlite3.Connection) -> SyncRow | None:
            row = connection.execute(
                "SELECT incarnation, identity, fingerprint, next_order, held, suspended, halted, halt_reason,"
                " delivered, failed, learned, swept, swept_key, remembers, resync_ms, resynced_ms, ending FROM syncs"
                " WHERE sync=?", (sync,)
            ).fetchone()  # fmt: skip
            if row is None:
                return None
            known, learned, later = list(row[:10]), json.loads(row[10]), Later(*row[11:])
            known[4:6] = map(bool, row[4:6])
            return SyncRow(sync, *known, learned, later)  # type: ignore[call-arg]

        return await self._commits.read(read)

    def create(self, sync: str, incarnation: int, identity: str, fingerprint: bytes) -> Awaitable[None]:
        """Begin a sync; whatever an earlier one of this name left is forgotten."""

        def write(connection: sqlite3.Connection) -> None:
            self._forget(connection, sync)
            connection.execute(
                "INSERT INTO syncs (sync, incarnation, identity, fingerprint) VALUES (?, ?, ?, ?)",
                (sync, incarnation, identity, fingerprint),
            )

        return self._commits.write(write)

    def forget(self, sync: str) -> Awaitable[None]:
        """Forget a sync that definitions no longer have."""
        return self._commits.write(lambda connection: self._forget(connection, sync))

    def _forget(self, connection: sqlite3.Connection, sync: str) -> None:
        forget(connection, sync)
        self.room.forget(sync)

    def set_fingerprint(self, sync: str, fingerprint: bytes) -> Awaitable[None]:
        """Remember with which destination settings the sync ran last."""
        return self._commits.write(
            lambda connection: run(connection, "UPDATE syncs SET fingerprint=? WHERE sync=?", fingerprint, sync)
        )

    def set_halt(self, sync: str, state: HaltState, reason: str) -> Awaitable[None]:
        """Remember that the sync stopped, or with an empty state that it goes on."""
        return self._commits.write(
            lambda connection: run(
                connection, "UPDATE syncs SET halted=?, halt_reason=? WHERE sync=?", state, reason, sync
            )
        )

    def learn(self, sync: str, learned: Mapping[str, Any]) -> Awaitable[None]:
        """Remember all that steps and answers taught so far."""
        text = json.dumps(dict(learned), sort_keys=True)
        return self._commits.write(
            lambda connection: run(connection, "UPDATE syncs SET learned=? WHERE sync=?", text, sync)
        )

    def set_held(self, sync: str, held: bool) -> asyncio.Future[None]:
        """Remember whether changes are being held."""
        return self._commits.write(
            lambda connection: run(connection, "UPDATE syncs SET held=? WHERE sync=?", int(held), sync), lazy=True
        )

    def set_later(self, sync: str, later: Later, begins: str | None = None) -> Awaitable[None]:
        """Remember what a sync does beside delivering. `swept` otherwise moves with the cursors.

        `begins`: a resync does, which notes everybody it tells of under names of this form.
        """
        values = (
            0 if later.swept == 0 else None, later.swept_key, int(later.remembers), later.resync_ms,
            later.resynced_ms, later.ending,
        )  # fmt: skip
        statement = (
            "UPDATE syncs SET swept=coalesce(?, swept), swept_key=?, remembers=?, resync_ms=?, resynced_ms=?, ending=?"
            " WHERE sync=?"
        )

        def write(connection: sqlite3.Connection) -> None:
            run(connection, statement, *values, sync)
            if begins is not None:
                self.present.begin(connection, sync, later.resync_ms, begins)
            elif not later.resync_ms:
                self.present.forget(connection, sync)

        return self._commits.write(write)

    async def resync_left(self, sync: str, evaluators: Sequence[int], resync_ms: int) -> int:
        """Give how many evaluators' members of a resync are not all in batches yet."""

        def read(connection: sqlite3.Connection) -> int:
            done = connection.execute(
                "SELECT evaluator FROM cursors AS c WHERE sync=? AND resync_ms>=? AND NOT EXISTS"
                " (SELECT 1 FROM spools AS s WHERE s.sync=c.sync AND s.evaluator=c.evaluator)", (sync, resync_ms)
            ).fetchall()  # fmt: skip
            return len(set(evaluators) - {evaluator for (evaluator,) in done})

        return await self._commits.read(read)

    async def resynced(self, sync: str, evaluator: int) -> int:
        """Give which resync an evaluator's members were last fetched for; 0: none."""
        row = await self._commits.read(
            lambda connection: connection.execute(
                "SELECT resync_ms FROM cursors WHERE sync=? AND evaluator=?", (sync, evaluator)
            ).fetchone()
        )
        return 0 if row is None else int(row[0])

    def add_spool(self, sync: str, evaluator: int, spool: Spool, resync_ms: int) -> Awaitable[None]:
        """Keep an evaluator's members for a resync; those of an earlier one are replaced."""

        def write(connection: sqlite3.Connection) -> None:
            if spool.count:
                _put_spool(connection, sync, evaluator, spool)
            run(
                connection, "UPDATE cursors SET resync_ms=? WHERE sync=? AND evaluator=?", resync_ms, sync, evaluator
            )

        return self._commits.write(write)

    def set_suspended(self, sync: str, suspended: bool) -> Awaitable[None]:
        """Remember that somebody paused the sync, or resumed it."""
        return self._commits.write(
            lambda connection: run(connection, "UPDATE syncs SET suspended=? WHERE sync=?", int(suspended), sync)
        )

    async def cursor(self, sync: str, evaluator: int) -> int | None:
        """Give how far an evaluator's log is in batches; None for a sync that has not begun."""
        row = await self._commits.read(
            lambda connection: connection.execute(
                "SELECT seq FROM cursors WHERE sync=? AND evaluator=?", (sync, evaluator)
            ).fetchone()
        )
        return None if row is None else int(row[0])

    def start_cursor(
        self, sync: str, evaluator: int, seq: int, spool: Spool | None, resync_ms: int = 0
    ) -> Awaitable[None]:
        """Begin an evaluator's log after `seq`, and make the members as of then durable with it."""

        def write(connection: sqlite3.Connection) -> None:
            run(
                connection, "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)", sync, evaluator, seq, resync_ms
            )
            if spool is not None:
                _put_spool(connection, sync, evaluator, spool)

        return self._commits.write(write)

    async def spool(self, sync: str, evaluator: int) -> Spool | None:
        """Give the members that are not all in batches yet."""
        row = await self._commits.read(
            lambda connection: connection.execute(
                "SELECT seq, count, taken, cause, payload FROM spools WHERE sync=? AND evaluator=?", (sync, evaluator)
            ).fetchone()
        )
        return None if row is None else Spool(*row)

    def move_cursors(self, sync: str, cursors: Cursors) -> asyncio.Future[None]:
        """Let cursors pass what needs no sending."""
        return self._commits.write(lambda connection: _move(connection, sync, cursors), lazy=True)

    # --- batches -----------------------------------------------------------------------------------

    async def batches(self, sync: str) -> list[StoredRow]:
        """Every unfinished batch, in order."""
        return await self._commits.read(lambda connection: read_batches(connection, sync))

    def seal(
        self, sync: str, batches: Sequence[StoredRow], cursors: Cursors, next_order: int, dropped: int = 0,
        told: Mapping[str, Told] = NOTHING_TOLD, *, keeps_left: bool = False, left: Sequence[Change] = (),
    ) -> Awaitable[None]:  # fmt: skip
        """Make batches durable, and with them the cursors that they allow and what they tell of whom.

        `dropped` records could not be made; `keeps_left`: who left is remembered as well; `left`: changes that leave
        the waiting room so.
        """

        def write(connection: sqlite3.Connection) -> None:
            insert_batches(connection, sync, batches)
            self.letters.supersede(connection, sync, (record.user_id for row in batches for record in row.records))
            run(
                connection, "UPDATE syncs SET next_order=max(next_order, ?), failed=failed+? WHERE sync=?",
                next_order, dropped, sync,
            )  # fmt: skip
            self.room.leave(connection, sync, left)
            self.ledger.put(connection, sync, told, keeps_left=keeps_left)
            _move(connection, sync, cursors)

        return self._commits.write(write)

    def park(
        self, sync: str, changes: Sequence[Change], flaps: Flaps | None, now_ms: int, cursors: Cursors
    ) -> Awaitable[tuple[int, int]]:
        """Let changes wait on disk; see `RoomStore.park`."""
        return self.room.park(
            sync, changes, flaps, now_ms, lambda connection: _move(connection, sync, cursors)
        )

    def defer(
        self, sync: str, order: int, attempts: int, first_attempt_ms: int, next_attempt_ms: int
    ) -> Awaitable[None]:
        """Remember a failed attempt."""
        statement = "UPDATE batches SET attempts=?, first_attempt_ms=?, next_attempt_ms=? WHERE sync=? AND ord=?"
        values = (attempts, first_attempt_ms, next_attempt_ms, sync, order)
        return self._commits.write(lambda connection: run(connection, statement, *values), lazy=True)

    def settle(
        self, sync: str, order: int, delivered: int, dead: DeadLetter | None, parts: Sequence[StoredRow] = ()
    ) -> Awaitable[None]:
        """Finish a batch, or put `parts` in its place: delivered records are counted, dead ones kept."""

        def write(connection: sqlite3.Connection) -> None:
            run(connection, "DELETE FROM batches WHERE sync=? AND ord=?", sync, order)
            insert_batches(connection, sync, parts)
            if dead is not None:
                self.letters.bury(connection, sync, dead)
            run(
                connection, "UPDATE syncs SET delivered=delivered+?, failed=failed+? WHERE sync=?",
                delivered, 0 if dead is None else len(dead.records), sync,
            )  # fmt: skip

        return self._commits.write(write, lazy=not parts)

    # --- requests that are worked on -------------------------------------------------------------------

    async def asked(self, sync: str) -> list[Asked]:
        """Every request whose result is not known."""
        query = "SELECT id, batch_id, count, since_ms, due_ms, tries FROM asked WHERE sync=?"
        return await self._commits.read(
            lambda connection: [Asked(*row) for row in connection.execute(query, (sync,))]
        )

    def ask(self, sync: str, asked: Asked) -> Awaitable[None]:
        """Remember a request whose result is to be asked for, or when to ask again."""
        values = (sync, asked.id, asked.batch_id, asked.count, asked.since_ms, asked.due_ms, asked.tries)
        return self._commits.write(
            lambda connection: run(connection, "INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
        )

    def answered(self, sync: str, id_: str, failed: int) -> Awaitable[None]:
        """Forget a request whose result is known; `failed` of its records did."""

        def write(connection: sqlite3.Connection) -> None:
            run(connection, "DELETE FROM asked WHERE sync=? AND id=?", sync, id_)
            run(connection, "UPDATE syncs SET failed=failed+? WHERE sync=?", failed, sync)

        return self._commits.write(write)


def _move(connection: sqlite3.Connection, sync: str, cursors: Cursors) -> None:
    for source, number in cursors.items():
        if source >= 0:
            run(connection, "UPDATE cursors SET seq=? WHERE sync=? AND evaluator=?", number, sync, source)
        elif source == SWEEP:
            run(connection, "UPDATE syncs SET swept=? WHERE sync=?", number, sync)
        else:
            evaluator = spool_of(source)
            run(connection, "UPDATE spools SET taken=? WHERE sync=? AND evaluator=?", number, sync, evaluator)
            run(connection, "DELETE FROM spools WHERE sync=? AND evaluator=? AND taken>=count", sync, evaluator)


def _put_spool(connection: sqlite3.Connection, sync: str, evaluator: int, spool: Spool) -> None:
    run(
        connection, "INSERT OR REPLACE INTO spools VALUES (?, ?, ?, ?, ?, ?, ?)",
        sync, evaluator, spool.seq, spool.count, spool.taken, spool.cause, spool.payload,
    )  # fmt: skip
