"""What one record of the topic is: a header that says who wrote it and of what it is a part, and a part of a group.

A *group* is a commit (or a base, see base.py) cut into records: one for each entry, in the last one the transitions and
values too, and more where something does not fit one. It counts when all of its parts are there. Each record lies under
a checksum of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import xxhash

from cluster.errors import Damaged
from cluster.log.records import ENTRY_KINDS, Entry, TransitionBlock

_HEADER: Final = struct.Struct("<4sBBHqqQqIIqQ")
_MAGIC: Final = b"USHR"
_VERSION: Final = 1
_ENTRY: Final = struct.Struct("<BBHqqqqI")
_BLOCK: Final = struct.Struct("<BqqqI")
_VALUE: Final = struct.Struct("<BHI")
_ENTRY_ITEM, _BLOCK_ITEM, _VALUE_ITEM = 1, 2, 3

HEADER_BYTES: Final = _HEADER.size

#: What an operator does about a topic that does not hold what was written to it.
RESTORE_TOPIC: Final = "Stop Usher and restore the topic from a mirror, or start anew with another prefix and data dir."


class Kind(IntEnum):
    """What a record is of: an owner's claim, a commit, a base, transitions moved to the archive."""

    CLAIM = 1
    COMMIT = 2
    BASE = 3
    ARCHIVE = 4


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes: the run's epoch, which claim of that epoch's it is, and a number that tells two of the same apart."""

    epoch: int
    claim: int
    nonce: int

    def is_newer(self, other: Owner | None) -> bool:
        """Whether a claim of this one takes the log from the other."""
        return other is None or (self.epoch, self.claim) > (other.epoch, other.claim)


@dataclass(frozen=True, slots=True)
class Frame:
    """One record. `number` counts an owner's groups from 1; `part` of `parts` is which piece of its group it holds.

    `base_offset` is where the newest base begins that the writer had read back, -1 before the first: a hint.
    """

    kind: Kind
    owner: Owner
    number: int
    part: int
    parts: int
    base_offset: int
    body: bytes

    def pack(self) -> bytes:
        """Write it as a record's value."""
        return self._header(_digest(self._header(0), self.body)) + self.body

    def _header(self, digest: int) -> bytes:
        return _HEADER.pack(
            _MAGIC, _VERSION, self.kind, 0, self.owner.epoch, self.owner.claim, self.owner.nonce, self.number,
            self.part, self.parts, self.base_offset, digest,
        )  # fmt: skip


def unpack(record: bytes, topic: str, offset: int) -> Frame:
    """Read a record's value. `Damaged` where it is not what an owner wrote."""
    if len(record) < HEADER_BYTES or record[:4] != _MAGIC:
        raise _damaged(topic, offset, "is no record of Usher's")
    _, version, kind, _, epoch, claim, nonce, number, part, parts, base_offset, digest = _HEADER.unpack_from(record)
    if version != _VERSION:
        raise _damaged(topic, offset, f"has format {version}, and this release reads {_VERSION}")
    body = record[HEADER_BYTES:]
    if digest != _digest(record[: HEADER_BYTES - 8] + bytes(8), body):
        raise _damaged(topic, offset, "does not match its checksum")
    return Frame(Kind(kind), Owner(epoch, claim, nonce), number, part, parts, base_offset, body)


def _digest(header: bytes, body: bytes) -> int:
    digest = xxhash.xxh3_64(header)
    digest.update(body)
    number: int = digest.intdigest()
    return number


def _damaged(topic: str, offset: int, what: str) -> Damaged:
    return Damaged(
        f"The record at offset {offset} of {topic} {what}.",
        file=topic,
        position=f"offset {offset}",
        next_step=f"Let nobody but Usher write to its topics. {RESTORE_TOPIC}",
    )


@dataclass(frozen=True, slots=True)
class Commit:
    """What is committed at once."""

    entries: tuple[Entry, ...]
    blocks: tuple[TransitionBlock, ...]
    meta: Mapping[str, bytes]

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, about."""
        return sum(len(e.payload) for e in self.entries) + sum(len(b.payload) for b in self.blocks) + 200


def pack_entry(entry: Entry) -> bytes:
    """Write an entry."""
    subject = entry.subject.encode()
    head = _ENTRY.pack(
        _ENTRY_ITEM, ENTRY_KINDS.index(entry.kind), len(subject), entry.seq, entry.clock_ms,
        entry.definitions_version, entry.row_count, len(entry.payload),
    )  # fmt: skip
    return head + subject + entry.payload


def pack_block(block: TransitionBlock) -> bytes:
    """Write a block of transitions."""
    head = _BLOCK.pack(_BLOCK_ITEM, block.first_seq, block.last_seq, block.max_at_ms, len(block.payload))
    return head + block.payload


def _pack_value(key: str, value: bytes) -> bytes:
    name = key.encode()
    return _VALUE.pack(_VALUE_ITEM, len(name), len(value)) + name + value


def cut_commit(commit: Commit, part_bytes: int) -> list[bytes]:
    """Give the bodies of a commit's records: one for each entry where it fits, the rest with the last or after it."""
    bodies = [body for entry in commit.entries for body in cut(pack_entry(entry), part_bytes)]
    rest = b"".join([*map(pack_block, commit.blocks), *(_pack_value(*item) for item in commit.meta.items())])
    if bodies and len(bodies[-1]) + len(rest) <= part_bytes:
        bodies[-1] += rest
        return bodies
    return bodies + cut(rest, part_bytes) if rest or not bodies else bodies


def cut(whole: bytes, part_bytes: int) -> list[bytes]:
    """Cut into pieces that fit a record; at least one."""
    return [whole[start : start + part_bytes] for start in range(0, max(1, len(whole)), part_bytes)]


def unpack_commit(body: bytes) -> Commit:
    """Read what `cut_commit` wrote, its pieces put together again."""
    entries: list[Entry] = []
    blocks: list[TransitionBlock] = []
    meta: dict[str, bytes] = {}
    place = 0
    while place < len(body):
        if body[place] == _ENTRY_ITEM:
            _, kind, named, seq, clock_ms, version, rows, size = _ENTRY.unpack_from(body, place)
            start = place + _ENTRY.size
            place = start + named + size
            subject = body[start : start + named].decode()
            payload = body[start + named : place]
            entries.append(Entry(seq, clock_ms, ENTRY_KINDS[kind], version, rows, payload, subject))
        elif body[place] == _BLOCK_ITEM:
            _, first_seq, last_seq, max_at_ms, size = _BLOCK.unpack_from(body, place)
            start = place + _BLOCK.size
            place = start + size
            blocks.append(TransitionBlock(first_seq, last_seq, max_at_ms, body[start:place]))
        else:
            _, named, size = _VALUE.unpack_from(body, place)
            start = place + _VALUE.size
            place = start + named + size
            meta[body[start : start + named].decode()] = body[start + named : place]
    return Commit(tuple(entries), tuple(blocks), meta)


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """Write entries one after the other; `unpack_commit` reads them."""
    return b"".join(map(pack_entry, entries))
