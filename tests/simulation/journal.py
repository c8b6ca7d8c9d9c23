"""A log on a simulated disk: an append-only file of checksummed frames, which loses what was not synced.

Keeps the contract of `cluster.log.contract.Log` like the SQLite log (tests/simulation/test_journal.py holds both to the
same answers). Here every write and every sync is the simulation's to lose, to tear and to skip.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

import msgspec
import xxhash

from cluster.errors import Fenced
from cluster.log.bounds import Bound
from cluster.log.ends import End
from cluster.log.records import (
    ENTRY_KINDS,
    LASTING_KINDS,
    NO_META,
    Entry,
    EntryKind,
    LastingKind,
    TransitionBlock,
)

_FRAME: Final = struct.Struct("<IQ")
_pack: Final = msgspec.msgpack.encode


class SimFile:
    """A file that is only appended to. What is written survives its process; what is synced, a loss of power."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._synced_bytes = 0

    def append(self, data: bytes) -> None:
        """Write at the end, into the cache of the operating system."""
        self.content += data

    def sync(self) -> None:
        """Put on the disk what is in the cache."""
        self._synced_bytes = len(self.content)

    def cut(self, size_bytes: int) -> None:
        """Drop what is beyond a size, durably."""
        del self.content[size_bytes:]
        self._synced_bytes = size_bytes

    def lose_power(self, stream: Random) -> int:
        """Keep what is synced, and some of the rest: a part of it may have got to the disk, its last sector torn.

        Gives how many bytes were lost.
        """
        unsynced = len(self.content) - self._synced_bytes
        kept = stream.randint(0, unsynced)
        self.cut(self._synced_bytes + kept)
        if 0 < kept < unsynced and stream.random() < 0.5:
            self.content[-1] ^= 0xFF
        return unsynced - kept


