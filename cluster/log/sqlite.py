"""The embedded log: one SQLite file an evaluator, entries and transitions in one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cluster.errors import DataDirError, InternalError
from cluster.log.database import (
    connect_reader,
    connect_writer,
    damaged,
    require_room,
    transaction,
    typed_errors,
)
from cluster.log.records import ENTRY_KINDS, LASTING_KINDS, NO_META, Entry, EntryKind, TransitionBlock

_SCHEMA_VERSION: Final = 1
#: Entries a read fetches at once: 16 batches of 500 KB are 8 MB.
_ENTRIES_A_READ: Final = 16
#: Entries (or blocks) a trim deletes in one transaction: commits wait 15 ms for batches of 500 KB.
_ROWS_A_TRIM: Final = 16
#: Pages given back to the disk in one transaction, once more than half of the file is unused.
_PAGES_A_VACUUM: Final = 64

_SCHEMA: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE entries (seq INTEGER PRIMARY KEY, clock_ms INTEGER NOT NULL, kind TEXT NOT NULL,
       subject TEXT NOT NULL, definitions_version INTEGER NOT NULL, row_count INTEGER NOT NULL,
       checksum INTEGER NOT NULL, payload BLOB NOT NULL)""",
    "CREATE INDEX entries_by_clock ON entries (clock_ms, seq)",
    # Only kinds of which the newest is looked for are indexed: a batch or a tick costs no index write.
    """CREATE INDEX entries_lasting ON entries (kind, subject, seq)
       WHERE kind = 'traits' OR kind = 'definitions'""",
    """CREATE TABLE transitions (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL,
       max_at_ms INTEGER NOT NULL, checksum INTEGER NOT NULL, payload BLOB NOT NULL)""",
)
_ENTRY: Final = "seq, clock_ms, kind, definitions_version, row_count, payload, subject, checksum"
_BLOCK: Final = "first_seq, last_seq, max_at_ms, payload, checksum"
_INSERT_ENTRY: Final = f"INSERT INTO entries ({_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_BLOCK: Final = f"INSERT INTO transitions ({_BLOCK}) VALUES (?, ?, ?, ?, ?)"
_INSERT_META: Final = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
#: Callers' keys are kept apart from the log's own.
_USER: Final = "user."


