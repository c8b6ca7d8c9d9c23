"""What must be known to read a topic from a place on: where its owner stands, and what was before that place.

A *mark* is such a place, at the beginning of a group that counts. A *base* says of a mark what reading from there does
not tell: the newest definitions and snapshots before it, the named values, the numbers that come before. It goes into
the topic before what is older than its mark is deleted: who has nothing but the topic finds all that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cluster.log.ends import End
from cluster.log.kafka.frames import Owner


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A place where reading may begin: the owner and the number of its last group before, and the log's end there."""

    offset: int
    owner: tuple[int, int, int]
    number: int
    end: tuple[int, int | None, int]

    @classmethod
    def of(cls, offset: int, owner: Owner, number: int, end: End) -> Mark:
        """Note a place."""
        return cls(
            offset, (owner.epoch, owner.claim, owner.nonce), number, (end.seq, end.clock_ms, end.transition_seq)
        )


class Base(msgspec.Struct, frozen=True, array_like=True):
    """`lasting`: as `frames.pack_entries` writes entries. `archived_seq`: transitions up to here are in the archive."""

    mark: Mark
    meta: Mapping[str, bytes]
    lasting: bytes
    trimmed_seq: int
    archived_seq: int

    def pack(self) -> bytes:
        """Write it as a group's body."""
        return msgspec.msgpack.encode(self)


def unpack_base(body: bytes) -> Base:
    """Read what `Base.pack` wrote."""
    return msgspec.msgpack.decode(body, type=Base)


class Position(msgspec.Struct, frozen=True, array_like=True):
    """How far a cache has a topic: to the group `number` of this owner. `base_offset`: of the newest base, or -1."""

    topic: str
    next_offset: int
    owner: tuple[int, int, int]
    number: int
    base_offset: int
    archived_seq: int
