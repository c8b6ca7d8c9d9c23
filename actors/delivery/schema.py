"""The tables of `delivery.db`, and the statements that several stores use."""

from __future__ import annotations

import os
import sqlite3
from typing import Any, Final

#: As the index has it: SQLite then knows that the index serves.
REPEATED: Final = "cause IN ('identifiers', 'resync')"
SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS syncs (
    sync TEXT PRIMARY KEY, incarnation INTEGER NOT NULL, identity TEXT NOT NULL, fingerprint BLOB NOT NULL,
    next_order INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0, suspended INTEGER NOT NULL DEFAULT 0,
    halted TEXT NOT NULL DEFAULT '', halt_reason TEXT NOT NULL DEFAULT '', delivered INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0, learned TEXT NOT NULL DEFAULT '{{}}',
    swept INTEGER NOT NULL DEFAULT 0, swept_key TEXT NOT NULL DEFAULT '', remembers INTEGER NOT NULL DEFAULT 0,
    resync_ms INTEGER NOT NULL DEFAULT 0, resynced_ms INTEGER NOT NULL DEFAULT 0, ending TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (
    sync TEXT NOT NULL, evaluator INTEGER NOT NULL, seq INTEGER NOT NULL, resync_ms INTEGER NOT NULL,
    PRIMARY KEY (sync, evaluator)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spools (
    sync TEXT NOT NULL, evaluator INTEGER NOT NULL, seq INTEGER NOT NULL, count INTEGER NOT NULL,
    taken INTEGER NOT NULL, cause TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (sync, evaluator)
);
CREATE TABLE IF NOT EXISTS ledger (
    sync TEXT NOT NULL, user TEXT NOT NULL, inside INTEGER NOT NULL, version INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    n INTEGER NOT NULL, identifiers BLOB NOT NULL, seen_ms INTEGER NOT NULL, PRIMARY KEY (sync, user)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    sync TEXT NOT NULL, ord INTEGER NOT NULL, span INTEGER NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL,
    records BLOB NOT NULL, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    first_attempt_ms INTEGER NOT NULL DEFAULT 0, next_attempt_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (sync, ord)
);
CREATE TABLE IF NOT EXISTS dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sync TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL,
    count INTEGER NOT NULL, records BLOB NOT NULL, body BLOB NOT NULL, died_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, reason TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL,
    reviving INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS dead_letters_of_sync ON dead_letters (sync, number);
CREATE TABLE IF NOT EXISTS dead_users (
    sync TEXT NOT NULL, user TEXT NOT NULL, letter INTEGER NOT NULL, PRIMARY KEY (sync, user, letter)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledger_left ON ledger (sync, at_ms) WHERE inside=0;
CREATE TABLE IF NOT EXISTS room (
    sync TEXT NOT NULL, user TEXT NOT NULL, due_ms INTEGER NOT NULL, number INTEGER NOT NULL, inside INTEGER NOT NULL,
    version INTEGER NOT NULL, at_ms INTEGER NOT NULL, n INTEGER NOT NULL, cause TEXT NOT NULL, PRIMARY KEY (sync, user)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS room_repeats ON room (sync) WHERE {REPEATED};
CREATE INDEX IF NOT EXISTS room_due ON room (sync, due_ms, number);
CREATE TABLE IF NOT EXISTS present (
    sync TEXT NOT NULL, resync_ms INTEGER NOT NULL, name BLOB NOT NULL, PRIMARY KEY (sync, resync_ms, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS room_backlogs (
    sync TEXT PRIMARY KEY, taken INTEGER NOT NULL, waiting INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS room_chunks (
    sync TEXT NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, alive INTEGER NOT NULL,
    parked_ms INTEGER NOT NULL, at_ms INTEGER, codes BLOB, dead BLOB, PRIMARY KEY (sync, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS room_rows (
    id INTEGER PRIMARY KEY, keys BLOB NOT NULL, checks BLOB NOT NULL, payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS asked (
    sync TEXT NOT NULL, id TEXT NOT NULL, batch_id TEXT NOT NULL, count INTEGER NOT NULL, since_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, tries INTEGER NOT NULL, PRIMARY KEY (sync, id)
) WITHOUT ROWID;
"""
#: Every table that holds rows of a sync.
TABLES: Final = (
    "syncs", "cursors", "spools", "batches", "dead_letters", "dead_users", "asked", "ledger", "room", "room_backlogs",
    "room_chunks", "present",
)  # fmt: skip
_ROWS_OF_CHUNKS: Final = "DELETE FROM room_rows WHERE id IN (SELECT first FROM room_chunks WHERE sync=?)"


def prepare(connection: sqlite3.Connection) -> bytes:
    """Make the tables that are not there; gives the file's salt."""
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", (os.urandom(32),))
    (salt,) = connection.execute("SELECT value FROM meta WHERE key='salt'").fetchone()
    return bytes(salt)


def run(connection: sqlite3.Connection, statement: str, *values: Any) -> None:
    """Execute a statement."""
    connection.execute(statement, values)


def forget(connection: sqlite3.Connection, sync: str) -> None:
    """Delete all that is known of a sync."""
    connection.execute(_ROWS_OF_CHUNKS, (sync,))
    for table in TABLES:
        connection.execute(f"DELETE FROM {table} WHERE sync=?", (sync,))


def clear_room(connection: sqlite3.Connection, sync: str) -> None:
    """Delete what waits on disk of a sync."""
    connection.execute(_ROWS_OF_CHUNKS, (sync,))
    for table in ("room", "room_backlogs", "room_chunks"):
        connection.execute(f"DELETE FROM {table} WHERE sync=?", (sync,))
