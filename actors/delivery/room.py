"""The waiting room: changes of one sync that wait on disk, at most one a user, until they may be sent.

It takes what memory must not hold: the backlog of a sync whose destination is down or whose audience is paused, where
only what it comes to counts; and what flap control holds back. As in memory, a second change of a user undoes the
first, and what only repeats membership gives way to a change.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from actors.delivery.changes import REPEATS, Change, instead
from actors.delivery.commits import Commits
from actors.delivery.flaps import Flaps, due_ms
from actors.delivery.ledger import LedgerStore
from actors.delivery.schema import REPEATED

_COLUMNS: Final = "user, due_ms, number, inside, version, at_ms, n, cause"
_NEVER: Final = 2**63 - 1
_KINDS: Final[tuple[Literal["exited"], Literal["entered"]]] = ("exited", "entered")


@dataclass(frozen=True, slots=True)
class Taken:
    """Changes that are due, oldest first; they leave the room with the batch that holds them. `due_ms`: of the next."""

    changes: Sequence[Change]
    due_ms: int


class RoomStore:
    """The rooms of every sync."""

    def __init__(self, commits: Commits, ledger: LedgerStore) -> None:
        self._commits = commits
        self._ledger = ledger
        #: Numbers rows in the order they came; touched in the file's thread alone.
        self._number = 0

    def load(self, connection: sqlite3.Connection) -> None:
        """Go on numbering where the file ends."""
        self._number = connection.execute("SELECT coalesce(max(number), 0) FROM room").fetchone()[0]

    async def count(self, sync: str) -> tuple[int, int]:
        """Give how many changes wait, and when the first is due."""

        def read(connection: sqlite3.Connection) -> tuple[int, int]:
            (count,) = connection.execute("SELECT count(*) FROM room WHERE sync=?", (sync,)).fetchone()
            return count, _first_due(connection, sync)

        return await self._commits.read(read)

    def park(
        self, sync: str, changes: Sequence[Change], flaps: Flaps | None, now_ms: int,
        also: Callable[[sqlite3.Connection], None],
    ) -> Awaitable[tuple[int, int]]:  # fmt: skip
        """Let changes wait, in order; gives by how many the room has grown, and when its first change is due.

        `also` is written in the same transaction: the cursors that this allows.
        """
        result = [(0, _NEVER)]

        def write(connection: sqlite3.Connection) -> None:
            grown = sum(self._fold(connection, sync, change, flaps, now_ms) for change in changes)
            also(connection)
            result[0] = (grown, _first_due(connection, sync))

        return _after(self._commits.write(write), lambda: result[0])

    def take(self, sync: str, audience: str, limit: int, now_ms: int) -> Awaitable[Taken]:
        """Give the oldest changes that are due, and leave them there: see `leave`. Sees all that was asked before."""
        result = [Taken((), _NEVER)]

        def look(connection: sqlite3.Connection) -> None:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM room WHERE sync=? AND due_ms<=? ORDER BY due_ms, number LIMIT ?",
                (sync, now_ms, limit),
            ).fetchall()
            changes = tuple(_change(row, audience) for row in rows)
            following = connection.execute(
                "SELECT due_ms FROM room WHERE sync=? ORDER BY due_ms, number LIMIT 1 OFFSET ?", (sync, len(rows))
            ).fetchone()
            result[0] = Taken(changes, _NEVER if following is None else following[0])

        return _after(self._commits.write(look), lambda: result[0])

    def leave(self, connection: sqlite3.Connection, sync: str, changes: Iterable[Change]) -> None:
        """Inside a transaction: changes that `take` gave are in batches. What came for their users since stays."""
        connection.executemany(
            "DELETE FROM room WHERE sync=? AND user=? AND number=?",
            [(sync, change.user_id, change.seq) for change in changes],
        )

    async def has_repeats(self, sync: str) -> bool:
        """Whether something waits that only repeats membership."""
        row = await self._commits.read(
            lambda connection: connection.execute(
                f"SELECT EXISTS (SELECT 1 FROM room WHERE sync=? AND {REPEATED})", (sync,)
            ).fetchone()
        )
        return bool(row[0])

    async def first_at_ms(self, sync: str) -> int | None:
        """Give when the change happened that is due first; None where none waits."""
        row = await self._commits.read(
            lambda connection: connection.execute(
                "SELECT at_ms FROM room WHERE sync=? ORDER BY due_ms, number LIMIT 1", (sync,)
            ).fetchone()
        )
        return None if row is None else int(row[0])

    async def release(self, sync: str, now_ms: int) -> int:
        """Let everything be due now; gives when the first change is."""
        result = [_NEVER]

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE room SET due_ms=? WHERE sync=? AND due_ms>?", (now_ms, sync, now_ms))
            result[0] = _first_due(connection, sync)

        await self._commits.write(write)
        return result[0]

    async def clear(self, sync: str) -> None:
        """Forget what waits."""
        await self._commits.write(lambda connection: _clear(connection, sync))

    def _fold(
        self, connection: sqlite3.Connection, sync: str, change: Change, flaps: Flaps | None, now_ms: int
    ) -> int:
        """Let a change wait, or undo what waits of its user; gives by how much the room grows."""
        user = change.user_id
        waiting = connection.execute("SELECT cause FROM room WHERE sync=? AND user=?", (sync, user)).fetchone()
        if waiting is not None:
            if change.cause in REPEATS:
                return 0
            connection.execute("DELETE FROM room WHERE sync=? AND user=?", (sync, user))
            left = instead(change, waiting[0])
            if left is None:
                return -1
            change = left
        told = self._ledger.one(connection, sync, user) if flaps is not None else None
        self._number += 1
        connection.execute(
            "INSERT INTO room VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sync, user, due_ms(flaps, change, told, now_ms), self._number, _KINDS.index(change.kind),
             change.audience_version, change.at_ms, change.n, change.cause),
        )  # fmt: skip
        return 0 if waiting is not None else 1


def _change(row: tuple[Any, ...], audience: str) -> Change:
    user, _, number, inside, version, at_ms, n, cause = row
    return Change(-1, number, audience, version, user, _KINDS[inside], at_ms, n, cause)


def _first_due(connection: sqlite3.Connection, sync: str) -> int:
    row = connection.execute("SELECT min(due_ms) FROM room WHERE sync=?", (sync,)).fetchone()
    return _NEVER if row[0] is None else int(row[0])


def _clear(connection: sqlite3.Connection, sync: str) -> None:
    connection.execute("DELETE FROM room WHERE sync=?", (sync,))


async def _after(done: Awaitable[None], result: Callable[[], Any]) -> Any:
    await done
    return result()
