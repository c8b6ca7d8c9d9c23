"""The embedded log: one SQLite file an evaluator, entries and transitions in one transaction."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from cluster.errors import DataDirError, Fenced, InternalError
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
from cluster.log.records import (
    ENTRY_KINDS,
    LASTING_KINDS,
    NO_META,
    Entry,
    EntryKind,
    LastingKind,
    TransitionBlock,
)
from cluster.log.write_ahead import inspect

_log = logging.getLogger("usher.log")

_SCHEMA_VERSION: Final = 1
#: Entries a read fetches at once: 16 batches of 500 KB are 8 MB.
_ENTRIES_A_READ: Final = 16
#: Entries (or blocks) a trim deletes in one transaction: commits wait 15 ms for batches of 500 KB.
_ROWS_A_TRIM: Final = 16
#: Pages given back to the disk in one transaction, once more than half of the file is unused.
_PAGES_A_VACUUM: Final = 64
#: Before a damaged end is believed.
_LOOK_AGAIN_S: Final = 0.1

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
    # Above these numbers nothing was trimmed: there a gap is damage.
    "INSERT INTO meta VALUES ('trimmed_seq', 0), ('trimmed_transition_seq', 0)",
)
_ENTRY: Final = "seq, clock_ms, kind, definitions_version, row_count, payload, subject, checksum"
_BLOCK: Final = "first_seq, last_seq, max_at_ms, payload, checksum"
INSERT_ENTRY: Final = f"INSERT INTO entries ({_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_BLOCK: Final = f"INSERT INTO transitions ({_BLOCK}) VALUES (?, ?, ?, ?, ?)"
INSERT_META: Final = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
#: Callers' keys are kept apart from the log's own.
USER: Final = "user."


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
        self._end = _end_of(writer)

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
            _look_at_the_end(path)
        writer = connect_writer(path, durable=durable)
        try:
            with transaction(writer, path):
                _create_or_check_schema(writer, path)
                number = _take_over(writer, path, owner_epoch)
            acknowledged = Acknowledged(path.with_name(f"{path.name}-acknowledged"))
            with typed_errors(path):
                log = cls(path, writer, number, acknowledged)
            if durable:
                _check_nothing_is_lost(path, log._end, *acknowledged.read())
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
                connection.executemany(_INSERT_BLOCK, map(_block_row, transitions))
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
        rows: list[Any] = [None]
        while rows:
            with self._reader() as connection, _snapshot(connection):
                rows = connection.execute(query, (after_seq,)).fetchall()
                whole = len(rows) == _ENTRIES_A_READ
                through_seq = rows[-1][0] if whole else _end_of(connection).seq
                self._check_no_gap(connection, after_seq, through_seq)
            yield from map(self._entry, rows)
            after_seq = rows[-1][0] if rows else after_seq

    def _check_no_gap(self, connection: sqlite3.Connection, after_seq: int, through_seq: int) -> None:
        """Raise where an entry of this range is not there that no trim took; `connection` reads one state."""
        trimmed = _trimmed(connection, "trimmed_seq")
        if trimmed is None or through_seq <= max(after_seq, trimmed):
            return
        after_seq = max(after_seq, trimmed)
        count = "SELECT COUNT(*) FROM entries WHERE seq > ? AND seq <= ?"
        found = connection.execute(count, (after_seq, through_seq)).fetchone()[0]
        if found != through_seq - after_seq:
            what = f"of the entries {after_seq + 1} to {through_seq} only {found} are there"
            raise damaged(self._path, what, f"entries {after_seq + 1} to {through_seq}")

    def newest(self, kind: LastingKind) -> list[Entry]:
        """See `Log.newest`."""
        newest = f"SELECT MAX(seq) FROM entries WHERE {_is(kind)} GROUP BY subject"
        query = f"SELECT {_ENTRY} FROM entries WHERE seq IN ({newest}) ORDER BY seq"
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
        rows = self._read(f"SELECT clock_ms FROM entries WHERE {_is('batch')} ORDER BY seq LIMIT 1")
        return int(rows[0][0]) if rows else None

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """See `Log.transitions_after`."""
        blocks: list[TransitionBlock] = []
        with self._reader() as connection, _snapshot(connection):
            # The block that holds seq + 1 is the one with the greatest first_seq at or below it.
            start = "SELECT COALESCE(MAX(first_seq), 0) FROM transitions WHERE first_seq <= ?1 + 1"
            query = (
                f"SELECT {_BLOCK} FROM transitions WHERE last_seq > ?1 AND first_seq >= ({start}) ORDER BY first_seq"
            )
            trimmed = _trimmed(connection, "trimmed_transition_seq") or 0
            before = max(seq, trimmed)
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
        lasting = " OR ".join(map(_is, LASTING_KINDS))
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
                int(_scalar(connection, f"PRAGMA {name}")) for name in ("page_count", "freelist_count", "page_size")
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
            owner = _scalar(self._writer, "SELECT value FROM meta WHERE key = 'writer'")
            if owner != self._writer_number:
                raise _taken_over(self._path)
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
                    through = max(_trimmed(connection, mark) or 0, *gone)
                    connection.execute(INSERT_META, (mark, through))
            changed = len(gone)
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


def _look_at_the_end(path: Path) -> None:
    """Raise where SQLite is about to drop acknowledged commits; warn where it drops one that nobody was told of."""
    found = inspect(path)
    if found.lost:
        # An orphan may have written while the file was read: what is damage is still there a moment later.
        time.sleep(_LOOK_AGAIN_S)
        found = inspect(path)
    ahead = path.with_name(f"{path.name}-wal")
    if found.lost:
        step = (
            f"Stop Usher and keep copies of {path} and {ahead}; then restore all files of this name from a backup. To "
            f"go on without what was lost after that place instead: `truncate -s {found.torn_at} {ahead}`, and delete "
            f"{path.name}-acknowledged."
        )
        what = f"acknowledged commits lie behind damage at offset {found.torn_at}"
        raise damaged(ahead, what, f"offset {found.torn_at}", step)
    if found.torn_at is not None:
        # SQLite writes over it; if it turns out to be more, somebody will want to look at it.
        with suppress(OSError):
            shutil.copyfile(ahead, ahead.with_name(f"{ahead.name}-torn"))
        _log.warning(
            "%s ends with a commit that was cut short at offset %d. It was never acknowledged, and is dropped.",
            ahead, found.torn_at,
        )  # fmt: skip


def _check_nothing_is_lost(path: Path, end: End, seq: int, transition_seq: int) -> None:
    if end.seq >= seq and end.transition_seq >= transition_seq:
        return
    note = f"{path.name}-acknowledged"
    what = (
        f"it ends at entry {end.seq} and transition {end.transition_seq}, but entry {seq} and transition "
        f"{transition_seq} were acknowledged ({note})"
    )
    step = (
        f"Stop Usher and restore all files of this name from one backup. To go on without what is lost instead: delete "
        f"{note}."
    )
    raise damaged(path, what, f"after entry {end.seq}", step)


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
    writer.executemany(INSERT_META, (("owner_epoch", owner_epoch), ("writer", number)))
    return int(number)


def _taken_over(path: Path) -> Fenced:
    return Fenced(
        f"{path} belongs to a newer run of Usher; this one may not write to it any more.",
        next_step="End this process: it outlived its run.",
    )


def _end_of(connection: sqlite3.Connection) -> End:
    row = connection.execute("SELECT seq, clock_ms FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    transition_seq = int(_scalar(connection, "SELECT COALESCE(MAX(last_seq), 0) FROM transitions"))
    seq, clock_ms = row or (0, None)
    return End(seq, clock_ms, transition_seq)


def _trimmed(connection: sqlite3.Connection, mark: str) -> int | None:
    """Give up to which number something may have been trimmed; None: an older release's file, which did not note it."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (mark,)).fetchone()
    return None if row is None else int(row[0])


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all reads inside see one state of the file."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def entry_row(entry: Entry) -> tuple[Any, ...]:
    """Give the values of `INSERT_ENTRY`."""
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
