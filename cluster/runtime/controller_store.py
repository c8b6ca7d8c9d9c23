"""`controller.db`: definitions by version, key hashes, placement and who applied what when.

Mode 600, because destination secrets and write keys are inside the stored documents. WAL with synchronous=FULL: what a
method has written survives kill -9 and loss of power once it returns.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cluster.errors import DataDirError
from cluster.runtime.protocols import KeyRecord, Role

_SCHEMA = """
CREATE TABLE IF NOT EXISTS definitions(
  version INTEGER PRIMARY KEY, applied_at_ms INTEGER NOT NULL, applied_by TEXT NOT NULL,
  document TEXT NOT NULL, audience_versions TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS keys(
  id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, hash_hex TEXT NOT NULL, created_at_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS audit(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, who TEXT NOT NULL,
  action TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class StoredDefinitions:
    """One published version as stored: its merged document (secrets inside) and its audiences' versions."""

    version: int
    document: Mapping[str, Any]
    audience_versions: Mapping[str, int]


class ControllerStore:
    """The controller's file. One process, one connection; raises DataDirError where it cannot be used."""

    def __init__(self, path: Path) -> None:
        try:
            # SQLite gives its -wal and -shm files the mode of the main file, so that one is made first.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            path.chmod(0o600)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise DataDirError(
                f"{path}: the controller's file cannot be opened: {error}.",
                next_step="Check that the data dir is writable and has free space, or choose another --data-dir.",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- definitions -----------------------------------------------------------------------------

    def add_definitions(self, stored: StoredDefinitions, now_ms: int, who: str, detail: str) -> None:
        """Store a version and its audit row in one transaction."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO definitions VALUES (?,?,?,?,?)",
                (
                    stored.version,
                    now_ms,
                    who,
                    json.dumps(stored.document),
                    json.dumps(dict(stored.audience_versions)),
                ),
            )
            self._audit(now_ms, who, "apply", f"version {stored.version}", detail)

    def definitions(self, version: int) -> StoredDefinitions | None:
        """Give a stored version; None where there is none."""
        row = self._db.execute(
            "SELECT version, document, audience_versions FROM definitions WHERE version=?", (version,)
        ).fetchone()
        return None if row is None else StoredDefinitions(row[0], json.loads(row[1]), json.loads(row[2]))

    def newest_version(self) -> int:
        """Give the newest stored version, 0 before the first."""
        return int(self._db.execute("SELECT COALESCE(MAX(version), 0) FROM definitions").fetchone()[0])

    # --- keys ------------------------------------------------------------------------------------

    def keys(self) -> list[KeyRecord]:
        """Give every key that is in force, oldest first."""
        rows = self._db.execute(
            "SELECT id, name, role, hash_hex, created_at_ms FROM keys ORDER BY created_at_ms, id"
        ).fetchall()
        return [KeyRecord(row[0], row[1], cast("Role", row[2]), row[3], row[4]) for row in rows]

    def add_key(self, key: KeyRecord, who: str) -> None:
        """Store a key's hash and its audit row."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO keys VALUES (?,?,?,?,?)",
                (key.id, key.name, key.role, key.hash_hex, key.created_at_ms),
            )
            self._audit(key.created_at_ms, who, "create_key", key.id, f"{key.role} {key.name}".strip())

    def remove_key(self, key_id: str, now_ms: int, who: str) -> None:
        """Forget a key; its audit rows stay."""
        with self._transaction():
            self._db.execute("DELETE FROM keys WHERE id=?", (key_id,))
            self._audit(now_ms, who, "revoke_key", key_id, "")

    # --- the rest --------------------------------------------------------------------------------

    def audit_rows(self, limit: int) -> list[dict[str, Any]]:
        """Give the newest audit rows, newest first."""
        names = ("seq", "at_ms", "who", "action", "subject", "detail")
        rows = self._db.execute(f"SELECT {', '.join(names)} FROM audit ORDER BY seq DESC LIMIT ?", (limit,))
        return [dict(zip(names, row, strict=True)) for row in rows]

    def meta(self, key: str) -> str | None:
        """Give a meta value; None where it was never set."""
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set a meta value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (key, value))

    def _audit(self, at_ms: int, who: str, action: str, subject: str, detail: str) -> None:
        self._db.execute(
            "INSERT INTO audit(at_ms, who, action, subject, detail) VALUES (?,?,?,?,?)",
            (at_ms, who, action, subject, detail),
        )

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, rolled back by an exception."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
