"""How far a log was acknowledged, noted beside it: what tells a loss from a commit that nobody was told of.

SQLite drops the end of its write-ahead file from the first frame on that is not what was written. After a crash that is
right: such a commit was never acknowledged. After a flipped bit or a cut it is a silent loss, and only this note knows.
It is written over in place after each commit and not synced: what a killed process wrote stays, and a power cut may at
worst leave an older note, which says less and nothing wrong.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

import xxhash

_NOTE: Final = struct.Struct("<8sqqQ")
_MAGIC: Final = b"usherack"
#: Two, written in turn: one is whole while the other is written.
_SLOTS: Final = 2


class Acknowledged:
    """The note of one log. Nothing fails where the disk does not take it: it is a witness, and the log is the truth."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = 0
        self._file: int | None = None

    def read(self) -> tuple[int, int]:
        """Give the numbers of the newest entry and transition that were acknowledged; 0 where none is known."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return 0, 0
        notes = [_unpacked(content[start : start + _NOTE.size]) for start in range(0, len(content), _NOTE.size)]
        return max(notes, default=(0, 0))

    def open(self) -> None:
        """Make ready to note."""
        with suppress(OSError):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)

    def note(self, seq: int, transition_seq: int) -> None:
        """Note what is about to be acknowledged: 2 µs."""
        if self._file is None:
            return
        packed = _NOTE.pack(_MAGIC, seq, transition_seq, _digest(seq, transition_seq))
        with suppress(OSError):
            os.pwrite(self._file, packed, self._turn * _NOTE.size)
        self._turn = (self._turn + 1) % _SLOTS

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _unpacked(content: bytes) -> tuple[int, int]:
    if len(content) != _NOTE.size:
        return 0, 0
    magic, seq, transition_seq, digest = _NOTE.unpack(content)
    return (seq, transition_seq) if magic == _MAGIC and digest == _digest(seq, transition_seq) else (0, 0)


def _digest(seq: int, transition_seq: int) -> int:
    digest: int = xxhash.xxh3_64_intdigest(f"{seq} {transition_seq}".encode())
    return digest
