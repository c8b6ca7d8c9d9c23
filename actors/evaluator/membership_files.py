"""Membership in mapped files: the evaluator writes, edge processes of the same node read without asking.

A folder holds `current` (one small mapped file: which generation holds, as of when, and since which start of the
machine: what another start left may be half on the disk and counts as nothing) and, per generation, `rows-G` (an int64
row a user: due time, then the membership words), `table-G` (an exact-enough hash table: 128-bit hash of (parent, key)
-> row) and `names-G.json` (which audience is which bit). Readers map a generation once and look at `current` on every
read; a new generation (growth, new definitions, a restart) makes them map again.

One writer has the folder: who opens it puts a `current` of its own in the place of the one before, and says so in that,
where a process that was stopped and goes on may still write. It does so to nobody, and to files that are not named like
its successor's.

Order of memory. One process writes. A user's row changes in three steps, each a call of its own into numpy: due :=
ASK, words, due := its new value. Between the calls the interpreter runs (and gives up and takes the GIL, a full
barrier), so no compiler moves a store across them, and x86 and the barrier keep their order for others. A reader
takes due, one word, due again: if they differ, or the due time has passed, it asks the evaluator. One word is read
whole, so the answer is one that held while it was read.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.evaluator.key_table import ENTRY_WORDS, Generation, KeyTable, Users, key_hash, parent_seed, table_entries
from cluster.errors import StorageFull
from cluster.limits import RETRY_AFTER_MS

#: Words of `current`: generation (0: ask), clock of the last publication, which start of the machine wrote it, whether
#: another writer has the folder, and above which number the generations of this one are.
GENERATION: Final = 0
CLOCK: Final = 1
BOOT: Final = 2
SUCCEEDED: Final = 3
FIRST: Final = 4
#: Generations that one writer makes at most: those of two have different numbers.
_GENERATIONS_MAX: Final = 1 << 20
_CURRENT_BYTES: Final = 4096
#: A due time that says: ask.
ASK: Final = -1
_MASK64: Final = 2**64 - 1
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: Remembered keys of a reader; beyond, it starts anew.
_KEYS_CACHED_MAX: Final = 200_000
_ROWS_MIN: Final = 1_024
#: Words of a new file written at once: 2 MiB, some ms where its pages are to be made.
_WORDS_A_STEP: Final = 1 << 18
#: Rows written at a time where they need not be at once: some ms.
_ROWS_A_FILL: Final = 1 << 15
_NO_SLOTS: Final = np.zeros(0, np.int32)


class Names(msgspec.Struct, frozen=True):
    """What the bits of a generation mean. `audiences`: id -> [bit, its parent's hash seed, version]."""

    definitions_version: int
    parents: list[str]
    audiences: dict[str, tuple[int, int, int]]
    stride: int
    capacity: int
    table_size: int


class MembershipRows(Users, Protocol):
    """What the writer publishes: a machine's users, named by slot."""

    def membership_rows(self, slots: NDArray[np.int32] | None) -> NDArray[np.int64]:
        """Give [due, membership words...] of the slots (None: all users)."""
        ...


class MembershipWriter:
    """The single writer of a folder. Call it from the thread that evaluates, but for `lay_out` and `discard`.

    `salt` seeds the hashes of keys: a number that senders do not know.
    """

    def __init__(self, folder: Path, *, salt: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._salt = salt
        self._current, self._first = self._succeed()
        self._numbers = itertools.count(self._first + 1)
        #: Generations laid out and not current yet.
        self._coming: set[int] = set()
        self._rows: NDArray[np.int64] = np.zeros((0, 1), np.int64)
        #: The rows, from first to stop, that are not written yet: what a file begins with says ask.
        self._to_fill = (0, 0)
        #: The users of the generation, also while there is no room for its files.
        self.keys = KeyTable(())

    def _succeed(self) -> tuple[NDArray[np.int64], int]:
        """Put a `current` of our own in place, which shows what the one before did; gives it and the first number.

        That is above every file there is, and every one that the writer before may still make. Raises StorageFull.
        """
        path, beside = self._folder / "current", self._folder / "current.tmp"
        before = _map(path, _CURRENT_BYTES) if path.exists() else None
        beside.unlink(missing_ok=True)
        try:
            current = _map(beside, _CURRENT_BYTES)
        except OSError as error:
            raise self._full(error) from error
        if before is not None:
            current[:] = before
        if current[BOOT] != boot():
            current[GENERATION], current[BOOT] = 0, boot()
        newest = max([int(current[FIRST]), int(current[GENERATION]), *map(_generation_of, self._folder.iterdir())])
        first = (newest // _GENERATIONS_MAX + 1) * _GENERATIONS_MAX
        current[FIRST], current[SUCCEEDED] = first, 0
        beside.replace(path)
        if before is not None:
            before[SUCCEEDED] = 1
        return current, first

    @property
    def capacity(self) -> int:
        """The users that the files at hand have room for."""
        return len(self._rows)

    def withdraw(self) -> None:
        """Tell readers to ask until the next `publish_all`."""
        self._current[GENERATION] = 0

    def seeds(self, parents: Sequence[str]) -> list[int]:
        """Give the hash seed of each parent's keys."""
        return [parent_seed(parent, self._salt) for parent in parents]

    def lay_out(self, users: int, stride: int, pause: Callable[[], None] = lambda: None) -> Generation:
        """Make the files of a coming generation with room for half as many users again: empty, and nobody sees them.

        `stride` is the words of a row; `pause` is called between steps of some ms. From any thread. Raises StorageFull
        where the disk has no room.
        """
        number = next(self._numbers)
        self._coming.add(number)
        capacity = max(_ROWS_MIN, int(users * 1.5))
        entries = table_entries(capacity)
        try:
            rows = _map(self._folder / f"rows-{number}", capacity * stride * 8).reshape(capacity, stride)
            table = _map(self._folder / f"table-{number}", entries * ENTRY_WORDS * 8).view(np.uint64)
        except OSError as error:
            self._unlink(number)
            raise self._full(error) from error
        # Written once now: the pages are there when the rows come, and the keys, each of which is in a page of its own.
        for array in (rows[:users].reshape(-1), table):
            for start in range(0, len(array), _WORDS_A_STEP):
                array[start : start + _WORDS_A_STEP] = 0
                pause()
        return Generation(number, rows, table.reshape(entries, ENTRY_WORDS))

    def discard(self, generation: Generation) -> None:
        """Give up a generation that was laid out. From any thread."""
        self._unlink(generation.number)

    def publish_all(
        self,
        source: MembershipRows,
        names: dict[str, Any],
        users: int,
        clock_ms: int,
        *,
        keys: KeyTable | None = None,
        generation: Generation | None = None,
        fill_later: bool = False,
    ) -> None:
        """Put a new generation with everything in it in place, then point `current` at it and drop the older ones.

        `fill_later`: rows are written some at each `publish` to come, and readers ask for the others meanwhile.
        `names["audiences"]` is id -> (bit, parent index, version). `keys` None: the source's slots are other users'
        than before, all keys are hashed (0.4 µs each); else they have these hashes, and lie in `generation`'s table
        where one is given. Raises StorageFull where the disk has no room; readers are told to ask then.
        """
        seeds = self.seeds(names["parents"])
        self.keys = keys = keys or KeyTable(seeds)
        rows = source.membership_rows(_NO_SLOTS if fill_later else None)
        try:
            if generation is not None and users > len(generation.rows):
                self.discard(generation)
                generation = None
            if generation is None:
                generation = self.lay_out(users, rows.shape[1])
                # Before the new users: a reader of the table before would find rows that its own file does not have.
                keys.move_to(generation.table)
            keys.add(source, users)
            generation.rows[: len(rows)] = rows
            self._write_names(generation, names, seeds)
        except StorageFull:
            self.withdraw()
            self._rows, self._to_fill = self._rows[:0], (0, 0)
            keys.keep_in_memory(users)
            keys.add(source, users)
            self._drop_others()
            raise
        self._rows = generation.rows
        self._to_fill = (len(rows), users)
        self._coming.discard(generation.number)
        self._current[CLOCK] = clock_ms
        self._current[GENERATION] = generation.number
        self._drop_others()

    def publish(self, source: MembershipRows, touched: NDArray[np.int32], users: int, clock_ms: int) -> bool:
        """Write the rows of the touched users; False if they no longer fit (then `publish_all` with `keys`)."""
        if users > len(self._rows):
            return False
        known = self.keys.users
        if users > known:
            # All new users, touched or not: one whose events were refused is nobody's member, and needs no asking.
            self._rows[known:users] = source.membership_rows(np.arange(known, users, dtype=np.int32))
        if len(touched):
            self._write(source, touched)
        first, stop = self._to_fill
        if first < stop:
            filled = min(stop, first + _ROWS_A_FILL)
            self._write(source, np.arange(first, filled, dtype=np.int32))
            self._to_fill = (filled, stop)
        self.keys.add(source, users)
        self._current[CLOCK] = clock_ms
        return True

    def _write(self, source: MembershipRows, slots: NDArray[np.int32]) -> None:
        rows = source.membership_rows(slots)
        self._rows[slots, 0] = ASK
        self._rows[slots, 1:] = rows[:, 1:]
        self._rows[slots, 0] = rows[:, 0]

    def _write_names(self, generation: Generation, names: dict[str, Any], seeds: Sequence[int]) -> None:
        described = {
            **names,
            "audiences": {name: (bit, seeds[parent], v) for name, (bit, parent, v) in names["audiences"].items()},
            "stride": generation.rows.shape[1],
            "capacity": len(generation.rows),
            "table_size": len(generation.table),
        }
        try:
            (self._folder / f"names-{generation.number}.json").write_text(json.dumps(described))
        except OSError as error:
            self._unlink(generation.number)
            raise self._full(error) from error

    def _full(self, error: OSError) -> StorageFull:
        message = f"The membership files in {self._folder} cannot be written: {error.strerror}."
        return StorageFull(message, retry_after_ms=RETRY_AFTER_MS, next_step="Free space on this disk.")

    def _unlink(self, number: int) -> None:
        self._coming.discard(number)
        for name in (f"rows-{number}", f"table-{number}", f"names-{number}.json"):
            (self._folder / name).unlink(missing_ok=True)

    def _drop_others(self) -> None:
        """Unlink other generations: readers that have them mapped keep them until they map the new one.

        A successor's are let be.
        """
        kept = {0, int(self._current[GENERATION]), *self._coming}
        for path in self._folder.iterdir():
            number = _generation_of(path)
            if number not in kept and number < self._first + _GENERATIONS_MAX:
                path.unlink(missing_ok=True)


class MembershipReader:
    """Looks memberships up in a folder; maps it when it appears. One thread; about 1 µs a look-up of a known key."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._current: Any = None
        self._generation = 0
        self._names: Names | None = None
        self._rows: Any = memoryview(b"")
        self._table: Any = memoryview(b"")
        self._found: dict[tuple[int, str], int] = {}
        self._refresh()

    @property
    def version(self) -> int:
        """The definitions version that the mapped generation reflects; 0 before the first."""
        self._check()
        return self._names.definitions_version if self._names is not None else 0

    @property
    def clock_ms(self) -> int:
        """The evaluator's clock at its last publication: membership is known as of then; 0 before the first."""
        return int(self._current[CLOCK]) if self._current is not None else 0

    def is_member(self, parent: str, key: str, audience_id: str, now_ms: int) -> bool | None:
        """Say whether a user is in an audience at `now_ms`; None: ask the evaluator.

        False for a user nobody has heard of. None where a due time has passed, the row is being written, or
        the mapped generation does not know the audience.
        """
        for _ in range(3):
            if not self._check() or self._names is None:
                return None
            known = self._names.audiences.get(audience_id)
            if known is None:
                return None
            bit, seed, _version = known
            row = self._row(seed, key)
            if row < 0:
                answer: bool | None = False
            else:
                base = row * self._names.stride
                due = self._rows[base]
                word = self._rows[base + 1 + (bit >> 6)]
                answer = None if due <= now_ms or self._rows[base] != due else bool((word >> (bit & 63)) & 1)
            if self._current[GENERATION] == self._generation:
                return answer
        return None

    def _row(self, seed: int, key: str) -> int:
        found = self._found.get((seed, key))
        if found is not None:
            return found
        assert self._names is not None
        digest = key_hash(seed, key)
        high, low = digest >> 64, digest & _MASK64
        size = self._names.table_size
        place = digest % size
        while True:
            base = place * ENTRY_WORDS
            entry = self._table[base + 2]
            if entry == 0:
                return -1
            if self._table[base] == high and self._table[base + 1] == low:
                if len(self._found) >= _KEYS_CACHED_MAX:
                    self._found.clear()
                self._found[seed, key] = entry - 1
                return int(entry - 1)
            place = (place + 1) % size

    def _check(self) -> bool:
        """Map again if there is a newer generation or writer; False while there is no generation."""
        if self._current is not None and self._current[SUCCEEDED]:
            self._current = None
        if self._current is None or self._current[GENERATION] != self._generation:
            self._refresh()
        return self._names is not None

    def _refresh(self) -> None:
        """Map the current generation; a generation that vanishes meanwhile was replaced: try the next."""
        if self._current is None:
            path = self._folder / "current"
            if not path.exists() or path.stat().st_size < _CURRENT_BYTES:
                return
            self._current = _view(path, "q")
        for _ in range(10):
            generation = self._current[GENERATION]
            if generation == 0 or self._current[BOOT] != boot():
                self._names, self._generation = None, 0
                return
            try:
                names = msgspec.json.decode((self._folder / f"names-{generation}.json").read_bytes(), type=Names)
                rows = _view(self._folder / f"rows-{generation}", "q")
                table = _view(self._folder / f"table-{generation}", "Q")
            except FileNotFoundError:
                continue
            self._names, self._rows, self._table = names, rows, table
            self._generation = generation
            self._found = {}
            return


@cache
def boot() -> int:
    """Give a number for this start of the machine; 0 where the system does not tell."""
    try:
        return int.from_bytes(bytes.fromhex(_BOOT_ID.read_text().replace("-", ""))[:7])
    except (OSError, ValueError):
        return 0


def _generation_of(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _map(path: Path, size_bytes: int) -> NDArray[np.int64]:
    """Map a file of at least this size for writing, creating it (zeros) where there is none."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(handle).st_size < size_bytes:
            # Allocated, not sparse: without room this raises here, where a write into the map would kill the process.
            os.posix_fallocate(handle, 0, size_bytes)
        return np.frombuffer(mmap.mmap(handle, size_bytes), np.int64)
    finally:
        os.close(handle)


def _view(path: Path, code: str) -> Any:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)).cast(code)  # type: ignore[call-overload]
