"""What an evaluator asks of its log, whoever keeps it: an embedded SQLite file, or a broker later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from cluster.log.records import NO_META, Entry, EntryKind, TransitionBlock


class Log(Protocol):
    """One evaluator's log. Safe to call from any thread; reads never wait for writes.

    Every method may raise `DataDirError` (damaged, or taken over by a newer run) and blocks on the disk:
    call it off the event loop.
    """

    def commit(
        self,
        entries: Sequence[Entry],
        transitions: Sequence[TransitionBlock],
        meta: Mapping[str, bytes] = NO_META,
    ) -> None:
        """Make all of it durable at once, or nothing.

        Entries and transitions go on exactly where the log ends (`last_seq() + 1`,
        `last_transition_seq() + 1`), and no entry's clock is below the one before it; else `InternalError`.
        `StorageFull` when there is no room or the disk fails: the log is unchanged and usable, and the same
        commit may succeed later.
        """
        ...

    def require_room(self, batch_bytes: int) -> None:
        """Raise `StorageFull` where a batch of this size would be refused now: cheap, before it is evaluated."""
        ...

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """Give the entries numbered above `after_seq` in order, without holding more than a few in memory.

        `kinds` None: all. `from_clock_ms`: only entries with at least this clock. Entries committed while it
        runs may be given too.
        """
        ...

    def last_entry(self, kind: EntryKind, subject: str | None = None) -> Entry | None:
        """Give the newest entry of a kind (and subject, unless None)."""
        ...

    def last_of_each_subject(self, kind: EntryKind) -> list[Entry]:
        """Give the newest entry of every subject of a lasting kind, in order of `seq`."""
        ...

    def last_seq(self) -> int:
        """Give the newest entry's number, 0 before the first. Trimming does not change it."""
        ...

    def last_clock_ms(self) -> int | None:
        """Give the newest entry's clock, None before the first. Trimming does not change it."""
        ...

    def first_clock_ms(self, kind: EntryKind) -> int | None:
        """Give the clock of the oldest entry of a kind still kept: how far back a backfill reaches."""
        ...

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """Give the next transitions numbered above `seq`, at most `limit` rows in all (exactly cut)."""
        ...

    def last_transition_seq(self) -> int:
        """Give the newest transition's number, 0 before the first. Trimming does not change it."""
        ...

    def meta(self, key: str) -> bytes | None:
        """Give a value set by `set_meta` or within a commit."""
        ...

    def set_meta(self, key: str, value: bytes) -> None:
        """Set a value durably; raises as `commit`."""
        ...

    def trim(self, before_clock_ms: int) -> int:
        """Drop entries with a clock below this, in slices between which commits get a turn; give how many.

        Stays: the newest entry, and the newest of each lasting kind and subject.
        """
        ...

    def trim_transitions(self, through_seq: int) -> int:
        """Drop whole blocks numbered up to `through_seq` (never the last block); give how many rows."""
        ...

    def size_bytes(self) -> int:
        """Give the bytes in use; freed room and the bounded write-ahead file do not count."""
        ...

    def close(self) -> None:
        """Close it; a second call does nothing."""
        ...
