"""The file of a checkpoint: named arrays under a header, in compressed frames, every byte under a checksum.

    magic | frames | directory (msgpack) | place, length and checksum of the directory | magic

The directory lies at the end, so that a file is written in one go and one that was cut off has none. A frame holds up
to FRAME_BYTES of one array. Its checksum is taken of what is stored, and is compared before anything is decompressed.
Arrow IPC and `.npz` lost: neither has checksums that cover every byte, and both write whole what is unused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from cluster.arrays import line_zeros
from cluster.checkpoints.parts import Part
from cluster.errors import CheckpointError

MAGIC: Final = b"USHERCP1"
#: Large enough for a request to an object store, small enough for several threads to share an array.
FRAME_BYTES: Final = 4 * 1024 * 1024
#: Reading: two decompress as fast as memory takes it; more only help where each frame is a request.
READERS: Final = 4
#: lz4 rather than zstd: reads three times as fast (3 GB/s a core), for a third more bytes.
_CODEC: Final = "lz4_raw"
_TAIL: Final = struct.Struct("<QQ16s")
#: Kinds of numbers that an array may hold, as numpy calls them.
_KINDS: Final = "iuf"


class Source(Protocol):
    """A file open for reading anywhere, by several threads."""

    def size(self) -> int:
        """Give its length in bytes."""
        ...

    def read_at(self, nbytes: int, offset: int) -> bytes:
        """Give up to `nbytes` from `offset` on."""
        ...


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    stored_bytes: int
    plain_bytes: int
    checksum: bytes


class _Section(msgspec.Struct, array_like=True, frozen=True):
    name: str
    dtype: str
    #: of the rows in use
    shape: tuple[int, ...]
    capacity: int
    fill: int
    view_of: str
    frames: tuple[_Frame, ...]


class _Directory(msgspec.Struct, array_like=True, frozen=True):
    header: bytes
    sections: tuple[_Section, ...]


def write(sink: Callable[[Any], object], header: bytes, parts: Mapping[str, Part], pause: Callable[[], None]) -> int:
    """Write a file through `sink`, which takes bytes in order; gives its length. About 1 s a GB, GIL released.

    `pause` is called between frames; what it raises ends the writing.
    """
    sink(MAGIC)
    written = len(MAGIC)
    sections = []
    for name, part in parts.items():
        frames = []
        for plain in _cut(part):
            pause()
            frame, stored = _packed(plain)
            sink(stored)
            written += frame.stored_bytes
            frames.append(frame)
        array = part.rows
        shape = (0, *array.shape[1:]) if part.view_of else array.shape
        sections.append(
            _Section(name, array.dtype.str, shape, part.capacity, part.fill, part.view_of, tuple(frames))
        )
    directory = msgspec.msgpack.encode(_Directory(header, tuple(sections)))
    sink(directory)
    sink(_tail(written, directory))
    return written + len(directory) + _TAIL.size + len(MAGIC)


def _cut(part: Part) -> list[NDArray[np.uint8]]:
    if part.view_of or part.rows.nbytes == 0:
        return []
    plain = part.rows.reshape(-1).view(np.uint8)
    return [plain[start : start + FRAME_BYTES] for start in range(0, len(plain), FRAME_BYTES)]


def _packed(plain: NDArray[np.uint8]) -> tuple[_Frame, Any]:
    packed = pa.Codec(_CODEC).compress(pa.py_buffer(plain))
    # What does not get smaller is stored as it is, and known by its length.
    stored = packed if packed.size < plain.nbytes else pa.py_buffer(plain)
    return _Frame(stored.size, plain.nbytes, xxhash.xxh3_128_digest(stored)), stored


def _tail(place: int, directory: bytes) -> bytes:
    where = _TAIL.pack(place, len(directory), b"")[:16]
    checksum: bytes = xxhash.xxh3_128_digest(where + directory)
    return where + checksum + MAGIC


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file says it holds; made by `contents`, whose checks it has passed."""

    header: bytes
    _sections: tuple[_Section, ...]
    _source: Source

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Read all arrays. CheckpointError (damaged) unless every frame is what was written. 0.5 s a GB, two cores."""
        return self._read(self._sections, 0)

    def array(self, name: str) -> NDArray[Any]:
        """Read one array."""
        first = 0
        for section in self._sections:
            if section.name == name and not section.view_of:
                return self._read((section,), first)[name]
            first += _stored_bytes(section)
        what = f"it has no array {name}"
        raise _damaged(what)

    def _read(self, sections: tuple[_Section, ...], first: int) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        tasks: list[tuple[_Frame, int, NDArray[np.uint8]]] = []
        place = len(MAGIC) + first
        for section in sections:
            if section.view_of:
                arrays[section.name] = arrays[section.view_of].view(np.dtype(section.dtype))
                continue
            array = arrays[section.name] = _empty(section)
            plain = array.reshape(-1).view(np.uint8)
            start = 0
            for frame in section.frames:
                tasks.append((frame, place, plain[start : start + frame.plain_bytes]))
                place, start = place + frame.stored_bytes, start + frame.plain_bytes
        with ThreadPoolExecutor(READERS, thread_name_prefix="checkpoint") as readers:
            for done in readers.map(lambda task: self._read_frame(*task), tasks):
                assert done is None
        return arrays

    def _read_frame(self, frame: _Frame, place: int, into: NDArray[np.uint8]) -> None:
        stored = self._source.read_at(frame.stored_bytes, place)
        if xxhash.xxh3_128_digest(stored) != frame.checksum:
            what = f"the {frame.stored_bytes} bytes at {place} do not match their checksum"
            raise _damaged(what)
        if frame.stored_bytes == frame.plain_bytes:
            into[:] = np.frombuffer(stored, np.uint8)
        else:
            into[:] = np.frombuffer(pa.Codec(_CODEC).decompress(stored, frame.plain_bytes), np.uint8)


def contents(source: Source) -> Contents:
    """Read what a file holds, without its arrays: two small reads. Raises CheckpointError (damaged), OSError."""
    size = source.size()
    tail_bytes = _TAIL.size + len(MAGIC)
    if size < len(MAGIC) + tail_bytes:
        what = f"it has {size} bytes"
        raise _damaged(what)
    tail = source.read_at(tail_bytes, size - tail_bytes)
    place, length, checksum = _TAIL.unpack(tail[: _TAIL.size])
    whole = source.read_at(len(MAGIC), 0) == MAGIC == tail[_TAIL.size :]
    if not whole or place + length + tail_bytes != size:
        what = "it is cut off, or no checkpoint"
        raise _damaged(what)
    directory = source.read_at(length, place)
    if xxhash.xxh3_128_digest(tail[:16] + directory) != checksum:
        what = "its directory does not match its checksum"
        raise _damaged(what)
    return Contents(*_checked(directory, place), source)


def _checked(directory: bytes, place: int) -> tuple[bytes, tuple[_Section, ...]]:
    """Read a directory; its frames must fill the file up to it, and their arrays, without a gap."""
    try:
        found = msgspec.msgpack.decode(directory, type=_Directory)
    except msgspec.DecodeError as error:
        what = f"its directory cannot be read: {error}"
        raise _damaged(what) from error
    if len(MAGIC) + sum(map(_stored_bytes, found.sections)) != place:
        what = "its frames do not fill it"
        raise _damaged(what)
    seen: set[str] = set()
    for section in found.sections:
        dtype = np.dtype(section.dtype)
        plain_bytes = sum(frame.plain_bytes for frame in section.frames)
        sound = dtype.kind in _KINDS and plain_bytes == prod(section.shape) * dtype.itemsize
        if not sound or (section.view_of and section.view_of not in seen):
            what = f"the frames of {section.name} do not fit it"
            raise _damaged(what)
        seen.add(section.name)
    return found.header, found.sections


def _stored_bytes(section: _Section) -> int:
    return sum(frame.stored_bytes for frame in section.frames)


def _empty(section: _Section) -> NDArray[Any]:
    """Make the array with its unused rows filled; memory of zeros is taken only where it is written."""
    used = section.shape[0] if section.shape else 0
    shape = (max(section.capacity, used), *section.shape[1:])
    array = line_zeros(shape, np.dtype(section.dtype))
    if section.fill:
        array[used:] = section.fill
    return array


def _damaged(what: str) -> CheckpointError:
    message = f"The checkpoint is damaged: {what}."
    return CheckpointError(message, reason="damaged")
