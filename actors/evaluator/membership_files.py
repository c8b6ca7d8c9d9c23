"""Membership in mapped files: the evaluator writes, edge processes of the same node read without asking.

A folder holds `current` (one small mapped file: which generation holds, as of when, and since which start of the
machine: what another start left may be half on the disk and counts as nothing) and, per generation, `rows-G` (an int64
row a user: due time, then the membership words), `table-G` (an exact-enough hash table: 128-bit hash of (parent, key)
-> row) and `names-G.json` (which audience is which bit). Readers map a generation once and look at `current` on every
read; a new generation (growth, new definitions, a restart) makes them map again.

Order of memory. One process writes. A user's row changes in three steps, each a call of its own into numpy: due :=
ASK, words, due := its new value. Between the calls the interpreter runs (and gives up and takes the GIL, a full
barrier), so no compiler moves a store across them, and x86 and the barrier keep their order for others. A reader
takes due, one word, due again: if they differ, or the due time has passed, it asks the evaluator. One word is read
whole, so the answer is one that held while it was read.
"""

from __future__ import annotations

import json
import mmap
import os
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from cluster.errors import StorageFull
from cluster.limits import RETRY_AFTER_MS

#: Words of `current`: generation (0: ask), clock of the last publication, and which start of the machine wrote it.
GENERATION: Final = 0
CLOCK: Final = 1
BOOT: Final = 2
_CURRENT_BYTES: Final = 4096
#: A due time that says: ask.
ASK: Final = -1
_ENTRY_WORDS: Final = 3
_MASK64: Final = 2**64 - 1
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: Remembered keys of a reader; beyond, it starts anew.
_KEYS_CACHED_MAX: Final = 200_000
#: Keys taken from the machine at once.
_KEYS_A_STEP: Final = 65_536


class Names(msgspec.Struct, frozen=True):
    """What the bits of a generation mean. `audiences`: id -> [bit, parent index, version]."""

    definitions_version: int
    parents: list[str]
    audiences: dict[str, tuple[int, int, int]]
    stride: int
    capacity: int
    table_size: int


def key_hash(parent_index: int, key: str) -> int:
    """Give the 128-bit identity of a user; different ones share it with probability 2^-128 a pair."""
    return int(xxhash.xxh3_128_intdigest(key.encode("utf-8", "surrogatepass"), parent_index))


class MembershipRows(Protocol):
    """What the writer publishes: a machine's users, named by slot."""

    def keys_between(self, first: int, stop: int) -> tuple[list[bytes], NDArray[np.int16]]:
        """Give the keys and parent indexes of slots first..stop."""
        ...

    def membership_rows(self, slots: NDArray[np.int32] | None) -> NDArray[np.int64]:
        """Give [due, membership words...] of the slots (None: all users)."""
        ...


