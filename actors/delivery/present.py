"""Whom a resync must not take for a stray: hashes of the names of everybody told of since it began, on disk.

Kept for syncs whose destination lists its members (`destinations.listing`), while a resync is under way.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final

from actors.delivery.commits import Commits
from destinations.listing import Listing

#: Two of 10 million names share a hash with a chance of 1 in 10^24.
_HASH_BYTES: Final = 16
_ASKED_AT_ONCE: Final = 500


class PresentStore:
    """The present members of every sync that is being resynced; rows bear the resync, by when it began."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    def begin(self, connection: sqlite3.Connection, sync: str, resync_ms: int, form: str) -> None:
        """Inside the transaction that begins a resync: forget earlier ones; from now on everybody told of is noted."""
        self.forget(connection, sync)
        connection.execute("INSERT INTO present VALUES (?, ?, ?)", (sync, resync_ms, _mark(form)))

    def forget(self, connection: sqlite3.Connection, sync: str) -> None:
        """Inside a transaction: no resync is under way any more."""
        connection.execute("DELETE FROM present WHERE sync=?", (sync,))

    async def whole(self, sync: str, resync_ms: int, form: str) -> bool:
        """Whether everybody told of since the resync began was noted, under names of this form."""
        return bool(await self._known(sync, resync_ms, (_mark(form),)))

    def note(
        self, sync: str, resync_ms: int, listing: Listing, added: Iterable[str], removed: Iterable[str] = ()
    ) -> Awaitable[None]:
        """Note names that are told of; who is removed is not present any more."""
        come = [(sync, resync_ms, _hash(listing.form, name)) for name in added]
        gone = [(sync, resync_ms, _hash(listing.form, name)) for name in removed]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM present WHERE sync=? AND resync_ms=? AND name=?", gone)
            connection.executemany("INSERT OR IGNORE INTO present VALUES (?, ?, ?)", come)

        return self._commits.write(write)

    async def count(self, sync: str, resync_ms: int) -> int:
        """Give how many names are noted."""
        (count,) = await self._commits.read(
            lambda connection: connection.execute(
                "SELECT count(*) FROM present WHERE sync=? AND resync_ms=?", (sync, resync_ms)
            ).fetchone()
        )
        return int(count) - 1  # the mark

    async def strays(self, sync: str, resync_ms: int, form: str, names: Sequence[str]) -> list[str]:
        """Give those of the names that are nobody's."""
        hashes = [_hash(form, name) for name in names]
        known = await self._known(sync, resync_ms, hashes)
        return [name for name, hashed in zip(names, hashes, strict=True) if hashed not in known]

    async def _known(self, sync: str, resync_ms: int, names: Sequence[bytes]) -> set[bytes]:
        def read(connection: sqlite3.Connection) -> set[bytes]:
            found: set[bytes] = set()
            for start in range(0, len(names), _ASKED_AT_ONCE):
                some = names[start : start + _ASKED_AT_ONCE]
                places = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT name FROM present WHERE sync=? AND resync_ms=? AND name IN ({places})",
                    (sync, resync_ms, *some),
                )
                found.update(bytes(name) for (name,) in rows)
            return found

        return await self._commits.read(read)


def _hash(form: str, name: str) -> bytes:
    return hashlib.blake2b(f"{form}\0{name}".encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


def _mark(form: str) -> bytes:
    """Stands among the hashes for a resync that notes names of this form from its beginning; no name's hash."""
    return hashlib.blake2b(form.encode(), digest_size=_HASH_BYTES, person=b"begun").digest()
