"""What an evaluator asks of its log. Two keep it: a SQLite file (sqlite.py) and a Kafka topic (kafka/).

A log is one sequence of *commits*. A commit holds entries (the evaluator's inputs), blocks of transitions (what they
changed) and named values, and is there whole or not at all: to readers, after any crash, and after any owner's end.
`tests/cluster/log/laws.py` holds both to what is written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from cluster.log.records import NO_META, Entry, EntryKind, LastingKind, TransitionBlock


class Log(Protocol):
    """One evaluator's log. Safe to call from any thread; reads never wait for writes.

    Opened by whoever is to own it: from then on every write of an earlier owner raises `Fenced` and counts for nothing.
    Every method may raise `DataDirError` (of it `Damaged`, `Fenced`) or `LogUnavailable`, and blocks on disk or
    network: call it off the event loop.
    """

    @property
    def archives_transitions(self) -> bool:
        """Whether transitions are kept for good in a place of their own: nothing is won by trimming them here."""
        ...

    # --- writing -----------------------------------------------------------------------------------

    def commit(
        self,
        entries: Sequence[Entry],
        transitions: Sequence[TransitionBlock],
        meta: Mapping[str, bytes] = NO_META,
    ) -> None:
        """Make all of it durable at once, or nothing. Each part may be empty.

        Entries and transitions go on exactly where the log ends (`last_seq() + 1`,
        `last_transition_seq() + 1`), and no entry's clock is below the one before it; else `InternalError`.
        `StorageFull` when there is no room or the disk fails: the log is unchanged and usable, and the same
        commit may succeed later.
        """
        ...

    def limit(self, size_bytes_max: int | None) -> None:
        """Bound what the log may take; None: by the disk alone.

        Above it commits with events are refused, those without an eighth later: exits by time go on.
        """
        ...

    def require_room(self, batch_bytes: int) -> None:
        """Raise `StorageFull` where a batch of this size would be refused now: cheap, before it is evaluated."""
        ...

    # --- where it ends -----------------------------------------------------------------------------

    def last_seq(self) -> int:
        """Give the newest entry's number, 0 before the first. Trimming does not change it."""
        ...

    def last_clock_ms(self) -> int | None:
        """Give the newest entry's clock, None before the first. Trimming does not change it."""
        ...

    def last_transition_seq(self) -> int:
        """Give the newest transition's number, 0 before the first. Trimming does not change it."""
        ...

    # --- reading -----------------------------------------------------------------------------------

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """Give the entries numbered above `after_seq` in order, without holding more than a few in memory.

        `kinds` None: all. `from_clock_ms`: only entries with at least this clock. Entries committed while it
        runs may be given too.
        """
        ...

    def newest(self, kind: LastingKind) -> list[Entry]:
        """Give the newest entry of every subject of a lasting kind, in order of `seq`."""
        ...

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """Give the next transitions numbered above `seq`, at most `limit` rows in all (exactly cut)."""
        ...

    def meta(self, key: str) -> bytes | None:
        """Give the newest value committed under a name."""
        ...

    # --- dropping ----------------------------------------------------------------------------------

    def trim(self, before_clock_ms: int, size_bytes: int | None = None) -> int:
        """Drop entries with a clock below this, oldest first, while commits get a turn; give how many.

        With `size_bytes` no more than it takes to need at most so many. Stays: the newest entry, and the newest of
        each lasting kind and subject; more may stay.
        """
        ...

    def trim_transitions(self, through_seq: int) -> int:
        """Drop whole blocks numbered up to `through_seq` (never the last block); give how many rows. More may stay."""
        ...

    def first_clock_ms(self) -> int | None:
        """Give the clock of the oldest batch that is kept, None without one: how far back a backfill reaches."""
        ...

    def size_bytes(self) -> int:
        """Give the bytes in use; what was freed and is written over again does not count."""
        ...

    def close(self) -> None:
        """Close it; a second call does nothing."""
        ...
