"""Dead letters on disk: kept, shown, and brought back in an order that lets no newer change be undone.

`dead_users` has a row for every user of a dead letter until a newer change of that user is sealed: what has lost its
row is superseded, and where the newest change alone counts it is not sent again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from actors.delivery.commits import Commits
from actors.delivery.outbox import ORDER_SPAN
from actors.delivery.rows import DeadLetter, StoredRow
from cluster.limits import SYNC_DEAD_LETTERS_MAX
from destinations.records import Record

_pack = msgspec.msgpack.Encoder().encode
_unpack_records = msgspec.msgpack.Decoder(tuple[Record, ...]).decode

_COLUMNS: Final = "id, records, body, died_ms, attempts, reason, request, response, key"
#: Makes a batch of a dead letter and the users that no newer change has superseded; None: nothing is left to send.
Reviver: TypeAlias = Callable[[DeadLetter, frozenset[str], int], StoredRow | None]


class LetterStore:
    """The dead letters of every sync."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        #: Syncs that may have rows in `dead_users`; touched in the file's thread alone.
        self._syncs: set[str] = set()

    def load(self, connection: sqlite3.Connection) -> None:
        """Learn which syncs have dead letters."""
        self._syncs = {sync for (sync,) in connection.execute("SELECT DISTINCT sync FROM dead_users")}

    # --- inside others' transactions ---------------------------------------------------------------

    def bury(self, connection: sqlite3.Connection, sync: str, dead: DeadLetter) -> None:
        """Keep a dead letter; `superseded` users of it have a newer change already."""
        cursor = connection.execute(
            f"INSERT INTO dead_letters (sync, count, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sync, len(dead.records), dead.id, _pack(dead.records), dead.body, dead.died_ms, dead.attempts, dead.reason,
             dead.request, dead.response, dead.key),
        )  # fmt: skip
        number = cursor.lastrowid
        users = {record.user_id for record in dead.records} - dead.superseded
        connection.executemany(
            "INSERT OR IGNORE INTO dead_users VALUES (?, ?, ?)", [(sync, user, number) for user in users]
        )
        self._syncs.add(sync)
        self._trim(connection, sync)

    def supersede(self, connection: sqlite3.Connection, sync: str, users: Iterable[str]) -> None:
        """Newer changes of these users are sealed. Costs nothing where the sync has no dead letters."""
        if sync in self._syncs:
            connection.executemany(
                "DELETE FROM dead_users WHERE sync=? AND user=?", [(sync, user) for user in set(users)]
            )

    # --- questions and wishes ----------------------------------------------------------------------

    async def newest(self, sync: str, limit: int) -> list[DeadLetter]:
        """The newest dead letters, newest last."""

        def read(connection: sqlite3.Connection) -> list[DeadLetter]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM dead_letters WHERE sync=? ORDER BY number DESC LIMIT ?", (sync, limit)
            ).fetchall()
            return [_letter(row) for row in reversed(rows)]

        await self._commits.caught_up()
        return await self._commits.read(read)

    async def count(self, sync: str) -> int:
        """How many dead letters (batches) are kept."""
        return await self._number("SELECT count(*) FROM dead_letters WHERE sync=?", sync)

    async def wanted(self, sync: str) -> bool:
        """Whether somebody asked for dead letters that are not back yet."""
        return bool(await self._number("SELECT count(*) FROM dead_letters WHERE sync=? AND reviving=1", sync))

    async def want(self, sync: str) -> int:
        """Ask for every dead letter that there is now; gives how many records they hold."""
        counts = [0]

        def write(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT coalesce(sum(count), 0) FROM dead_letters WHERE sync=?", (sync,))
            (counts[0],) = row.fetchone()
            connection.execute("UPDATE dead_letters SET reviving=1 WHERE sync=?", (sync,))

        await self._commits.write(write)
        return counts[0]

    def revive(
        self, sync: str, first_order: int, limit: int, reviver: Reviver
    ) -> Awaitable[tuple[list[StoredRow], bool]]:
        """Turn the oldest wanted dead letters into batches, orders from `first_order` on.

        Gives the batches, and whether more are wanted.
        """
        told: list[StoredRow] = []
        more = [False]

        def write(connection: sqlite3.Connection) -> None:
            told.clear()
            rows = connection.execute(
                f"SELECT number, {_COLUMNS} FROM dead_letters WHERE sync=? AND reviving=1 ORDER BY number LIMIT ?",
                (sync, limit),
            ).fetchall()
            for offset, (number, *columns) in enumerate(rows):
                live = frozenset(
                    user for (user,) in connection.execute(
                        "SELECT user FROM dead_users WHERE sync=? AND letter=?", (sync, number)
                    )
                )  # fmt: skip
                row = reviver(_letter(tuple(columns)), live, first_order + offset * ORDER_SPAN)
                if row is not None:
                    insert_batches(connection, sync, [row])
                    told.append(row)
                _drop(connection, sync, number)
            connection.execute(
                "UPDATE syncs SET next_order=max(next_order, ?) WHERE sync=?",
                (first_order + len(rows) * ORDER_SPAN, sync),
            )
            more[0] = len(rows) == limit

        # Asked here and now, not when somebody waits: the place in the order of writes is what counts.
        written = self._commits.write(write)

        async def result() -> tuple[list[StoredRow], bool]:
            await written
            return told, more[0]

        return result()

    async def _number(self, query: str, sync: str) -> int:
        await self._commits.caught_up()
        row = await self._commits.read(lambda connection: connection.execute(query, (sync,)).fetchone())
        return int(row[0])

    def _trim(self, connection: sqlite3.Connection, sync: str) -> None:
        old = connection.execute(
            "SELECT number FROM dead_letters WHERE sync=? ORDER BY number DESC LIMIT -1 OFFSET ?",
            (sync, SYNC_DEAD_LETTERS_MAX),
        ).fetchall()
        for (number,) in old:
            _drop(connection, sync, number)


def insert_batches(connection: sqlite3.Connection, sync: str, rows: Iterable[StoredRow]) -> None:
    """Store batches; one that has the same place already is replaced."""
    connection.executemany(
        "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (sync, row.order, row.span, row.id, row.key, _pack(row.records), row.body, row.attempts,
             row.first_attempt_ms, row.next_attempt_ms)
            for row in rows
        ],
    )  # fmt: skip


def read_batches(connection: sqlite3.Connection, sync: str) -> list[StoredRow]:
    """Give every unfinished batch, in order."""
    rows = connection.execute(
        "SELECT ord, span, id, key, records, body, attempts, first_attempt_ms, next_attempt_ms FROM batches"
        " WHERE sync=? ORDER BY ord", (sync,)
    )  # fmt: skip
    return [
        StoredRow(order, id_, _unpack_records(records), body, attempts, first_ms, next_ms, span, key)
        for order, span, id_, key, records, body, attempts, first_ms, next_ms in rows
    ]


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    id_, records, *rest = row
    return DeadLetter(id_, _unpack_records(records), *rest)


def _drop(connection: sqlite3.Connection, sync: str, number: int) -> None:
    connection.execute("DELETE FROM dead_users WHERE sync=? AND letter=?", (sync, number))
    connection.execute("DELETE FROM dead_letters WHERE number=?", (number,))
