"""What each sync told of each user, on disk: `actors.delivery.recording.Told`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from actors.delivery.changes import Told
from actors.delivery.commits import Commits

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode

_COLUMNS: Final = "user, inside, version, at_ms, n, identifiers, seen_ms"
_NOTHING_WAITS: Final = "NOT EXISTS (SELECT 1 FROM room WHERE room.sync=ledger.sync AND room.user=ledger.user)"
#: Users asked for in one statement: SQLite's limit of variables is far above, its plan stays the same.
_ASKED_AT_ONCE: Final = 500


class LedgerStore:
    """The ledgers of every sync that remembers."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def get(self, sync: str, users: Sequence[str]) -> dict[str, Told]:
        """Give what is durable of users; who is not there was never told of."""

        def read(connection: sqlite3.Connection) -> dict[str, Told]:
            found: dict[str, Told] = {}
            for start in range(0, len(users), _ASKED_AT_ONCE):
                some = users[start : start + _ASKED_AT_ONCE]
                places = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT {_COLUMNS} FROM ledger WHERE sync=? AND user IN ({places})", (sync, *some)
                )
                found.update(map(_row, rows))
            return found

        return await self._commits.read(read)

    def one(self, connection: sqlite3.Connection, sync: str, user: str) -> Told | None:
        """Inside a transaction: give what was told of a user."""
        row = connection.execute(f"SELECT {_COLUMNS} FROM ledger WHERE sync=? AND user=?", (sync, user)).fetchone()
        return None if row is None else _row(row)[1]

    async def members(
        self, sync: str, after: str, limit: int, *, unseen_since_ms: int | None = None
    ) -> list[tuple[str, Told]]:
        """A page of those who are in, by user, after `after`.

        With `unseen_since_ms` only who was not told of since, and of whom nothing waits.
        """
        unseen = "" if unseen_since_ms is None else f"AND seen_ms < {int(unseen_since_ms)} AND {_NOTHING_WAITS}"

        def read(connection: sqlite3.Connection) -> list[tuple[str, Told]]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM ledger WHERE sync=? AND user>? AND inside=1 {unseen} ORDER BY user LIMIT ?",
                (sync, after, limit),
            )
            return [_row(row) for row in rows]

        return await self._commits.read(read)

    def put(
        self, connection: sqlite3.Connection, sync: str, told: Mapping[str, Told], *, keeps_left: bool = False
    ) -> None:
        """Inside a transaction: remember; who left is only remembered with `keeps_left`."""
        if not keeps_left:
            left = [(sync, user) for user, one in told.items() if not one.inside]
            connection.executemany("DELETE FROM ledger WHERE sync=? AND user=?", left)
        connection.executemany(
            "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (sync, user, int(one.inside), one.version, one.at_ms, one.n, _pack(one.identifiers), one.seen_ms)
                for user, one in told.items()
                if one.inside or keeps_left
            ],
        )

    async def prune(self, sync: str, before_ms: int) -> None:
        """Forget who left before then."""
        await self._commits.write(lambda connection: _prune(connection, sync, before_ms))

    async def forget(self, sync: str) -> None:
        """Delete a sync's ledger."""
        await self._commits.write(lambda connection: _delete(connection, sync))


def _delete(connection: sqlite3.Connection, sync: str) -> None:
    connection.execute("DELETE FROM ledger WHERE sync=?", (sync,))


def _prune(connection: sqlite3.Connection, sync: str, before_ms: int) -> None:
    connection.execute("DELETE FROM ledger WHERE sync=? AND inside=0 AND at_ms<?", (sync, before_ms))


def _row(row: tuple[Any, ...]) -> tuple[str, Told]:
    user, inside, version, at_ms, n, identifiers, seen_ms = row
    return user, Told(bool(inside), version, at_ms, n, _unpack(identifiers), seen_ms)
