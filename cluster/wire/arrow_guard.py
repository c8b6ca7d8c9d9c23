"""How much an Arrow IPC stream would unpack to, read from its headers before anything is allocated.

Arrow allocates what a compressed buffer claims to hold. The claims stand in front of the buffers, which the
flatbuffer header of each message lists; pyarrow shows neither, so the few fields needed are read here.
"""

from __future__ import annotations

import struct

import pyarrow as pa

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_INT64 = struct.Struct("<q")
_UINT32 = struct.Struct("<I")
_UINT16 = struct.Struct("<H")


def claimed_bytes(body: bytes) -> int:
    """Give the sum of the uncompressed buffers of all messages.

    Raises ArrowInvalid, OSError or struct.error for what is no Arrow stream.
    """
    total = 0
    reader = pa.ipc.MessageReader.open_stream(body)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return total
        total += _claimed(bytes(message.metadata or b""), bytes(message.body or b""))


def _claimed(metadata: bytes, body: bytes) -> int:
    root = _UINT32.unpack_from(metadata, 0)[0]
    kind = _field(metadata, root, 1)
    header = _field(metadata, root, 2)
    if kind is None or header is None or metadata[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return 0
    batch = _target(metadata, header)
    if metadata[kind] == _DICTIONARY_BATCH:
        data = _field(metadata, batch, 1)
        if data is None:
            return 0
        batch = _target(metadata, data)
    buffers = _field(metadata, batch, 2)
    if _field(metadata, batch, 3) is None or buffers is None:
        return len(body)
    return _uncompressed(metadata, _target(metadata, buffers), body)


def _uncompressed(metadata: bytes, vector: int, body: bytes) -> int:
    total = 0
    for index in range(_UINT32.unpack_from(metadata, vector)[0]):
        offset, length = struct.unpack_from("<qq", metadata, vector + 4 + 16 * index)
        claimed = _INT64.unpack_from(body, offset)[0] if length >= _INT64.size else 0
        total += length if claimed < 0 else claimed  # -1: this one buffer is not compressed
    return total


def _field(metadata: bytes, table: int, index: int) -> int | None:
    """Give the position of a field of a flatbuffer table, None where it is left out."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    slot = 4 + 2 * index
    if slot >= _UINT16.unpack_from(metadata, vtable)[0]:
        return None
    offset = _UINT16.unpack_from(metadata, vtable + slot)[0]
    return table + offset if offset else None


def _target(metadata: bytes, position: int) -> int:
    """Follow an offset."""
    target: int = position + _UINT32.unpack_from(metadata, position)[0]
    return target
