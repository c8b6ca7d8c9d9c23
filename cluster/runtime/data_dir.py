"""The data dir: the names of the files in it, and who owns it.

One run owns a data dir at a time. The lock keeps a second run out; the epoch, one more at each opening, lets
files refuse what an orphan of a killed run still tries to write: the lock dies with its process, an orphan
may live on.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from cluster.errors import DataDirError
from cluster.log.durable_files import replace_durably

_WRITABLE: Final = "Give this user write access to it and room on its disk, or use another --data-dir."


@dataclass(frozen=True, slots=True)
class DataDir:
    """Names inside a data dir. Costs nothing, touches nothing, and may be sent to any process."""

    path: Path

    @property
    def controller_db(self) -> Path:
        """Definitions, versions, API keys (hashed), placement."""
        return self.path / "controller.db"

    @property
    def delivery_db(self) -> Path:
        """Cursors, durable batches, the sync log, dead letters."""
        return self.path / "delivery.db"

    def evaluator_db(self, index: int) -> Path:
        """Give the log of the evaluator `index`."""
        return self.path / f"evaluator-{index}.db"

    def evaluator_cache(self, index: int) -> Path:
        """Give what the evaluator `index` has of a log that is kept elsewhere; it may be deleted while none runs."""
        return self.path / f"evaluator-{index}.cache.db"

    @property
    def traits(self) -> Path:
        """The folder of immutable trait snapshots, one folder a parent model."""
        return self.path / "traits"

    @property
    def membership(self) -> Path:
        """The folder of mapped membership files."""
        return self.path / "membership"

    @property
    def checkpoints(self) -> Path:
        """The folder of evaluators' checkpoints, unless a state URI names another place."""
        return self.path / "checkpoints"

    @property
    def leases(self) -> Path:
        """The folder of records that say who owns which evaluator, unless logs and these are kept elsewhere."""
        return self.path / "leases"

    @property
    def admin_key(self) -> Path:
        """The admin key made on first start (mode 600)."""
        return self.path / "admin.key"

    @property
    def usher_json(self) -> Path:
        """Where the running Usher is: for `usher status`, `down` and clients."""
        return self.path / "usher.json"

    @property
    def lock(self) -> Path:
        """The file whose lock means ownership; it holds the owner's pid."""
        return self.path / "lock"

    @property
    def epoch(self) -> Path:
        """The file that counts how often this data dir was opened."""
        return self.path / "epoch"

    def open(self) -> OwnedDataDir:
        """Make it where it is missing (mode 700) and own it until `close` or the end of this process.

        Raises `DataDirError`: held by another process (with its pid), not writable, or damaged.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock_fd = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            self._take(lock_fd)
            return OwnedDataDir(self, self._next_epoch(), lock_fd)
        except BaseException:
            os.close(lock_fd)
            raise

    def _take(self, lock_fd: int) -> None:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            message = f"The data dir {self.path} is in use by process {holder}."
            step = "Stop that Usher (`usher down`), or use another --data-dir."
            raise DataDirError(message, next_step=step) from error
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _next_epoch(self) -> int:
        """Count this opening, durably, before anybody may act under it."""
        try:
            text = self.epoch.read_text("ascii") if self.epoch.exists() else "0"
            if not text.strip().isdigit():
                message = f"{self.epoch} is damaged: found {text[:32]!r}, allowed is a whole number."
                step = "Write a number larger than any before into it; 1000000 will do."
                raise DataDirError(message, next_step=step)
            epoch = int(text) + 1
            replace_durably(self.epoch, f"{epoch}\n".encode())
        except (OSError, UnicodeDecodeError) as error:
            raise _unwritable(self.path, error) from error
        return epoch


class OwnedDataDir:
    """A data dir that this process owns. Also a context manager."""

    def __init__(self, data_dir: DataDir, epoch: int, lock_fd: int) -> None:
        #: The names inside.
        self.names = data_dir
        #: Larger than in every run before: what files check their writer by.
        self.epoch = epoch
        self._lock_fd: int | None = lock_fd
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let the next run have it; a second call does nothing."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> OwnedDataDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unwritable(path: Path, error: Exception) -> DataDirError:
    return DataDirError(f"The data dir {path} cannot be used: {error}.", next_step=_WRITABLE)
