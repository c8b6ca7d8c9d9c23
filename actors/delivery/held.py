"""Changes that flap control holds back: a table by user, at most one each, in the order in which they are due."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, Literal

from actors.delivery.breaker import NEVER
from actors.delivery.changes import REPEATS, Change, instead
from actors.delivery.flaps import Flaps, due_ms
from actors.delivery.ledger import LedgerStore
from actors.delivery.schema import REPEATED

_COLUMNS: Final = "user, due_ms, number, inside, version, at_ms, n, cause"
_KINDS: Final[tuple[Literal["exited"], Literal["entered"]]] = ("exited", "entered")


def hold(
    connection: sqlite3.Connection, ledger: LedgerStore, sync: str, change: Change, number: int, flaps: Flaps | None,
    now_ms: int,
) -> int:  # fmt: skip
    """Let a change wait under `number`, or undo what waits of its user; gives by how many more wait."""
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
    told = ledger.one(connection, sync, user) if flaps is not None else None
    connection.execute(
        "INSERT INTO room VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (sync, user, due_ms(flaps, change, told, now_ms), number, _KINDS.index(change.kind), change.audience_version,
         change.at_ms, change.n, change.cause),
    )  # fmt: skip
    return 0 if waiting is not None else 1


def due(connection: sqlite3.Connection, sync: str, audience: str, limit: int, now_ms: int) -> tuple[list[Change], int]:
    """Give the changes that are due, first come first, and when the next of the others is."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM room WHERE sync=? AND due_ms<=? ORDER BY due_ms, number LIMIT ?", (sync, now_ms, limit)
    ).fetchall()
    following = connection.execute(
        "SELECT due_ms FROM room WHERE sync=? ORDER BY due_ms, number LIMIT 1 OFFSET ?", (sync, len(rows))
    ).fetchone()
    return [_change(row, audience) for row in rows], NEVER if following is None else following[0]


def let_go(connection: sqlite3.Connection, sync: str, changes: Iterable[Change]) -> None:
    """Forget changes that `due` gave; what came for their users since stays."""
    connection.executemany(
        "DELETE FROM room WHERE sync=? AND user=? AND number=?",
        [(sync, change.user_id, change.seq) for change in changes],
    )


def any_held(connection: sqlite3.Connection, sync: str) -> bool:
    """Whether anything is held."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM room WHERE sync=?)", (sync,)).fetchone()[0])


def has_repeats(connection: sqlite3.Connection, sync: str) -> bool:
    """Whether something waits that only repeats membership."""
    query = (
        f"SELECT EXISTS (SELECT 1 FROM room WHERE sync=? AND {REPEATED})"
        " OR EXISTS (SELECT 1 FROM room_chunks WHERE sync=? AND codes IS NOT NULL)"
    )
    return bool(connection.execute(query, (sync, sync)).fetchone()[0])


def first_due_ms(connection: sqlite3.Connection, sync: str) -> int:
    """Give when the first change is due, NEVER where none is held."""
    row = connection.execute("SELECT min(due_ms) FROM room WHERE sync=?", (sync,)).fetchone()
    return NEVER if row[0] is None else int(row[0])


def first_at_ms(connection: sqlite3.Connection, sync: str) -> int | None:
    """Give when the change happened that is due first; None where none is held."""
    query = "SELECT at_ms FROM room WHERE sync=? ORDER BY due_ms, number LIMIT 1"
    row = connection.execute(query, (sync,)).fetchone()
    return None if row is None else int(row[0])


def release(connection: sqlite3.Connection, sync: str, now_ms: int) -> None:
    """Let everything be due now."""
    connection.execute("UPDATE room SET due_ms=? WHERE sync=? AND due_ms>?", (now_ms, sync, now_ms))


def _change(row: tuple[Any, ...], audience: str) -> Change:
    user, _, number, inside, version, at_ms, n, cause = row
    return Change(-1, number, audience, version, user, _KINDS[inside], at_ms, n, cause)