class JournalLog:
    """The `Log` of one evaluator in one `SimFile`. Who opens it last owns it."""

    def __init__(self, file: SimFile, *, owner_epoch: int, written: Callable[[], None] = lambda: None) -> None:
        self._file = file
        #: Called between a write and its sync: the moment at which power may be lost.
        self._written = written
        self._end = 0
        self._owner = (0, 0)
        self._entries: list[Entry] = []
        self._blocks: list[TransitionBlock] = []
        self._meta: dict[str, bytes] = {}
        self._log_end = End()
        self._bound = Bound()
        self._read()
        # A frame that a crash left unfinished was never acknowledged.
        self._file.cut(self._end)
        if self._owner[0] > owner_epoch:
            raise _taken_over()
        self._mine = (owner_epoch, self._owner[1] + 1)
        self._write(("owner", *self._mine))

    # --- writing -------------------------------------------------------------------------------------

    def commit(
        self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock], meta: Mapping[str, bytes] = NO_META
    ) -> None:
        """See `Log.commit`."""
        self._check_owner()
        self._log_end.after(entries, transitions, "the journal")
        payloads = [each.payload for each in (*entries, *transitions)]
        takes_events = any(entry.kind == "batch" for entry in entries)
        self._bound.require("the journal", self.size_bytes(), sum(map(len, payloads)), takes_events=takes_events)
        self._write(("commit", list(map(_fields, entries)), list(map(_fields, transitions)), dict(meta)))

    def limit(self, size_bytes_max: int | None) -> None:
        """See `Log.limit`."""
        self._bound = Bound(size_bytes_max)

    def require_room(self, batch_bytes: int) -> None:
        """See `Log.require_room`. The disk has room here: the world says where it has none."""
        self._bound.require("the journal", self.size_bytes(), batch_bytes, takes_events=True)

    def trim(self, before_clock_ms: int, size_bytes: int | None = None) -> int:
        """See `Log.trim`."""
        self._check_owner()
        staying = {entry.seq for kind in LASTING_KINDS for entry in self.newest(kind)} | {self._log_end.seq}
        going, left_bytes = [], self.size_bytes()
        for entry in self._entries:
            if entry.clock_ms >= before_clock_ms or (size_bytes is not None and left_bytes <= size_bytes):
                break
            if entry.seq not in staying:
                going.append(entry.seq)
                left_bytes -= len(entry.payload)
        self._write(("trim", going))
        return len(going)

    @property
    def archives_transitions(self) -> bool:
        """See `Log.archives_transitions`."""
        return False

    def trim_transitions(self, through_seq: int) -> int:
        """See `Log.trim_transitions`."""
        self._check_owner()
        before = sum(block.row_count for block in self._blocks)
        self._write(("trim_transitions", through_seq))
        return before - sum(block.row_count for block in self._blocks)

    def _write(self, record: tuple[Any, ...]) -> None:
        payload = _pack(record)
        self._file.append(_FRAME.pack(len(payload), xxhash.xxh3_64_intdigest(payload)) + payload)
        self._written()
        self._file.sync()
        self._read()

    def _check_owner(self) -> None:
        """Look at what others have written since: a newer owner ends this one."""
        self._read()
        if self._owner != self._mine:
            raise _taken_over()

    # --- what the file says --------------------------------------------------------------------------

    def _read(self) -> None:
        """Take in the whole frames that were written since the last look."""
        content = self._file.content
        while self._end + _FRAME.size <= len(content):
            size, checksum = _FRAME.unpack_from(content, self._end)
            start = self._end + _FRAME.size
            payload = bytes(content[start : start + size])
            if len(payload) < size or xxhash.xxh3_64_intdigest(payload) != checksum:
                return
            self._end = start + size
            self._take(*msgspec.msgpack.decode(payload))

    def _take(self, kind: str, *fields: Any) -> None:
        match kind:
            case "owner":
                self._owner = (fields[0], fields[1])
            case "commit":
                entries, blocks, meta = fields
                self._entries += [Entry(*entry) for entry in entries]
                self._blocks += [TransitionBlock(*block) for block in blocks]
                self._meta |= meta
                end = self._log_end
                self._log_end = End(
                    entries[-1][0] if entries else end.seq,
                    entries[-1][1] if entries else end.clock_ms,
                    blocks[-1][1] if blocks else end.transition_seq,
                )
            case "trim":
                gone = set(fields[0])
                self._entries = [each for each in self._entries if each.seq not in gone]
            case "trim_transitions":
                self._blocks = [
                    block for block in self._blocks
                    if block.last_seq > fields[0] or block.last_seq == self._log_end.transition_seq
                ]  # fmt: skip

    # --- reading -------------------------------------------------------------------------------------

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """See `Log.entries`."""
        wanted = ENTRY_KINDS if kinds is None else kinds
        for entry in self._entries:
            late_enough = from_clock_ms is None or entry.clock_ms >= from_clock_ms
            if entry.seq > after_seq and entry.kind in wanted and late_enough:
                yield entry

    def newest(self, kind: LastingKind) -> list[Entry]:
        """See `Log.newest`."""
        newest = {entry.subject: entry for entry in self._entries if entry.kind == kind}
        return sorted(newest.values(), key=lambda entry: entry.seq)

    def last_seq(self) -> int:
        """See `Log.last_seq`."""
        return self._log_end.seq

    def last_clock_ms(self) -> int | None:
        """See `Log.last_clock_ms`."""
        return self._log_end.clock_ms

    def first_clock_ms(self) -> int | None:
        """See `Log.first_clock_ms`."""
        return next((entry.clock_ms for entry in self._entries if entry.kind == "batch"), None)

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """See `Log.transitions_after`."""
        found: list[TransitionBlock] = []
        for block in self._blocks:
            if block.last_seq > seq and limit > 0:
                found.append(block.cut(seq, limit))
                limit -= found[-1].row_count
        return found

    def last_transition_seq(self) -> int:
        """See `Log.last_transition_seq`."""
        return self._log_end.transition_seq

    def meta(self, key: str) -> bytes | None:
        """See `Log.meta`."""
        return self._meta.get(key)

    def size_bytes(self) -> int:
        """See `Log.size_bytes`."""
        return sum(len(each.payload) for each in (*self._entries, *self._blocks))

    def close(self) -> None:
        """See `Log.close`."""


def _fields(record: Entry | TransitionBlock) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__slots__)


def _taken_over() -> Fenced:
    message = "The journal belongs to a newer run of Usher; this one may not write to it any more."
    return Fenced(message, next_step="End this process: it outlived its run.")
