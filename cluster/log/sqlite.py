"""The embedded log: one SQLite file an evaluator, entries and transitions in one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from cluster.errors import InternalError
from cluster.log.acknowledged import Acknowledged
from cluster.log.bounds import Bound
from cluster.log.database import (
    connect_reader,
    connect_writer,
    damaged,
    require_room,
    transaction,
    typed_errors,
)
from cluster.log.ends import End
from cluster.log.losses import check_nothing_is_lost, look_at_the_end
from cluster.log.records import (
    ENTRY_KINDS,
    LASTING_KINDS,
    NO_META,
    Entry,
    EntryKind,
    LastingKind,
    TransitionBlock,
)
from cluster.log.tables import (
    BLOCK,
    ENTRY,
    INSERT_BLOCK,
    INSERT_ENTRY,
    INSERT_META,
    USER,
    block_row,
    create_or_check_schema,
    end_of,
    entry_row,
    is_kind,
    scalar,
    snapshot,
    take_over,
    taken_over,
    trimmed,
)

#: Entries a read fetches at once: 16 batches of 500 KB are 8 MB.
_ENTRIES_A_READ: Final = 16
#: Entries (or blocks) a trim deletes in one transaction: commits wait 15 ms for batches of 500 KB.
_ROWS_A_TRIM: Final = 16
#: Pages given back to the disk in one transaction, once more than half of the file is unused.
_PAGES_A_VACUUM: Final = 64


class EvaluatorLog:
    """The `Log` of one evaluator in one SQLite file. Make it with `open`.

    Who opens the file last owns it: an earlier owner's next write raises `Fenced` and changes nothing.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection, writer_number: int, acknowledged: Acknowledged) -> None:
        self._path = path
        self._writer = writer
        self._writer_number = writer_number
        self._acknowledged = acknowledged
        #: Held while the writer connection is in use.
        self._lock = threading.Lock()
        #: Read connections nobody uses just now; as many exist as threads ever read at once.
        self._readers: deque[sqlite3.Connection] = deque()
        self._closed = False
        self._bound = Bound()
        # What the log ends with, so that a commit is checked without a query.
        self._end = end_of(writer)

    @classmethod
    def open(cls, path: Path, *, owner_epoch: int, durable: bool = True) -> Self:
        """Open or create the file as its only owner.

        `owner_epoch` is the data dir's epoch of this run; an older one than the file has seen raises `Fenced`, a file
        that lost or changed something acknowledged `Damaged`, an unknown schema `DataDirError`; `StorageFull` where it
        cannot be made. A commit that a crash cut short is dropped, with a warning: nobody was told of it.
        Not `durable`: for what is kept elsewhere too; nothing is synced, and what a power cut takes is not looked for.
        """
        # Without the reserve: an evaluator killed on a full disk comes back and answers look-ups.
        require_room(path, 0, keep_reserve=False)
        if durable:
            look_at_the_end(path)
        writer = connect_writer(path, durable=durable)
        try:
            with transaction(writer, path):
                create_or_check_schema(writer, path)
                number = take_over(writer, path, owner_epoch)
            acknowledged = Acknowledged(path.with_name(f"{path.name}-acknowledged"))
            with typed_errors(path):
                log = cls(path, writer, number, acknowledged)
            if durable:
                check_nothing_is_lost(path, log._end, *acknowledged.read())
                acknowledged.open()
            return log
        except BaseException:
            writer.close()
            raise

    def commit(
        self,
        entries: Sequence[Entry],
        transitions: Sequence[TransitionBlock],
        meta: Mapping[str, bytes] = NO_META,
    ) -> None:
        """See `Log.commit`. One fsync, whatever the number of entries."""
        self._commit(entries, transitions, {USER + key: value for key, value in meta.items()})

    def _commit(
        self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock], values: Mapping[str, bytes]
    ) -> None:
        with self._lock:
            end = self._end.after(entries, transitions, str(self._path))
            payloads = [entry.payload for entry in entries] + [block.payload for block in transitions]
            # The reserve is for what must go on when events are refused: exits by time, definitions, snapshots.
            takes_events = any(entry.kind == "batch" for entry in entries)
            self._require_room(sum(map(len, payloads)), takes_events=takes_events)
            with self._owned_transaction() as connection:
                connection.executemany(INSERT_ENTRY, map(entry_row, entries))
                connection.executemany(INSERT_BLOCK, map(block_row, transitions))
                connection.executemany(INSERT_META, values.items())
            self._end = end
            self._acknowledged.note(end.seq, end.transition_seq)

    def limit(self, size_bytes_max: int | None) -> None:
        """See `Log.limit`. The file itself does not get larger: freed pages are written over first."""
        self._bound = Bound(size_bytes_max)

    def require_room(self, batch_bytes: int) -> None:
        """See `Log.require_room`."""
        self._require_room(batch_bytes, takes_events=True)

    def _require_room(self, size_bytes: int, *, takes_events: bool) -> None:
        if self._bound.is_set:
            self._bound.require(str(self._path), self.size_bytes(), size_bytes, takes_events=takes_events)
        self.require_disk(size_bytes, takes_events=takes_events)

    def require_disk(self, size_bytes: int, *, takes_events: bool) -> None:
        """As `require_room`, of the disk alone; what carries no events may use the reserve."""
        require_room(self._path, size_bytes, keep_reserve=takes_events)

    @property
    def end(self) -> End:
        """Where it ends."""
        return self._end

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """See `Log.entries`. Each slice is a short read of its own: a slow caller never holds the file.

        An entry that is missing among those read raises `Damaged`, also where other kinds are asked for.
        """
        wanted = " OR ".join(map(is_kind, ENTRY_KINDS if kinds is None else kinds))
        if not wanted:
            return
        if from_clock_ms is not None:
            # Clocks never fall as seq grows, so the first entry at or after this clock starts the range.
            query = "SELECT seq FROM entries WHERE clock_ms >= ? ORDER BY clock_ms, seq LIMIT 1"
            first = self._read(query, (from_clock_ms,))
            if not first:
                return
            after_seq = max(after_seq, first[0][0] - 1)
        query = f"SELECT {ENTRY} FROM entries WHERE seq > ? AND ({wanted}) ORDER BY seq LIMIT {_ENTRIES_A_READ}"
        rows: list[Any] = [None]
        while rows:
            with self._reader() as connection, snapshot(connection):
                rows = connection.execute(query, (after_seq,)).fetchall()
                whole = len(rows) == _ENTRIES_A_READ
                through_seq = rows[-1][0] if whole else end_of(connection).seq
                self._check_no_gap(connection, after_seq, through_seq)
            yield from map(self._entry, rows)
            after_seq = rows[-1][0] if rows else after_seq

    def _check_no_gap(self, connection: sqlite3.Connection, after_seq: int, through_seq: int) -> None:
        """Raise where an entry of this range is not there that no trim took; `connection` reads one state."""
        trimmed_seq = trimmed(connection, "trimmed_seq")
        if trimmed_seq is None or through_seq <= max(after_seq, trimmed_seq):
            return
        after_seq = max(after_seq, trimmed_seq)
        count = "SELECT COUNT(*) FROM entries WHERE seq > ? AND seq <= ?"
        found = connection.execute(count, (after_seq, through_seq)).fetchone()[0]
        if found != through_seq - after_seq:
            what = f"of the entries {after_seq + 1} to {through_seq} only {found} are there"
            raise damaged(self._path, what, f"entries {after_seq + 1} to {through_seq}")

    def newest(self, kind: LastingKind) -> list[Entry]:
        """See `Log.newest`."""
        newest = f"SELECT MAX(seq) FROM entries WHERE {is_kind(kind)} GROUP BY subject"
        query = f"SELECT {ENTRY} FROM entries WHERE seq IN ({newest}) ORDER BY seq"
        return [self._entry(row) for row in self._read(query)]

    def last_seq(self) -> int:
        """See `Log.last_seq`."""
        return self._end.seq

    def last_clock_ms(self) -> int | None:
        """See `Log.last_clock_ms`."""
        return self._end.clock_ms

    def last_transition_seq(self) -> int:
        """See `Log.last_transition_seq`."""
        return self._end.transition_seq

    def first_clock_ms(self) -> int | None:
        """See `Log.first_clock_ms`."""
        rows = self._read(f"SELECT clock_ms FROM entries WHERE {is_kind('batch')} ORDER BY seq LIMIT 1")
        return int(rows[0][0]) if rows else None

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """See `Log.transitions_after`."""
        blocks: list[TransitionBlock] = []
        with self._reader() as connection, snapshot(connection):
            # The block that holds seq + 1 is the one with the greatest first_seq at or below it.
            start = "SELECT COALESCE(MAX(first_seq), 0) FROM transitions WHERE first_seq <= ?1 + 1"
            query = (
                f"SELECT {BLOCK} FROM transitions WHERE last_seq > ?1 AND first_seq >= ({start}) ORDER BY first_seq"
            )
            before = max(seq, trimmed(connection, "trimmed_transition_seq") or 0)
            for row in connection.execute(query, (seq,)):
                if limit <= 0:
                    break
                block = self._block(row)
                if block.first_seq > before + 1:
                    what = f"the transitions {before + 1} to {block.first_seq - 1} are not there"
                    raise damaged(self._path, what)
                before = block.last_seq
                blocks.append(block.cut(seq, limit))
                limit -= blocks[-1].row_count
        return blocks

    def meta(self, key: str) -> bytes | None:
        """See `Log.meta`."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", (USER + key,))
        return bytes(rows[0][0]) if rows else None

    def trim(self, before_clock_ms: int, size_bytes: int | None = None) -> int:
        """See `Log.trim`."""
        lasting = " OR ".join(map(is_kind, LASTING_KINDS))
        newest = f"SELECT MAX(seq) FROM entries WHERE {lasting} GROUP BY kind, subject"
        oldest = (
            f"SELECT seq FROM entries WHERE clock_ms < ? AND seq NOT IN ({newest}) "
            f"AND seq < (SELECT MAX(seq) FROM entries) ORDER BY clock_ms, seq LIMIT {_ROWS_A_TRIM}"
        )
        query = f"DELETE FROM entries WHERE seq IN ({oldest}) RETURNING seq"
        dropped = 0
        for seqs in self._in_slices(query, (before_clock_ms,), "trimmed_seq", size_bytes):
            dropped += seqs
        self._give_back_room()
        return dropped

    @property
    def archives_transitions(self) -> bool:
        """See `Log.archives_transitions`."""
        return False

    def trim_transitions(self, through_seq: int) -> int:
        """See `Log.trim_transitions`."""
        before = self._kept_transition_count()
        oldest = (
            "SELECT first_seq FROM transitions WHERE last_seq <= ? "
            "AND first_seq < (SELECT MAX(first_seq) FROM transitions) "
            f"ORDER BY first_seq LIMIT {_ROWS_A_TRIM}"
        )
        query = f"DELETE FROM transitions WHERE first_seq IN ({oldest}) RETURNING last_seq"
        for _ in self._in_slices(query, (through_seq,), "trimmed_transition_seq", None):
            pass
        self._give_back_room()
        return before - self._kept_transition_count()

    def size_bytes(self) -> int:
        """See `Log.size_bytes`. The write-ahead file (64 MiB at most after a commit) comes on top."""
        with self._reader() as connection:
            pages, unused, page_bytes = (
                int(scalar(connection, f"PRAGMA {name}")) for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - unused) * page_bytes

    def close(self) -> None:
        """See `Log.close`. Nobody may be reading or writing any more."""
        with self._lock:
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            self._writer.close()
            self._acknowledged.close()

    @contextmanager
    def _owned_transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that fails if a newer owner has opened the file. The lock must be held."""
        if self._closed:
            message = f"{self._path} was written to after it was closed."
            raise InternalError(message)
        with transaction(self._writer, self._path):
            owner = scalar(self._writer, "SELECT value FROM meta WHERE key = 'writer'")
            if owner != self._writer_number:
                raise taken_over(self._path)
            yield self._writer

    def _in_slices(
        self, query: str, values: Sequence[Any], mark: str, size_bytes: int | None
    ) -> Iterator[int]:
        """Run a deletion of at most _ROWS_A_TRIM rows until it finds no more, or so few bytes are used.

        Commits may come between. Gives how many rows went, and notes under `mark` up to which number.
        """
        changed = _ROWS_A_TRIM
        while changed == _ROWS_A_TRIM and (size_bytes is None or self.size_bytes() > size_bytes):
            with self._lock, self._owned_transaction() as connection:
                gone = [row[0] for row in connection.execute(query, values).fetchall()]
                if gone:
                    through = max(trimmed(connection, mark) or 0, *gone)
                    connection.execute(INSERT_META, (mark, through))
            changed = len(gone)
            yield changed

    def _give_back_room(self) -> None:
        """Shrink the file to the disk's good once most of it is unused; otherwise the room is used again."""
        while True:
            with self._lock:
                pages = scalar(self._writer, "PRAGMA page_count")
                unused = scalar(self._writer, "PRAGMA freelist_count")
                if unused * 2 < pages or unused < _PAGES_A_VACUUM:
                    return
                with self._owned_transaction() as connection:
                    connection.execute(f"PRAGMA incremental_vacuum({_PAGES_A_VACUUM})").fetchall()

    def _kept_transition_count(self) -> int:
        query = "SELECT COALESCE(MAX(last_seq) - MIN(first_seq) + 1, 0) FROM transitions"
        return int(self._read(query)[0][0])

    def _entry(self, row: Sequence[Any]) -> Entry:
        *fields, checksum = row
        entry = Entry(*fields)
        if entry.checksum() != checksum:
            what = f"entry {entry.seq} ({entry.kind}) does not match its checksum"
            raise damaged(self._path, what, f"entry {entry.seq}")
        return entry

    def _block(self, row: Sequence[Any]) -> TransitionBlock:
        *fields, checksum = row
        block = TransitionBlock(*fields)
        if block.checksum() != checksum:
            where = f"transitions {block.first_seq} to {block.last_seq}"
            raise damaged(self._path, f"the {where} do not match their checksum", where)
        return block

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._reader() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A read connection for this thread alone, kept for the next one who asks."""
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = connect_reader(self._path)
        try:
            with typed_errors(self._path):
                yield connection
        except BaseException:
            connection.close()
            raise
        self._readers.append(connection)
