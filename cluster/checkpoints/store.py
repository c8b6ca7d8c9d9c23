"""Where the checkpoints of one evaluator's log lie: a local folder, or a folder at any pyarrow filesystem URI.

`ROOT/EVALUATOR/LOG/SEQ.checkpoint`: named by the entry of the log at which it was taken. A local file is written beside
its place, synced and renamed; at an object store an object appears whole, when its upload is completed. What a crash
leaves of either is no checkpoint to anybody: it has no directory at its end.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.checkpoints import container
from cluster.checkpoints.container import Contents, contents
from cluster.checkpoints.parts import Part
from cluster.checkpoints.places import Place
from cluster.errors import CheckpointError, StorageFull
from cluster.log.database import require_room
from cluster.log.durable_files import replacing, sync_folder

ENDING: Final = ".checkpoint"
_NAME: Final = re.compile(rf"(\d{{16}}){re.escape(ENDING)}")
#: Bytes written to a local disk between two looks at its room.
_ROOM_EVERY_BYTES: Final = 64 * 1024 * 1024
#: Sent to an object store at once: a part of an upload has 5 MiB at least, and there are 10,000 at most.
_UPLOAD_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is there, whether or not it can be read: its entry's number, its size in bytes."""

    seq: int
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.seq:016d}{ENDING}"


class CheckpointStore:
    """The checkpoints of one evaluator's log. Safe to call from any thread; all calls block on disk or network.

    Every method raises CheckpointError with reason `unreachable` where the folder or bucket does not answer.
    """

    def __init__(self, uri: str, evaluator: str, log_id: str) -> None:
        self._place = Place(uri, evaluator, log_id)
        #: Where, as it may be shown.
        self.shown = self._place.shown
        self._local = self._place.local

    def stored(self) -> list[Stored]:
        """Give what is there, the newest entry first."""
        with self._typed("listed"):
            filesystem, folder = self._place.open()
            found = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        names = [(_NAME.fullmatch(info.base_name), info) for info in found if info.type == pafs.FileType.File]
        return sorted((Stored(int(name[1]), info.size or 0) for name, info in names if name), key=_by_seq, reverse=True)

    @contextmanager
    def open(self, stored: Stored) -> Iterator[Contents]:
        """Open a file to read from. CheckpointError also where it is damaged."""
        with self._typed(f"read ({stored.name})"):
            filesystem, folder = self._place.open()
            with filesystem.open_input_file(posixpath.join(folder, stored.name)) as source:
                yield contents(source)

    def write(self, seq: int, header: bytes, parts: Mapping[str, Part], pause: Callable[[], None]) -> Stored:
        """Write a checkpoint, durable and whole once this returns; else nothing is there that could be read.

        `pause` is called between frames, and ends the writing by what it raises. A local disk keeps its reserve:
        CheckpointError with reason `unreachable` before that is used.
        """
        stored = Stored(seq, 0)
        with self._typed(f"written ({stored.name})"):
            write = self._write_local if self._local is not None else self._upload
            return Stored(seq, write(stored.name, header, parts, pause))

    def remove(self, stored: Stored) -> None:
        """Remove a file; one that is gone is no error."""
        with self._typed(f"removed ({stored.name})"):
            filesystem, folder = self._place.open()
            with suppress(FileNotFoundError):
                filesystem.delete_file(posixpath.join(folder, stored.name))

    def _write_local(self, name: str, header: bytes, parts: Mapping[str, Part], pause: Callable[[], None]) -> int:
        assert self._local is not None
        for folder in (self._local.parent.parent, self._local.parent, self._local):
            _make(folder)
        for left in self._local.glob(".*.tmp"):
            # What a crash left of another one.
            left.unlink(missing_ok=True)
        path = self._local / name
        unlooked = _ROOM_EVERY_BYTES

        with replacing(path) as file:

            def sink(piece: Any) -> None:
                nonlocal unlooked
                unlooked += len(piece)
                if unlooked > _ROOM_EVERY_BYTES:
                    require_room(path, _ROOM_EVERY_BYTES)
                    unlooked = 0
                file.write(piece)

            return container.write(sink, header, parts, pause)

    def _upload(self, name: str, header: bytes, parts: Mapping[str, Part], pause: Callable[[], None]) -> int:
        filesystem, folder = self._place.open()
        filesystem.create_dir(folder, recursive=True)
        path = posixpath.join(folder, name)
        stream = filesystem.open_output_stream(path, buffer_size=_UPLOAD_BYTES)
        try:
            size_bytes = container.write(stream.write, header, parts, pause)
            stream.close()
        except BaseException:
            # Closing completes what there is of it; the file has no end, and is removed.
            with suppress(OSError, pa.ArrowException):
                stream.close()
                filesystem.delete_file(path)
            raise
        return size_bytes

    @contextmanager
    def _typed(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, StorageFull) as error:
            message = f"Checkpoints at {self.shown} cannot be {what}: {_first_line(error)}."
            raise CheckpointError(message, reason="unreachable") from error


def _by_seq(stored: Stored) -> int:
    return stored.seq


def _make(folder: Path) -> None:
    """Make a folder that this user alone may read, and make that durable."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(folder.parent)


def _first_line(error: Exception) -> str:
    """Give what an error says, on one line: an object store's answers have many."""
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.strerror else str(error)
    return text.strip().partition("\n")[0].rstrip(".")
