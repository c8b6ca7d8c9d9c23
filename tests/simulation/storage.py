"""Where a run's files lie, and what a loss of power leaves of them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from cluster.errors import StorageFull
from cluster.limits import RETRY_AFTER_MS
from cluster.log.contract import Log
from cluster.log.records import NO_META, Entry, EntryKind, TransitionBlock
from cluster.log.sqlite import EvaluatorLog
from cluster.runtime.data_dir import DataDir
from tests.simulation.history import History
from tests.simulation.journal import JournalLog, SimFile
from tests.simulation.processes import Process

#: `PRAGMA synchronous` from which on a commit is on the disk when it returns.
_SYNCHRONOUS_FULL: Final = 2
#: What a disk writes whole or not at all.
_SECTOR_BYTES: Final = 4096


class Medium(Protocol):
    """What evaluators' logs lie on. Another log (a broker's, say) takes part by being one of these."""

    def open(self, index: int, epoch: int, process: Process) -> Log:
        """Open the log of evaluator `index` for a process, which then owns it.

        The log passes the process's point `unsynced` in every commit, where it has one.
        """
        ...

    def lose_power(self, stream: Random) -> None:
        """Forget what was not synced. Every process that used it is about to die."""
        ...

    def patches(self) -> dict[str, Any]:
        """Name what else it puts in whose place."""
        ...

    def close(self) -> None:
        """Let go of everything, at the end of the world."""
        ...


class JournalMedium:
    """Journals on a simulated disk."""

    def __init__(self) -> None:
        self._files: dict[int, SimFile] = {}

    def open(self, index: int, epoch: int, process: Process) -> Log:
        """See `Medium`."""
        file = self._files.setdefault(index, SimFile())
        return JournalLog(file, owner_epoch=epoch, written=lambda: process.at("unsynced"))

    def lose_power(self, stream: Random) -> None:
        """See `Medium`."""
        for file in self._files.values():
            file.lose_power(stream)

    def patches(self) -> dict[str, Any]:
        """See `Medium`."""
        return {}

    def close(self) -> None:
        """See `Medium`."""


class DataFolder:
    """A data dir of real files on a real disk, which never fails: a loss of power is played by what is copied of them.

    A commit of SQLite with `synchronous=FULL` is on the disk when it returns. One that power is lost in is torn: of the
    sectors that it wrote into the write-ahead file, some are there, in no order. Without FULL, nothing since the file
    was opened is. Of a cache, which is not synced, there is some beginning, or nothing at all. Checkpoints are synced
    before they have their names, and are all there. How far a log was acknowledged is noted beside it and never synced:
    that note is there or not, and not yet for a torn commit.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = 0
        #: Open files: their connection, and their write-ahead file as it was when they were opened.
        self._open: dict[Path, tuple[sqlite3.Connection, bytes]] = {}
        #: The file that is in a commit, and what its write-ahead file and its note were before.
        self._torn: tuple[Path, bytes, bytes] | None = None
        self.names.path.mkdir(parents=True)

    @property
    def names(self) -> DataDir:
        """The data dir of the present start of the machine."""
        return DataDir(self._path / f"boot-{self._boot}")

    def opened(self, path: Path, connection: sqlite3.Connection, process: Process) -> None:
        """Note a file that a process opened for writing; it is closed when that dies."""
        self._open[path] = (connection, _bytes_of(_wal(path)))

        def close() -> None:
            if self._open.get(path, (None,))[0] is connection:
                del self._open[path]
            connection.close()

        process.at_death(close)

    @contextmanager
    def committing(self, path: Path, process: Process) -> Iterator[None]:
        """Around a commit of a process: at its end, between write and sync, power may be lost."""
        armed = process.is_armed("unsynced")
        before = (_bytes_of(_wal(path)), _bytes_of(_note(path))) if armed else (b"", b"")
        yield
        self._torn = (path, *before)
        try:
            process.at("unsynced")
        finally:
            self._torn = None

    def lose_power(self, stream: Random) -> None:
        """Go on in a copy. Before the processes die: SQLite tidies up when a file is closed."""
        old = self.names.path
        paths = [path for path in sorted(old.glob("*.db")) if not _is_cache(path) or stream.random() < 0.5]
        contents = {path: (_bytes_of(path), self._synced(path, stream)) for path in paths}
        notes = {path: self._noted(path) for path in contents if stream.random() < 0.5}
        self._boot += 1
        self._open.clear()
        new = self.names.path
        new.mkdir()
        for path, (pages, wal) in contents.items():
            (new / path.name).write_bytes(pages)
            if wal:
                _wal(new / path.name).write_bytes(wal)
        for path, note in notes.items():
            if note:
                _note(new / path.name).write_bytes(note)
        if (old / "checkpoints").exists():
            shutil.copytree(old / "checkpoints", new / "checkpoints")

    def _synced(self, path: Path, stream: Random) -> bytes:
        connection, at_open = self._open.get(path, (None, b""))
        present = _bytes_of(_wal(path))
        if _is_cache(path):
            return present[: stream.randint(0, len(present))]
        if connection is not None:
            (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
            if synchronous < _SYNCHRONOUS_FULL:
                return at_open
        if self._torn is not None and self._torn[0] == path:
            return _torn(self._torn[1], present, stream)
        return present

    def _noted(self, path: Path) -> bytes:
        return self._torn[2] if self._torn is not None and self._torn[0] == path else _bytes_of(_note(path))


class SqliteMedium:
    """The embedded log as it is, in a folder."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder

    def open(self, index: int, epoch: int, process: Process) -> Log:
        """See `Medium`."""
        path = self._folder.names.evaluator_db(index)
        log = EvaluatorLog.open(path, owner_epoch=epoch)
        self._folder.opened(path, log._writer, process)
        process.at_death(log.close)
        return _TornLog(log, path, self._folder, process)

    def lose_power(self, stream: Random) -> None:
        """The folder does it."""

    def patches(self) -> dict[str, Any]:
        """See `Medium`."""
        return {}

    def close(self) -> None:
        """See `Medium`."""


class Passed:
    """A log that passes every call on."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def commit(
        self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock], meta: Mapping[str, bytes] = NO_META
    ) -> None:
        """See `Log.commit`."""
        self._log.commit(entries, transitions, meta)

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """See `Log.entries`."""
        return self._log.entries(after_seq, kinds, from_clock_ms)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class _TornLog(Passed):
    """The SQLite log, with a moment between write and sync at which power may be lost."""

    def __init__(self, log: Log, path: Path, folder: DataFolder, process: Process) -> None:
        super().__init__(log)
        self._path = path
        self._folder = folder
        self._process = process

    def commit(
        self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock], meta: Mapping[str, bytes] = NO_META
    ) -> None:
        """See `Log.commit`."""
        with self._folder.committing(self._path, self._process):
            super().commit(entries, transitions, meta)


