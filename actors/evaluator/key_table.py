"""Who is in which row: the users of one machine by a 128-bit hash of (parent, key).

Serves two: readers of the membership files, who have the table mapped, and a publication, which brings the users of
two machines together without looking at a key. A hash is seeded by a number that the evaluator draws at its start, so
that no sender can choose two keys that share one; by chance two do with probability 2^-128.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from actors.evaluator.kernels.key_table import enter_hashes, find_rows
from cluster.arrays import growing_zeros, grown_in_place

I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]

#: Words of an entry: the hash's halves, row + 1 (0: empty).
ENTRY_WORDS: Final = 3
#: Keys hashed at once, about 1 ms: nobody else runs Python meanwhile.
KEYS_A_STEP: Final = 2_048
#: Keys entered in a table beside the work in one step: some ms.
KEYS_ENTERED: Final = 1 << 14
_ROWS_MIN: Final = 1_024


class Users(Protocol):
    """Somebody's users, named by slot."""

    def keys_between(self, first: int, stop: int) -> tuple[list[bytes], NDArray[np.int16]]:
        """Give the keys and parent indexes of slots first..stop."""
        ...


def parent_seed(parent: str, salt: int) -> int:
    """Give the seed of a parent model's keys: the same whatever other parents there are, and whatever order."""
    return int(xxhash.xxh3_64_intdigest(parent.encode("utf-8", "surrogatepass"), salt)) >> 1


def key_hash(seed: int, key: str) -> int:
    """Give the 128-bit identity of a user of the parent with this seed."""
    return int(xxhash.xxh3_128_intdigest(key.encode("utf-8", "surrogatepass"), seed))


def table_entries(rows: int) -> int:
    """Give the size of a table for so many rows: a power of two, at most half full."""
    return 1 << (2 * max(rows, _ROWS_MIN)).bit_length()


def _go_on() -> None:
    """Pause for nobody."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The mapped files of one generation, before or while it is the current one.

    `table` holds the first `entered` rows of `keys` where that is given.
    """

    number: int
    rows: NDArray[np.int64]
    table: NDArray[np.uint64]
    keys: KeyTable | None = None
    entered: int = 0


class KeyTable:
    """Row -> hash and hash -> row. One thread adds; others may read `hashes` and `find` rows below `users`.

    `seeds[i]` is the seed of parent index i. It begins in memory, and moves to the mapped file of a generation.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = tuple(seeds)
        self._table = _new_table(0)
        self._in_memory = True
        self._hashes = growing_zeros((_ROWS_MIN, 2), np.uint64)
        #: Rows entered.
        self.users = 0

    def add(self, source: Users, users: int, pause: Callable[[], None] = _go_on) -> None:
        """Enter the source's slots up to `users`; the table must have room. 0.4 µs each, in steps with a pause."""
        while self.users < users:
            stop = min(users, self.users + KEYS_A_STEP)
            keys, parents = source.keys_between(self.users, stop)
            self._add(_hashes(keys, parents, self._seeds), stop)
            pause()

    def _add(self, hashes: U64, stop: int) -> None:
        first = self.users
        if stop > len(self._hashes):
            self._grow(max(stop, 2 * len(self._hashes)))
        self._hashes[first:stop] = hashes
        _enter(self._table, hashes, first)
        self.users = stop

    def _grow(self, rows: int) -> None:
        grown = grown_in_place(self._hashes, rows)
        if grown is None:
            grown = growing_zeros((rows, 2), np.uint64)
            grown[: self.users] = self._hashes[: self.users]
        # Replaced whole: who reads beside this has the old array or the new, with all rows below `users` in both.
        self._hashes = grown

    def enter_ahead(self, table: U64, pause: Callable[[], None]) -> int:
        """Enter the rows so far in an empty table that may be moved to, and give how many; from any thread."""
        rows = self.users
        for start in range(0, rows, KEYS_ENTERED):
            stop = min(rows, start + KEYS_ENTERED)
            _enter(table, self._hashes[start:stop], start)
            pause()
        return rows

    def move_to(self, table: U64, entered: int = 0) -> None:
        """Go on in a table in a file ([entries, 3]) in place of the present one; 0.1 µs a user.

        It holds the first `entered` rows, and no others.
        """
        self._enter_all(table, entered)
        self._in_memory = False

    def make_room(self, users: int) -> None:
        """Have room for the hashes of so many users at once: growing moves all there are."""
        if users > len(self._hashes):
            self._grow(users)

    def keep_in_memory(self, users: int) -> None:
        """Go on in memory, in no file, with room for so many users."""
        if not self._in_memory or table_entries(users) > len(self._table):
            self._enter_all(_new_table(users))
            self._in_memory = True

    def _enter_all(self, table: U64, entered: int = 0) -> None:
        _enter(table, self._hashes[entered : self.users], entered)
        self._table = table

    def hashes(self, first: int, stop: int) -> U64:
        """Give the hashes of rows first..stop, stop at most `users`: [n, 2]."""
        return self._hashes[first:stop]

    def find(self, hashes: U64) -> I32:
        """Give the row of each hash, -1 where it has none; 0.1 µs each."""
        rows: I32 = find_rows(self._table, hashes)
        return rows


class Correspondence:
    """Which slot of a new machine each slot of an old one is, kept up while both go on getting users.

    A user may come to either first, so each round looks the old machine's new users up in the new machine, and the
    other way round.
    """

    def __init__(self) -> None:
        self._old: KeyTable | None = None
        #: As the last call gave them.
        self.slots = np.zeros(0, np.int32)
        self._old_users = 0
        self._new_users = 0

    def extend(self, old: KeyTable, new: KeyTable) -> I32:
        """Give the new slot of each old slot, -1 where there is none; O(users that came since the last call).

        Another `old` than last time (its users moved together): all of them.
        """
        if old is not self._old:
            self._old, self._old_users, self._new_users = old, 0, 0
            self.slots = np.zeros(0, np.int32)
        old_users, new_users = old.users, new.users
        fresh = new.find(old.hashes(self._old_users, old_users))
        self.slots = np.concatenate([self.slots, fresh])
        found = old.find(new.hashes(self._new_users, new_users))
        # Rows that came to `old` after it was counted are the next round's.
        known = (found >= 0) & (found < old_users)
        self.slots[found[known]] = np.arange(self._new_users, new_users, dtype=np.int32)[known]
        self._old_users, self._new_users = old_users, new_users
        return self.slots


def _new_table(rows: int) -> U64:
    return np.zeros((table_entries(rows), ENTRY_WORDS), np.uint64)


def _hashes(keys: list[bytes], parents: NDArray[np.int16], seeds: Sequence[int]) -> U64:
    digest = xxhash.xxh3_128_digest
    if len(seeds) == 1:
        seed = seeds[0]
        joined = b"".join([digest(key, seed) for key in keys])
    else:
        joined = b"".join([digest(key, seeds[parent]) for key, parent in zip(keys, parents.tolist(), strict=True)])
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def _enter(table: U64, hashes: U64, first: int) -> None:
    """Enter hashes as rows first..: all of the hashes, then the rows (a half-written entry matches nobody)."""
    places = np.zeros(len(hashes), np.int64)
    enter_hashes(table, hashes, places)
    table[places, 2] = np.arange(first + 1, first + len(hashes) + 1, dtype=np.uint64)
