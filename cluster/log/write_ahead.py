"""Tells, before SQLite drops it, a commit cut short at the end of a write-ahead file from one that is lost.

SQLite takes the file up to the last commit before the first frame that is not what was written, and forgets the rest
without a word. Each frame carries a checksum that goes on from the one before, and a commit is synced before the next
one begins. So what lies after the first bad frame says what it was: at most the rest of one commit, whose sync never
came to its end (torn, nobody was told of it); or a frame that follows on a later commit frame, which is there only
because that commit was durable: then acknowledged commits are about to vanish.

The format is that of https://sqlite.org/walformat.html, and fixed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
#: The last bit of the magic number: checksums are of big-endian words.
_MAGIC: Final = 0x377F0682
#: Frames summed at once: 4 MiB.
_FRAMES_AT_ONCE: Final = 256

U32 = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class WriteAhead:
    """What was found. `torn_at` is the offset from which on SQLite drops what is there, None where it drops nothing.

    `lost`: there are durable commits after that place.
    """

    torn_at: int | None = None
    lost: bool = False


def inspect(path: Path) -> WriteAhead:
    """Look at the write-ahead file of a database. 0.1 s for 64 MiB; nothing to do after a clean end."""
    try:
        content = np.fromfile(path.with_name(f"{path.name}-wal"), np.uint8)
    except OSError:
        return WriteAhead()
    if len(content) <= _HEADER_BYTES:
        return WriteAhead()
    header = content[:_HEADER_BYTES].tobytes()
    magic, _, page_bytes, _, salt_1, salt_2, sum_1, sum_2 = struct.unpack(">8I", header)
    order = ">u4" if magic & 1 else "<u4"
    if magic & ~1 != _MAGIC or not 512 <= page_bytes <= 65_536:
        return WriteAhead(0, lost=True)
    words = content[:24].view(order).astype(np.uint32).reshape(1, -1)
    zero = np.zeros(1, np.uint32)
    if tuple(int(each[0]) for each in _sums(words, zero, zero)) != (sum_1, sum_2):
        return WriteAhead(0, lost=True)
    frame_bytes = _FRAME_HEADER_BYTES + page_bytes
    count = (len(content) - _HEADER_BYTES) // frame_bytes
    frames = content[_HEADER_BYTES : _HEADER_BYTES + count * frame_bytes].reshape(count, frame_bytes)
    heads = np.ascontiguousarray(frames[:, :_FRAME_HEADER_BYTES]).view(">u4").astype(np.uint32)
    ours = (heads[:, 2] == salt_1) & (heads[:, 3] == salt_2)
    commits = heads[:, 1] != 0
    follows = ours & _follow_on(frames, heads, order, (sum_1, sum_2))
    return _judged(follows, ours, commits, frame_bytes)


def _judged(
    follows: NDArray[np.bool_], ours: NDArray[np.bool_], commits: NDArray[np.bool_], frame_bytes: int
) -> WriteAhead:
    good = len(follows) if follows.all() else int(np.argmin(follows))
    committed = np.flatnonzero(commits[:good])
    kept = int(committed[-1]) + 1 if len(committed) else 0
    if not ours[kept:].any():
        return WriteAhead()  # frames of the file's earlier life, long in the database
    later = commits[good:-1] & ours[good:-1] & follows[good + 1 :]
    return WriteAhead(_HEADER_BYTES + kept * frame_bytes, lost=bool(later.any()))


def _follow_on(frames: NDArray[np.uint8], heads: U32, order: str, seed: tuple[int, int]) -> NDArray[np.bool_]:
    """Say of each frame whether its checksum goes on from what the frame before says of itself."""
    before = np.vstack([np.array([seed], np.uint32), heads[:-1, 4:6]])
    found = np.zeros(len(frames), bool)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        summed = np.hstack([frames[part, :8], frames[part, _FRAME_HEADER_BYTES:]]).view(order).astype(np.uint32)
        first, second = _sums(summed, before[part, 0], before[part, 1])
        found[part] = (first == heads[part, 4]) & (second == heads[part, 5])
    return found


def _sums(words: U32, first: U32, second: U32) -> tuple[U32, U32]:
    """Give the checksums of rows of words (an even number), going on from these."""
    columns = np.ascontiguousarray(words.T)
    first, second = first.copy(), second.copy()
    for place in range(0, len(columns), 2):
        first += columns[place] + second
        second += columns[place + 1] + first
    return first, second