class MembershipWriter:
    """The single writer of a folder. Not thread-safe: call it from the thread that evaluates."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._current = _map(folder / "current", _CURRENT_BYTES)
        if self._current[BOOT] != boot():
            self.withdraw()
            self._current[BOOT] = boot()
        #: Above every file there is: one that a crash left half-written is never taken for ours.
        self._generation = max([int(self._current[GENERATION]), *map(_generation_of, folder.iterdir())])
        self._rows: NDArray[np.int64] = np.zeros((0, 1), np.int64)
        #: A view, not an array: numpy takes 100 ns for each single number.
        self._table = memoryview(b"")
        self._table_size = 0
        self._users = 0

    def withdraw(self) -> None:
        """Tell readers to ask until the next `publish_all`."""
        self._current[GENERATION] = 0

    def publish_all(self, source: MembershipRows, names: dict[str, Any], users: int, clock_ms: int) -> None:
        """Write a new generation with everything in it, then point `current` at it and drop the older ones.

        Raises StorageFull where the disk has no room; readers are told to ask then.
        """
        try:
            self._write_generation(source, names, users, clock_ms)
        except OSError as error:
            self.withdraw()
            self._drop_others()
            message = f"The membership files in {self._folder} cannot be written: {error.strerror}."
            raise StorageFull(message, retry_after_ms=RETRY_AFTER_MS, next_step="Free space on this disk.") from error

    def _write_generation(self, source: MembershipRows, names: dict[str, Any], users: int, clock_ms: int) -> None:
        self._generation = generation = self._generation + 1
        capacity = max(1024, int(users * 1.5))
        table_size = 1 << (2 * capacity).bit_length()
        rows = source.membership_rows(None)
        stride = rows.shape[1]
        self._rows = _map(self._folder / f"rows-{generation}", capacity * stride * 8).reshape(capacity, stride)
        flat = _map(self._folder / f"table-{generation}", table_size * _ENTRY_WORDS * 8).view(np.uint64)
        self._table, self._table_size = flat.data, table_size
        self._rows[:users] = rows
        self._users = 0
        self._add_keys(source, users)
        described = {**names, "stride": stride, "capacity": capacity, "table_size": table_size}
        (self._folder / f"names-{generation}.json").write_text(json.dumps(described))
        self._current[CLOCK] = clock_ms
        self._current[GENERATION] = generation
        self._drop_others()

    def publish(self, source: MembershipRows, touched: NDArray[np.int32], users: int, clock_ms: int) -> bool:
        """Write the rows of the touched users; False if they no longer fit (then `publish_all`)."""
        if users > len(self._rows):
            return False
        if users > self._users:
            # All new users, touched or not: one whose events were refused is nobody's member, and needs no asking.
            new = np.arange(self._users, users, dtype=np.int32)
            self._rows[self._users : users] = source.membership_rows(new)
        if len(touched):
            rows = source.membership_rows(touched)
            self._rows[touched, 0] = ASK
            self._rows[touched, 1:] = rows[:, 1:]
            self._rows[touched, 0] = rows[:, 0]
        self._add_keys(source, users)
        self._current[CLOCK] = clock_ms
        return True

    def _add_keys(self, source: MembershipRows, users: int) -> None:
        """Enter new users in the table: the hash first, the row last (a half-written entry matches nobody)."""
        table, size = self._table, self._table_size
        while self._users < users:
            stop = min(users, self._users + _KEYS_A_STEP)
            keys, parents = source.keys_between(self._users, stop)
            for row, (key, parent) in enumerate(zip(keys, parents.tolist(), strict=True), start=self._users + 1):
                digest = xxhash.xxh3_128_intdigest(key, parent)
                place = digest % size * _ENTRY_WORDS
                while table[place + 2]:
                    place = (place + _ENTRY_WORDS) % len(table)
                table[place] = digest >> 64
                table[place + 1] = digest & _MASK64
                table[place + 2] = row
            self._users = stop

    def _drop_others(self) -> None:
        """Unlink other generations: readers that have them mapped keep them until they map the new one."""
        for path in self._folder.iterdir():
            if _generation_of(path) not in (0, self._current[GENERATION]):
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
            bit, parent_index, _version = known
            row = self._row(parent_index, key)
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

    def _row(self, parent_index: int, key: str) -> int:
        found = self._found.get((parent_index, key))
        if found is not None:
            return found
        assert self._names is not None
        digest = key_hash(parent_index, key)
        high, low = digest >> 64, digest & _MASK64
        size = self._names.table_size
        place = digest % size
        while True:
            base = place * _ENTRY_WORDS
            entry = self._table[base + 2]
            if entry == 0:
                return -1
            if self._table[base] == high and self._table[base + 1] == low:
                if len(self._found) >= _KEYS_CACHED_MAX:
                    self._found.clear()
                self._found[parent_index, key] = entry - 1
                return int(entry - 1)
            place = (place + 1) % size

    def _check(self) -> bool:
        """Map again if there is a newer generation; False while there is none."""
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
