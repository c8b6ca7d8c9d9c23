"""The tables of a log's SQLite file: what they are, whose they are, and rows to and from records."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cluster.errors import DataDirError, Fenced, InternalError
from cluster.log.ends import End
from cluster.log.records import ENTRY_KINDS, Entry, EntryKind, TransitionBlock

_SCHEMA_VERSION: Final = 1
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
ENTRY: Final = "seq, clock_ms, kind, definitions_version, row_count, payload, subject, checksum"
BLOCK: Final = "first_seq, last_seq, max_at_ms, payload, checksum"
INSERT_ENTRY: Final = f"INSERT INTO entries ({ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_BLOCK: Final = f"INSERT INTO transitions ({BLOCK}) VALUES (?, ?, ?, ?, ?)"
INSERT_META: Final = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
#: Callers' keys are kept apart from the log's own.
USER: Final = "user."


def create_or_check_schema(writer: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file; DataDirError for those of another release."""
    if scalar(writer, "SELECT COUNT(*) FROM sqlite_schema") == 0:
        for statement in _SCHEMA:
            writer.execute(statement)
        writer.execute("INSERT INTO meta VALUES ('schema', ?)", (_SCHEMA_VERSION,))
    found = scalar(writer, "SELECT MAX(value) FROM meta WHERE key = 'schema'")
    if found != _SCHEMA_VERSION:
        message = f"{path} has schema version {found}; this release reads version {_SCHEMA_VERSION}."
        raise DataDirError(message, next_step="Start the release that wrote it, or use another --data-dir.")


def take_over(writer: sqlite3.Connection, path: Path, owner_epoch: int) -> int:
    """Make this connection the owner; give its number, by which every later write checks that it still is."""
    seen = scalar(writer, "SELECT MAX(value) FROM meta WHERE key = 'owner_epoch'")
    if seen is not None and seen > owner_epoch:
        raise taken_over(path, int(seen))
    number = (scalar(writer, "SELECT MAX(value) FROM meta WHERE key = 'writer'") or 0) + 1
    writer.executemany(INSERT_META, (("owner_epoch", owner_epoch), ("writer", number)))
    return int(number)


def taken_over(path: Path, epoch: int = 0) -> Fenced:
    """Make the error for who is not the owner any more."""
    return Fenced(
        f"{path} belongs to a newer run of Usher; this one may not write to it any more.",
        next_step="End this process: it outlived its run.",
        epoch=epoch,
    )


def end_of(connection: sqlite3.Connection) -> End:
    """Find where a log ends."""
    row = connection.execute("SELECT seq, clock_ms FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    transition_seq = int(scalar(connection, "SELECT COALESCE(MAX(last_seq), 0) FROM transitions"))
    seq, clock_ms = row or (0, None)
    return End(seq, clock_ms, transition_seq)


def trimmed(connection: sqlite3.Connection, mark: str) -> int | None:
    """Give up to which number something may have been trimmed; None: an older release's file, which did not note it."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (mark,)).fetchone()
    return None if row is None else int(row[0])


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
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


def block_row(block: TransitionBlock) -> tuple[Any, ...]:
    """Give the values of `INSERT_BLOCK`."""
    return (block.first_seq, block.last_seq, block.max_at_ms, block.payload, block.checksum())


def is_kind(kind: EntryKind) -> str:
    """A literal, not a parameter: only then does SQLite see that the partial index holds these rows."""
    if kind not in ENTRY_KINDS:
        message = f"There is no entry kind {kind!r}."
        raise InternalError(message)
    return f"kind = '{kind}'"


def scalar(connection: sqlite3.Connection, query: str) -> Any:
    """Give the one value of a query."""
    return connection.execute(query).fetchone()[0]
