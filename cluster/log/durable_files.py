"""Writing whole files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

#: Bytes of a large file that are made durable at once.
_SYNCED_BYTES: Final = 8 << 20


def replace_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a small file: after a crash it holds the old content or the new, whole. Raises `OSError`."""
    with replacing(path, mode) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, mode: int = 0o600, check: Callable[[], None] = lambda: None) -> Iterator[BinaryIO]:
    """Give a file to write to, which becomes `path` durably at the end; on an error `path` stays as it was.

    Raises `OSError`. It is written beside, hidden; one that a crash leaves there is removed next time, not written
    over: whoever began it may have been stopped, and go on. `check` comes last: what it raises leaves `path` as it was.
    """
    beside = path.with_name(f".{path.name}.tmp")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check()
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class InSlices(io.RawIOBase):
    """Writes to a file in slices, each synced before the next one: for large files.

    A file system orders one file's commit behind what others have waiting for the disk: the log of an evaluator, which
    is synced for each group, waits for a slice, and not for hundreds of MB.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unsynced = 0

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, content: Any) -> int:
        """Write all of it. Raises `OSError`."""
        view = memoryview(content).cast("B")
        for start in range(0, len(view), _SYNCED_BYTES):
            part = view[start : start + _SYNCED_BYTES]
            self._file.write(part)
            self._unsynced += len(part)
            if self._unsynced >= _SYNCED_BYTES:
                self._file.flush()
                os.fdatasync(self._file.fileno())
                self._unsynced = 0
        return len(view)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