class EvaluatorLog:
    """The `Log` of one evaluator in one SQLite file. Make it with `open`.

    Who opens the file last owns it: an earlier owner's next write raises `DataDirError` and changes nothing.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection, writer_number: int) -> None:
        self._path = path
        self._writer = writer
        self._writer_number = writer_number
        #: Held while the writer connection is in use.
        self._lock = threading.Lock()
        #: Read connections nobody uses just now; as many exist as threads ever read at once.
        self._readers: deque[sqlite3.Connection] = deque()
        self._closed = False
        # What the log ends with, so that a commit is checked without a query.
        self._last_seq, self._last_clock_ms = _last_entry_position(writer)
        self._last_transition_seq: int = _scalar(writer, "SELECT COALESCE(MAX(last_seq), 0) FROM transitions")

    @classmethod
    def open(cls, path: Path, *, owner_epoch: int) -> EvaluatorLog:
        """Open or create the file as its only owner.

        `owner_epoch` is the data dir's epoch of this run; an older one than the file has seen raises
        `DataDirError`, as do a damaged file and an unknown schema. `StorageFull` where it cannot be made.
        """
        # Without the reserve: an evaluator killed on a full disk comes back and answers look-ups.
        require_room(path, 0, keep_reserve=False)
        writer = connect_writer(path)
        try:
            with transaction(writer, path):
                _create_or_check_schema(writer, path)
                number = _take_over(writer, path, owner_epoch)
            with typed_errors(path):
                return cls(path, writer, number)
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
        with self._lock:
            self._check_continues(entries, transitions)
            payloads = [entry.payload for entry in entries] + [block.payload for block in transitions]
            # The reserve is for what must go on when events are refused: exits by time, definitions, snapshots.
            takes_events = any(entry.kind == "batch" for entry in entries)
            require_room(self._path, sum(map(len, payloads)), keep_reserve=takes_events)
            with self._owned_transaction() as connection:
                connection.executemany(_INSERT_ENTRY, map(_entry_row, entries))
                connection.executemany(_INSERT_BLOCK, map(_block_row, transitions))
                connection.executemany(_INSERT_META, ((_USER + key, value) for key, value in meta.items()))
            if entries:
                self._last_seq, self._last_clock_ms = entries[-1].seq, entries[-1].clock_ms
            if transitions:
                self._last_transition_seq = transitions[-1].last_seq

    def require_room(self, batch_bytes: int) -> None:
        """See `Log.require_room`."""
        require_room(self._path, batch_bytes)

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """See `Log.entries`. Each slice is a short read of its own: a slow caller never holds the file."""
        wanted = " OR ".join(map(_is, ENTRY_KINDS if kinds is None else kinds))
        if not wanted:
            return
        if from_clock_ms is not None:
            # Clocks never fall as seq grows, so the first entry at or after this clock starts the range.
            query = "SELECT seq FROM entries WHERE clock_ms >= ? ORDER BY clock_ms, seq LIMIT 1"
            first = self._read(query, (from_clock_ms,))
            if not first:
                return
            after_seq = max(after_seq, first[0][0] - 1)
        query = f"SELECT {_ENTRY} FROM entries WHERE seq > ? AND ({wanted}) ORDER BY seq LIMIT {_ENTRIES_A_READ}"
        while rows := self._read(query, (after_seq,)):
            yield from map(self._entry, rows)
            after_seq = rows[-1][0]

    def last_entry(self, kind: EntryKind, subject: str | None = None) -> Entry | None:
        """See `Log.last_entry`. A seek for lasting kinds, else a walk back to the newest."""
        same_subject = "" if subject is None else "AND subject = ?"
        query = f"SELECT {_ENTRY} FROM entries WHERE {_is(kind)} {same_subject} ORDER BY seq DESC LIMIT 1"
        rows = self._read(query, () if subject is None else (subject,))
        return self._entry(rows[0]) if rows else None

    def last_of_each_subject(self, kind: EntryKind) -> list[Entry]:
        """See `Log.last_of_each_subject`."""
        newest = f"SELECT MAX(seq) FROM entries WHERE {_is(kind)} GROUP BY subject"
        query = f"SELECT {_ENTRY} FROM entries WHERE seq IN ({newest}) ORDER BY seq"
        return [self._entry(row) for row in self._read(query)]

    def last_seq(self) -> int:
        """See `Log.last_seq`."""
        return self._last_seq

    def last_clock_ms(self) -> int | None:
        """See `Log.last_clock_ms`."""
        return self._last_clock_ms

    def first_clock_ms(self, kind: EntryKind) -> int | None:
        """See `Log.first_clock_ms`."""
        rows = self._read(f"SELECT clock_ms FROM entries WHERE {_is(kind)} ORDER BY seq LIMIT 1")
        return int(rows[0][0]) if rows else None

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """See `Log.transitions_after`."""
        blocks: list[TransitionBlock] = []
        with self._reader() as connection:
            # The block that holds seq + 1 is the one with the greatest first_seq at or below it.
            start = "SELECT COALESCE(MAX(first_seq), 0) FROM transitions WHERE first_seq <= ?1 + 1"
            query = (
                f"SELECT {_BLOCK} FROM transitions WHERE last_seq > ?1 AND first_seq >= ({start}) ORDER BY first_seq"
            )
            for row in connection.execute(query, (seq,)):
                if limit <= 0:
                    break
                blocks.append(self._block(row).cut(seq, limit))
                limit -= blocks[-1].row_count
        return blocks

    def last_transition_seq(self) -> int:
        """See `Log.last_transition_seq`."""
        return self._last_transition_seq

    def meta(self, key: str) -> bytes | None:
        """See `Log.meta`."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", (_USER + key,))
        return bytes(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: bytes) -> None:
        """See `Log.set_meta`."""
        self.commit((), (), {key: value})

    def trim(self, before_clock_ms: int) -> int:
        """See `Log.trim`."""
        lasting = " OR ".join(map(_is, LASTING_KINDS))
        newest = f"SELECT MAX(seq) FROM entries WHERE {lasting} GROUP BY kind, subject"
        oldest = (
            f"SELECT seq FROM entries WHERE clock_ms < ? AND seq NOT IN ({newest}) "
            f"AND seq < (SELECT MAX(seq) FROM entries) ORDER BY clock_ms, seq LIMIT {_ROWS_A_TRIM}"
        )
        query = f"DELETE FROM entries WHERE seq IN ({oldest})"
        dropped = sum(self._in_slices(query, (before_clock_ms,), _ROWS_A_TRIM))
        self._give_back_room()
        return dropped

    def trim_transitions(self, through_seq: int) -> int:
        """See `Log.trim_transitions`."""
        before = self._kept_transition_count()
        oldest = (
            "SELECT first_seq FROM transitions WHERE last_seq <= ? "
            "AND first_seq < (SELECT MAX(first_seq) FROM transitions) "
            f"ORDER BY first_seq LIMIT {_ROWS_A_TRIM}"
        )
        query = f"DELETE FROM transitions WHERE first_seq IN ({oldest})"
        for _ in self._in_slices(query, (through_seq,), _ROWS_A_TRIM):
            pass
        self._give_back_room()
        return before - self._kept_transition_count()

    def size_bytes(self) -> int:
        """See `Log.size_bytes`."""
        names = ("page_count", "freelist_count", "page_size")
        pages, unused, page_bytes = (int(self._read(f"PRAGMA {name}")[0][0]) for name in names)
        return (pages - unused) * page_bytes

    def close(self) -> None:
        """See `Log.close`. Nobody may be reading or writing any more."""
        with self._lock:
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            self._writer.close()

    def _check_continues(self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock]) -> None:
        seq, clock_ms, transition_seq = self._last_seq, self._last_clock_ms, self._last_transition_seq
        for entry in entries:
            if entry.seq != seq + 1 or (clock_ms is not None and entry.clock_ms < clock_ms):
                message = (
                    f"{self._path}: entry {entry.seq} at clock {entry.clock_ms} does not follow "
                    f"entry {seq} at clock {clock_ms}."
                )
                raise InternalError(message)
            seq, clock_ms = entry.seq, entry.clock_ms
        for block in transitions:
            if block.first_seq != transition_seq + 1 or block.last_seq < block.first_seq:
                message = (
                    f"{self._path}: transitions {block.first_seq} to {block.last_seq} do not follow "
                    f"transition {transition_seq}."
                )
                raise InternalError(message)
            transition_seq = block.last_seq

    @contextmanager
    def _owned_transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that fails if a newer owner has opened the file. The lock must be held."""
        if self._closed:
            message = f"{self._path} was written to after it was closed."
            raise InternalError(message)
        with transaction(self._writer, self._path):
            owner = _scalar(self._writer, "SELECT value FROM meta WHERE key = 'writer'")
            if owner != self._writer_number:
                raise _taken_over(self._path)
            yield self._writer

    def _in_slices(self, query: str, values: Sequence[Any], slice_rows: int) -> Iterator[int]:
        """Run a deletion of at most `slice_rows` rows until it finds no more; commits may come between."""
        changed = slice_rows
        while changed == slice_rows:
            with self._lock, self._owned_transaction() as connection:
                changed = connection.execute(query, values).rowcount
            yield changed

    def _give_back_room(self) -> None:
        """Shrink the file to the disk's good once most of it is unused; otherwise the room is used again."""
        while True:
            with self._lock:
                pages = _scalar(self._writer, "PRAGMA page_count")
                unused = _scalar(self._writer, "PRAGMA freelist_count")
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
            raise damaged(self._path, f"entry {entry.seq} ({entry.kind}) does not match its checksum")
        return entry

    def _block(self, row: Sequence[Any]) -> TransitionBlock:
        *fields, checksum = row
        block = TransitionBlock(*fields)
        if block.checksum() != checksum:
            what = f"the transitions {block.first_seq} to {block.last_seq} do not match their checksum"
            raise damaged(self._path, what)
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


