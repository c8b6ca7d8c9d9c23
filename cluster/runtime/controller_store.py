"""`controller.db`: definitions by version, key hashes, placement and who applied what when.

Mode 600, because destination secrets and write keys are inside the stored documents. WAL with synchronous=FULL: what a
method has written survives kill -9 and loss of power once it returns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from cluster.errors import StorageFull
from cluster.limits import RETRY_AFTER_MS
from cluster.log.database import connect_writer, transaction, typed_errors
from cluster.log.occupancy import Occupancy
from cluster.runtime.placement import Placement, Scaling
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
    """The controller's file: one process, one connection.

    `epoch`: under which its process owns the file; an earlier owner's writes raise Fenced. None: it looks into the file
    and leaves whose it is.
    Raises DataDirError where the file is damaged or held by another process, StorageFull where it cannot be written.
    """

    def __init__(self, path: Path, epoch: int | None = None) -> None:
        self._path = path
        with typed_errors(path):
            make_private(path)
            self._db = connect_writer(path)
            self._db.executescript(_SCHEMA)
            self._occupancy = None if epoch is None else Occupancy.take(self._db, path, epoch)

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

    def placement(self) -> Placement | None:
        """Give who owns what; None before the first start."""
        text = self.meta("placement")
        return None if text is None else msgspec.json.decode(text, type=Placement)

    def scaling(self) -> Scaling | None:
        """Give the change of placement that is under way."""
        text = self.meta("scaling")
        return msgspec.json.decode(text, type=Scaling) if text else None

    def set_placement(self, placement: Placement, scaling: Scaling | None = None) -> None:
        """Note who owns what and the change under way, at once: evaluators' logs are divided by it."""
        values = {
            "placement": msgspec.json.encode(placement).decode(),
            "scaling": msgspec.json.encode(scaling).decode() if scaling is not None else "",
        }
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", list(values.items()))

    def count_start(self) -> int:
        """Count this start of the controller, from 1."""
        starts = int(self.meta("starts") or 0) + 1
        self.set_meta("starts", str(starts))
        return starts

    def log_uri(self) -> str | None:
        """Give where this data dir's logs were last kept (empty: in it); None for one without a first start."""
        return self.meta("log") or ("" if self.placement() is not None else None)

    def set_log_uri(self, uri: str) -> None:
        """Note where the logs are kept: brokers may change, what they keep may not."""
        self.set_meta("log", uri)

    def meta(self, key: str) -> str | None:
        """Give a meta value; None where it was never set."""
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set a meta value."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (key, value))

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._db, self._path) if self._occupancy is None else self._occupancy.transaction()

    def _audit(self, at_ms: int, who: str, action: str, subject: str, detail: str) -> None:
        self._db.execute(
            "INSERT INTO audit(at_ms, who, action, subject, detail) VALUES (?,?,?,?,?)",
            (at_ms, who, action, subject, detail),
        )


def make_private(path: Path) -> None:
    """Make the file with mode 600 before SQLite does: its -wal and -shm files take the mode of the main one.

    Raises StorageFull where it cannot be made.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}."
        raise StorageFull(
            message, retry_after_ms=RETRY_AFTER_MS, next_step="Make the data dir writable, or use another --data-dir."
        ) from error