class WatchedLog(Passed):
    """A log on a disk that may be full, whose commits are noted, and which its process may die in."""

    def __init__(self, log: Log, history: History, process: Process) -> None:
        super().__init__(log)
        self._history = history
        self._process = process

    def commit(
        self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock], meta: Mapping[str, bytes] = NO_META
    ) -> None:
        """See `Log.commit`."""
        self._process.at("before_commit")
        self._require_any_room()
        super().commit(entries, transitions, meta)
        self._history.commit(entries, transitions, self._process.loop.time(), meta)
        self._process.at("after_commit")

    def require_room(self, batch_bytes: int) -> None:
        """See `Log.require_room`."""
        self._require_any_room()
        self._log.require_room(batch_bytes)

    def _require_any_room(self) -> None:
        if self._process.machine.full:
            message = "The disk is full."
            raise StorageFull(message, retry_after_ms=RETRY_AFTER_MS)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _is_cache(path: Path) -> bool:
    return path.name.endswith(".cache.db")


def _note(path: Path) -> Path:
    return path.with_name(path.name + "-acknowledged")


def _torn(before: bytes, after: bytes, stream: Random) -> bytes:
    """Mix two states of a file by sectors: any of those written may have got to the disk, but not all of them."""
    starts = [start for start in range(0, len(after), _SECTOR_BYTES) if _sector(before, start) != _sector(after, start)]
    lost = {start for start in starts if stream.random() < 0.5} or set(starts[-1:])
    mixed = b"".join(
        _sector(before, start).ljust(_SECTOR_BYTES, b"\0") if start in lost else _sector(after, start)
        for start in range(0, len(after), _SECTOR_BYTES)
    )
    # A file grows by what was written: behind the last sector that is there, nothing is.
    there = [start for start in starts if start not in lost]
    size_bytes = max(len(before), there[-1] + _SECTOR_BYTES if there else 0)
    return mixed[: min(size_bytes, len(after))]


def _sector(content: bytes, start: int) -> bytes:
    return content[start : start + _SECTOR_BYTES]


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
