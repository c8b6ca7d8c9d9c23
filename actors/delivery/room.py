"""The waiting room: changes of one sync that wait on disk until they may be sent.

It takes what memory must not hold: the *backlog* of a sync whose destination is down or whose audience is paused, where
only what it comes to counts; and what flap control *holds* back. As in memory, a second change of a user undoes the
first, and what only repeats membership gives way to a change. All of a sync's changes wait in one of the two, whichever
was not empty, so that a user's changes never part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from actors.delivery import held
from actors.delivery.backlog import Backlog, highest
from actors.delivery.bounds import CHUNK_CHANGES_MAX
from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change
from actors.delivery.chunks import divide, pack
from actors.delivery.commits import Commits
from actors.delivery.flaps import Flaps
from actors.delivery.ledger import LedgerStore
from actors.delivery.schema import clear_room

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Taken:
    """Changes that are due, oldest first; they leave the room with the batch that holds them.

    `due_ms`: of the next. `undone`: so many more were found to come to nothing.
    """

    changes: Sequence[Change]
    due_ms: int
    undone: int = 0


class RoomStore:
    """The rooms of every sync."""

    def __init__(self, commits: Commits, ledger: LedgerStore) -> None:
        self._commits = commits
        self._ledger = ledger
        #: What follows is touched in the file's thread alone. Numbers count changes in the order they came.
        self._number = 0
        self._seed = 0
        self._backlogs: dict[str, Backlog] = {}
        self._rolled_back = 0

    def load(self, connection: sqlite3.Connection, salt: bytes) -> None:
        """Go on numbering where the file ends; `salt` is its secret."""
        (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM room").fetchone()
        self._number = max(int(number), highest(connection))
        self._seed = int.from_bytes(salt[:8], "little")

    async def count(self, sync: str) -> tuple[int, int]:
        """Give how many changes wait, and when the first is due."""

        def read(connection: sqlite3.Connection) -> tuple[int, int]:
            backlog = self._backlog(sync)
            (count,) = connection.execute("SELECT count(*) FROM room WHERE sync=?", (sync,)).fetchone()
            return count + backlog.waiting(connection), self._due_ms(connection, sync)

        return await self._commits.read(read)

    def park(
        self, sync: str, changes: Sequence[Change], flaps: Flaps | None, now_ms: int,
        also: Callable[[sqlite3.Connection], None],
    ) -> Awaitable[tuple[int, int]]:  # fmt: skip
        """Let changes wait, in order; gives by how many more wait, and when the first is due.

        `also` is written in the same transaction: the cursors that this allows.
        """
        result = [(0, NEVER)]

        def write(connection: sqlite3.Connection) -> None:
            backlog = self._backlog(sync)
            if held.any_held(connection, sync) or (flaps is not None and not backlog.waiting(connection)):
                grown = sum(self._hold(connection, sync, change, flaps, now_ms) for change in changes)
            else:
                grown = sum(
                    self._append(connection, backlog, part, now_ms) for part in divide(changes, CHUNK_CHANGES_MAX)
                )
            also(connection)
            result[0] = (grown, self._due_ms(connection, sync))

        return _after(self._commits.write(write), lambda: result[0])

    def take(self, sync: str, audience: str, limit: int, now_ms: int) -> Awaitable[Taken]:
        """Give the oldest changes that are due, and leave them there: see `leave`. Sees all that was asked before.

        What must be worked out first is, in steps of some ms between which other writes pass.
        """
        result: list[Taken | int] = [0]

        def look(connection: sqlite3.Connection) -> None:
            result[0] = self._look(connection, sync, audience, limit, now_ms)

        async def go_on(done: Awaitable[None]) -> Taken:
            undone = 0
            while True:
                await done
                found = result[0]
                if isinstance(found, Taken):
                    return Taken(found.changes, found.due_ms, undone)
                undone += found
                done = self._commits.write(look)

        # Asked here and now, not when somebody waits: its place in the order of writes is what counts.
        return go_on(self._commits.write(look))

    def leave(self, connection: sqlite3.Connection, sync: str, changes: Sequence[Change]) -> None:
        """Inside a transaction: changes that `take` gave are in batches. What came for their users since stays."""
        if not changes:
            return
        backlog = self._backlog(sync)
        if backlog.waiting(connection):
            backlog.leave(connection, changes)
        else:
            held.let_go(connection, sync, changes)

    async def has_repeats(self, sync: str) -> bool:
        """Whether something waits that only repeats membership."""
        return await self._commits.read(lambda connection: held.has_repeats(connection, sync))

    async def first_at_ms(self, sync: str, audience: str) -> int | None:
        """Give when the change happened whose turn is next; None where there is none.

        Of a backlog it may be one that will come to nothing: it waits like the others until its turn.
        """

        def read(connection: sqlite3.Connection) -> int | None:
            at_ms = held.first_at_ms(connection, sync)
            return self._backlog(sync).first_at_ms(connection, audience) if at_ms is None else at_ms

        return await self._commits.read(read)

    async def release(self, sync: str, now_ms: int) -> int:
        """Let everything be due now; gives when the first change is."""
        result = [NEVER]

        def write(connection: sqlite3.Connection) -> None:
            held.release(connection, sync, now_ms)
            result[0] = self._due_ms(connection, sync)

        await self._commits.write(write)
        return result[0]

    async def clear(self, sync: str) -> None:
        """Forget what waits."""

        def write(connection: sqlite3.Connection) -> None:
            self._backlogs.pop(sync, None)
            clear_room(connection, sync)

        await self._commits.write(write)

    def forget(self, sync: str) -> None:
        """In the file's thread: the rows of a sync are gone."""
        self._backlogs.pop(sync, None)

    # --- in the file's thread ----------------------------------------------------------------------

    def _backlog(self, sync: str) -> Backlog:
        if self._rolled_back != self._commits.rolled_back:
            self._rolled_back = self._commits.rolled_back
            self._backlogs.clear()
        found = self._backlogs.get(sync)
        if found is None:
            found = self._backlogs[sync] = Backlog(sync)
        return found

    def _due_ms(self, connection: sqlite3.Connection, sync: str) -> int:
        return min(held.first_due_ms(connection, sync), self._backlog(sync).due_ms(connection))

    def _look(self, connection: sqlite3.Connection, sync: str, audience: str, limit: int, now_ms: int) -> Taken | int:
        """Give what is due, or how many changes came to nothing in one more step towards it."""
        backlog = self._backlog(sync)
        if not backlog.waiting(connection):
            return Taken(*held.due(connection, sync, audience, limit, now_ms))
        undone = backlog.step(connection)
        if undone is not None:
            return undone
        changes = backlog.oldest(connection, audience, limit)
        if changes is None:
            return 0
        return Taken(changes, backlog.due_ms(connection, changes[-1].seq) if changes else NEVER)

    def _hold(self, connection: sqlite3.Connection, sync: str, change: Change, flaps: Flaps | None, now_ms: int) -> int:
        self._number += 1
        return held.hold(connection, self._ledger, sync, change, self._number, flaps, now_ms)

    def _append(self, connection: sqlite3.Connection, backlog: Backlog, changes: Sequence[Change], now_ms: int) -> int:
        first, self._number = self._number + 1, self._number + len(changes)
        return backlog.append(connection, pack(changes, self._seed), first, now_ms)


async def _after(done: Awaitable[None], result: Callable[[], _Result]) -> _Result:
    await done
    return result()
