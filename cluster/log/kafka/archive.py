"""Transitions that outlive the entries beside them: moved to a topic of their own before the log's is cut.

A block is the same bytes whoever moves it, so what is moved twice (a crash came between, two owners did it) is passed
over by its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cluster.errors import Damaged
from cluster.log.kafka.frames import RESTORE_TOPIC, Frame, Kind, Owner, cut, pack_block, unpack, unpack_commit
from cluster.log.kafka.limits import APPLY_BYTES, RECORD_BYTES_MAX
from cluster.log.kafka.topic import Topic
from cluster.log.records import TransitionBlock


def write_blocks(topic: Topic, owner: Owner, blocks: Iterable[TransitionBlock]) -> None:
    """Append blocks and wait until all replicas have them. Raises LogUnavailable."""
    records: list[bytes] = []
    size = 0
    for block in blocks:
        bodies = cut(pack_block(block), RECORD_BYTES_MAX)
        records += [
            Frame(Kind.ARCHIVE, owner, block.first_seq, part, len(bodies), -1, body).pack()
            for part, body in enumerate(bodies)
        ]
        size += len(block.payload)
        if size >= APPLY_BYTES:
            topic.send(records)
            records, size = [], 0
    if records:
        topic.send(records)


def read_blocks(topic: Topic, through_seq: int) -> Iterator[TransitionBlock]:
    """Give the archived blocks in order, each once, up to `through_seq`. `Damaged` where some are missing."""
    low, high = topic.bounds()
    last_seq: int | None = None
    if high > low:
        topic.go_to(low)
        for block in _blocks(topic, high - 1):
            if block.last_seq > through_seq or (last_seq is not None and block.last_seq <= last_seq):
                continue
            if last_seq is not None and block.first_seq != last_seq + 1:
                break
            last_seq = block.last_seq
            yield block
    if (last_seq or 0) < through_seq:
        message = f"{topic.name} ends at transition {last_seq or 0}; {through_seq} were moved to it."
        raise Damaged(
            message, file=topic.name, position=f"after transition {last_seq or 0}", next_step=RESTORE_TOPIC
        )


def _blocks(topic: Topic, last_offset: int) -> Iterator[TransitionBlock]:
    parts: dict[tuple[Owner, int], dict[int, bytes]] = {}
    for offset, record in topic.read_through(last_offset):
        frame = unpack(record, topic.name, offset)
        if frame.kind is not Kind.ARCHIVE:
            continue
        key = frame.owner, frame.number
        own = parts.setdefault(key, {})
        own[frame.part] = frame.body
        if len(own) == frame.parts:
            del parts[key]
            yield from unpack_commit(b"".join(own[part] for part in range(frame.parts))).blocks