def _create_or_check_schema(writer: sqlite3.Connection, path: Path) -> None:
    if _scalar(writer, "SELECT COUNT(*) FROM sqlite_schema") == 0:
        for statement in _SCHEMA:
            writer.execute(statement)
        writer.execute("INSERT INTO meta VALUES ('schema', ?)", (_SCHEMA_VERSION,))
    found = _scalar(writer, "SELECT MAX(value) FROM meta WHERE key = 'schema'")
    if found != _SCHEMA_VERSION:
        message = f"{path} has schema version {found}; this release reads version {_SCHEMA_VERSION}."
        raise DataDirError(message, next_step="Start the release that wrote it, or use another --data-dir.")


def _take_over(writer: sqlite3.Connection, path: Path, owner_epoch: int) -> int:
    """Make this connection the owner; give its number, by which every later write checks that it still is."""
    seen = _scalar(writer, "SELECT MAX(value) FROM meta WHERE key = 'owner_epoch'")
    if seen is not None and seen > owner_epoch:
        raise _taken_over(path)
    number = (_scalar(writer, "SELECT MAX(value) FROM meta WHERE key = 'writer'") or 0) + 1
    writer.executemany(_INSERT_META, (("owner_epoch", owner_epoch), ("writer", number)))
    return int(number)


def _taken_over(path: Path) -> DataDirError:
    return DataDirError(
        f"{path} belongs to a newer run of Usher; this one may not write to it any more.",
        next_step="End this process: it outlived its run.",
    )


def _last_entry_position(connection: sqlite3.Connection) -> tuple[int, int | None]:
    row = connection.execute("SELECT seq, clock_ms FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    return (0, None) if row is None else (row[0], row[1])


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.seq,
        entry.clock_ms,
        entry.kind,
        entry.definitions_version,
        entry.row_count,
        entry.payload,
        entry.subject,
        entry.checksum(),
    )


def _block_row(block: TransitionBlock) -> tuple[Any, ...]:
    return (block.first_seq, block.last_seq, block.max_at_ms, block.payload, block.checksum())


def _is(kind: EntryKind) -> str:
    """A literal, not a parameter: only then does SQLite see that the partial index holds these rows."""
    if kind not in ENTRY_KINDS:
        message = f"There is no entry kind {kind!r}."
        raise InternalError(message)
    return f"kind = '{kind}'"


def _scalar(connection: sqlite3.Connection, query: str) -> Any:
    return connection.execute(query).fetchone()[0]
