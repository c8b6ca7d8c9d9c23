"""The backlog of one sync on disk: appended to, worked off from the front, and never looked into for one user.

Changes lie in chunks, in the order they came. Writing and deleting touch pages side by side only; a table by user would
touch a page for nearly every change, and be the slower the longer it is. What undoes what is found when its turn comes:
the users of the oldest changes (a `Window`) are held against everything behind them, in steps of a few ms. Until then
both changes count as waiting. What comes to nothing is marked in its chunk, both changes in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from actors.delivery.bounds import CHUNK_CHANGES_MAX, WINDOW_CHANGES
from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change
from actors.delivery.chunks import (
    Packed,
    from_bits,
    from_codes,
    keys_of,
    numbers_of,
    repeats,
    to_bits,
    to_codes,
    unpack,
    with_code,
)
from actors.delivery.window import Codes, Folded, Keys, Numbers, Window

#: Chunks that one step reads the hashes of, less where so many changes come to nothing; and chunks that one batch comes
#: from: 5 ms each, which other syncs wait for.
_CHUNKS_A_STEP: Final = 64
_UNDONE_A_STEP: Final = 8_192
_CHUNKS_A_BATCH: Final = 8
_CHUNK_OF: Final = (
    "SELECT first, count, dead, codes FROM room_chunks WHERE sync=? AND first<=? ORDER BY first DESC LIMIT 1"
)
_HASHES: Final = "c.first, c.count, c.codes, c.dead, r.keys FROM room_chunks AS c JOIN room_rows AS r ON r.id=c.first"


class Backlog:
    """Everything happens inside a transaction. Where that is rolled back, what this holds in memory is void."""

    def __init__(self, sync: str) -> None:
        self._sync = sync
        self._window: Window | None = None
        #: The chunk that was read last: several batches come out of one.
        self._unpacked: tuple[int, Sequence[Change]] = (0, ())

    def waiting(self, connection: sqlite3.Connection) -> int:
        """Give how many changes wait, those included that will come to nothing."""
        return self._standing(connection)[1]

    def append(self, connection: sqlite3.Connection, packed: Packed, first: int, now_ms: int) -> int:
        """Let changes wait behind all others, numbered from `first`; gives by how many more wait."""
        connection.execute(
            "INSERT INTO room_rows VALUES (?, ?, ?, ?)",
            (first, packed.keys.tobytes(), packed.checks.tobytes(), packed.payload),
        )
        connection.execute(
            "INSERT INTO room_chunks VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (self._sync, first, packed.count, packed.count, now_ms, packed.at_ms, to_codes(packed.codes)),
        )
        connection.execute(
            "INSERT INTO room_backlogs VALUES (?, 0, ?) ON CONFLICT (sync) DO UPDATE SET waiting=waiting+?",
            (self._sync, packed.count, packed.count),
        )
        window = self._window
        if window is None or not window.complete:
            return packed.count
        numbers, taken = numbers_of(first, packed.count), self._standing(connection)[0]
        folded = window.fold(numbers, packed.keys, lambda: packed.checks, packed.codes, taken)
        window.position = int(numbers[-1])
        return packed.count - self._mark(connection, [folded])

    def step(self, connection: sqlite3.Connection) -> int | None:
        """Work on what must be known before the next changes can go; gives how many came to nothing.

        None: nothing is left to be worked on, or nothing waits.
        """
        taken, waiting = self._standing(connection)
        if not waiting:
            return None
        window = self._window
        if window is None or (window.complete and window.through <= taken):
            window = self._window = Window()
        if window.complete:
            return None
        return self._fold(connection, window, taken) if window.closed else self._gather(connection, window, taken)

    def oldest(self, connection: sqlite3.Connection, audience: str, limit: int) -> list[Change] | None:
        """Give up to `limit` of the changes that came first, once `step` gave None; they stay.

        None: what the window held has come to nothing, and the next window is to be worked on.
        """
        window, (taken, waiting) = self._window, self._standing(connection)
        if window is None or not waiting:
            return []
        found: list[Change] = []
        rows = connection.execute(
            "SELECT first, count, codes, dead FROM room_chunks WHERE sync=? AND first<=? AND alive>0 ORDER BY first",
            (self._sync, window.through),
        )
        for read, (first, count, blob, dead) in enumerate(rows, 1):
            gone = from_bits(dead, count)
            gone[: max(0, taken - first + 1)] = True
            changes = self._unpack(connection, first, audience) if not gone.all() else []
            chosen = np.flatnonzero(~gone).tolist()[: limit - len(found)]
            if blob is None:
                found += [changes[index] for index in chosen]
            else:
                codes = from_codes(blob, count).tolist()
                found += [with_code(changes[index], codes[index]) for index in chosen]
            if len(found) == limit or (found and read >= _CHUNKS_A_BATCH):
                break
        if not found:
            self._pass(connection, window.through, 0)
            return None
        return found

    def leave(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
        """Forget changes that `oldest` gave, and what came to nothing before them; nothing where they have left."""
        through = changes[-1].seq
        if through > self._standing(connection)[0]:
            self._pass(connection, through, len(changes))

    def due_ms(self, connection: sqlite3.Connection, after: int = 0) -> int:
        """Give since when the oldest change numbered above `after` waits here, NEVER where there is none."""
        row = connection.execute(
            "SELECT parked_ms FROM room_chunks WHERE sync=? AND alive>0 AND first+count-1>? ORDER BY first LIMIT 1",
            (self._sync, max(after, self._standing(connection)[0])),
        ).fetchone()
        return NEVER if row is None else int(row[0])

    def first_at_ms(self, connection: sqlite3.Connection, audience: str) -> int | None:
        """Give when the oldest of the changes happened that came first, None where all only repeat membership."""
        taken, _ = self._standing(connection)
        rows = connection.execute(
            "SELECT first, count, dead, codes, at_ms FROM room_chunks WHERE sync=? AND alive>0 ORDER BY first",
            (self._sync,),
        )
        for first, count, dead, codes, at_ms in rows:
            if first > taken and dead is None and codes is None:
                return int(at_ms)
            gone = from_bits(dead, count) | repeats(from_codes(codes, count))
            gone[: max(0, taken - first + 1)] = True
            left = np.flatnonzero(~gone).tolist()
            if left:
                changes = self._unpack(connection, first, audience)
                return min(changes[index].at_ms for index in left)
        return None

    # --- what comes to nothing ---------------------------------------------------------------------

    def _gather(self, connection: sqlite3.Connection, window: Window, taken: int) -> int:
        """Take more of the oldest changes into the window."""
        rows = connection.execute(
            f"SELECT r.checks, {_HASHES} WHERE c.sync=? AND c.first>? ORDER BY c.first LIMIT ?",
            (self._sync, window.position, _CHUNKS_A_STEP),
        ).fetchall()
        for checks, first, count, _, dead, keys in rows:
            left = ~from_bits(dead, count) & (numbers_of(first, count) > taken)
            window.gather(keys_of(keys)[left], keys_of(checks)[left], first + count - 1)
        if len(rows) < _CHUNKS_A_STEP or window.rows >= WINDOW_CHANGES:
            window.close()
        return 0

    def _fold(self, connection: sqlite3.Connection, window: Window, taken: int) -> int:
        """Hold some more chunks against the window."""
        rows = connection.execute(
            f"SELECT {_HASHES} WHERE c.sync=? AND c.first>? ORDER BY c.first LIMIT ?",
            (self._sync, window.position, _CHUNKS_A_STEP),
        )
        folded: list[Folded] = []
        undone = 0
        for first, count, codes, gone, blob in rows:
            numbers, keys = numbers_of(first, count), keys_of(blob)
            left = (numbers > taken) & ~from_bits(gone, count)

            def checks(first: int = first, left: Any = left) -> Keys:
                query = "SELECT checks FROM room_rows WHERE id=?"
                found: Keys = keys_of(connection.execute(query, (first,)).fetchone()[0])[left]
                return found

            folded.append(window.fold(numbers[left], keys[left], checks, from_codes(codes, count)[left], taken))
            window.position = first + count - 1
            undone += len(folded[-1].dead)
            if undone >= _UNDONE_A_STEP:
                break
        else:
            window.complete = len(folded) < _CHUNKS_A_STEP
        rows.close()
        return self._mark(connection, folded)

    def _mark(self, connection: sqlite3.Connection, folded: Sequence[Folded]) -> int:
        """Mark what came to nothing and what has another code; gives how many changes came to nothing."""
        dead = np.sort(_joined([each.dead for each in folded], np.int64))
        recoded, codes_left = _newest(folded)
        touched = np.union1d(dead, recoded)
        at = 0
        while at < len(touched):
            first, count, bits, blob = connection.execute(_CHUNK_OF, (self._sync, int(touched[at]))).fetchone()
            gone = dead[slice(*np.searchsorted(dead, (first, first + count)))] - first
            again = slice(*np.searchsorted(recoded, (first, first + count)))
            flags, codes = from_bits(bits, count), from_codes(blob, count).copy()
            flags[gone] = True
            codes[recoded[again] - first] = codes_left[again]
            connection.execute(
                "UPDATE room_chunks SET dead=?, codes=?, alive=alive-? WHERE sync=? AND first=?",
                (to_bits(flags), to_codes(codes), len(gone), self._sync, first),
            )
            at = int(np.searchsorted(touched, first + count))
        if len(dead):
            self._pass(connection, self._standing(connection)[0], len(dead))
        return len(dead)

    # --- rows --------------------------------------------------------------------------------------

    def _standing(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Give up to which number all have left, and how many wait."""
        row = connection.execute("SELECT taken, waiting FROM room_backlogs WHERE sync=?", (self._sync,)).fetchone()
        return (0, 0) if row is None else (row[0], row[1])

    def _pass(self, connection: sqlite3.Connection, through: int, count: int) -> None:
        """Let everything up to a number leave; `count` changes wait no more."""
        connection.execute(
            "UPDATE room_backlogs SET taken=?, waiting=waiting-? WHERE sync=?", (through, count, self._sync)
        )
        if not self.waiting(connection):
            # What is left has come to nothing.
            through = NEVER
            self._window = None
        while True:
            row = connection.execute(
                "SELECT first, count FROM room_chunks WHERE sync=? ORDER BY first LIMIT 1", (self._sync,)
            ).fetchone()
            if row is None or row[0] + row[1] - 1 > through:
                return
            connection.execute("DELETE FROM room_chunks WHERE sync=? AND first=?", (self._sync, row[0]))
            connection.execute("DELETE FROM room_rows WHERE id=?", (row[0],))

    def _unpack(self, connection: sqlite3.Connection, first: int, audience: str) -> Sequence[Change]:
        if self._unpacked[0] != first:
            (payload,) = connection.execute("SELECT payload FROM room_rows WHERE id=?", (first,)).fetchone()
            self._unpacked = (first, unpack(payload, first, audience))
        return self._unpacked[1]


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts])


def _newest(folded: Sequence[Folded]) -> tuple[Numbers, Codes]:
    """Give the numbers that have another code, ascending, and the code that each was given last."""
    numbers = _joined([each.recoded for each in folded], np.int64)[::-1]
    codes = _joined([each.codes for each in folded], np.uint8)[::-1]
    found, places = np.unique(numbers, return_index=True)
    return found, codes[places]


def highest(connection: sqlite3.Connection) -> int:
    """Give a number that is not below any that a backlog has given."""
    (chunk,) = connection.execute("SELECT coalesce(max(id), 0) FROM room_rows").fetchone()
    (taken,) = connection.execute("SELECT coalesce(max(taken), 0) FROM room_backlogs").fetchone()
    return max(int(chunk) + CHUNK_CHANGES_MAX, int(taken))
