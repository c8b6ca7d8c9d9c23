"""Bringing a cache up to what its topic holds: from where it stopped, or anew from where the topic begins."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import Damaged
from cluster.log.kafka.archive import read_blocks
from cluster.log.kafka.base import Base, Mark, Position, unpack_base
from cluster.log.kafka.cache import Cache, remove_cache
from cluster.log.kafka.fold import Fold, Group
from cluster.log.kafka.frames import RESTORE_TOPIC, Commit, Kind, Owner, unpack, unpack_commit
from cluster.log.kafka.limits import APPLY_BYTES, MARK_BYTES
from cluster.log.kafka.topic import Topic
from cluster.log.records import Entry, TransitionBlock

_log = logging.getLogger("usher.log")


class Taker:
    """Puts groups that count into the cache, and knows the places at which the topic may be cut."""

    def __init__(self, fold: Fold, cache: Cache, mark_bytes: int = MARK_BYTES) -> None:
        position = cache.position()
        self._fold = fold
        self._cache = cache
        self._marks = cache.marks()
        self._mark_bytes = mark_bytes
        #: Bytes since the last mark.
        self._size = 0
        self.base_offset = position.base_offset if position is not None else -1
        self.archived_seq = position.archived_seq if position is not None else 0

    def take(self, group: Group, commit: Commit) -> None:
        """Put a commit into the cache that was read back."""
        marks = self._marked(group, len(group.body))
        position = self._position(group)
        self._cache.take(commit.entries, commit.blocks, commit.meta, position, marks)

    def take_all(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Read records and put the commits among them into the cache, many at once."""
        entries: list[Entry] = []
        blocks: list[TransitionBlock] = []
        meta: dict[str, bytes] = {}
        marks: list[Mark] = []
        last: Group | None = None
        size = 0
        for offset, record in records:
            group = self._fold.feed(offset, record)
            if group is None:
                continue
            last = group
            if group.kind is Kind.BASE:
                self.base_offset = group.first_offset
                self.archived_seq = max(self.archived_seq, unpack_base(group.body).archived_seq)
                continue
            end = self._cache.end.after(entries, blocks, self._fold.topic)
            marks += self._marked(group, len(group.body), end)
            commit = unpack_commit(group.body)
            entries += commit.entries
            blocks += commit.blocks
            meta.update(commit.meta)
            size += len(group.body)
            if size >= APPLY_BYTES:
                self._cache.take(entries, blocks, meta, self._position(group), marks)
                entries, blocks, meta, marks, size, last = [], [], {}, [], 0, None
        if last is not None:
            self._cache.take(entries, blocks, meta, self._position(last), marks)

    def passed(self, base: Group, mark: Mark) -> None:
        """Note a base that was read back, after which the topic is cut at its mark."""
        self.base_offset = base.first_offset
        self._marks = [each for each in self._marks if each.offset >= mark.offset]
        self._cache.forget_before(mark, self._position(base))

    def last_mark(self, through_seq: int) -> Mark | None:
        """Give the last place with only entries up to this number before it; None where that would cut nothing."""
        found = [mark for mark in self._marks if 0 < mark.end[0] <= through_seq]
        return found[-1] if found and found[-1].offset > self._marks[0].offset else None

    def _marked(self, group: Group, size: int, end: object = None) -> list[Mark]:
        self._size += size
        if self._marks and self._size - size < self._mark_bytes:
            return []
        self._size = size
        mark = Mark.of(group.first_offset, group.owner, group.number - 1, end or self._cache.end)  # type: ignore[arg-type]
        self._marks.append(mark)
        return [mark]

    def _position(self, group: Group) -> Position:
        owner = group.owner
        return Position(
            self._fold.topic, group.next_offset, (owner.epoch, owner.claim, owner.nonce), group.number,
            self.base_offset, self.archived_seq,
        )  # fmt: skip


def caught_up(topic: Topic, archive: Topic, path: Path, owner_epoch: int) -> tuple[Cache, Fold, Taker]:
    """Open the cache, made anew where it does not go on in the topic, and take what the topic holds beyond it."""
    cache = Cache.open(path, owner_epoch=owner_epoch, durable=False)
    try:
        # Only now: an earlier owner may have put more into the cache until it was taken over.
        low, high = topic.bounds()
        position = cache.position()
        if position is not None and position.topic != topic.name:
            position = None
        if position is not None and position.next_offset > high:
            message = (
                f"{topic.name} ends at offset {high}, but all before offset {position.next_offset} was acknowledged "
                f"(the cache {path} has it)."
            )
            step = f"{RESTORE_TOPIC} To go on without what is lost instead: delete {path}*."
            raise Damaged(message, file=topic.name, position=f"offset {high}", next_step=step)
        if position is None or position.next_offset < low:
            cache.close()
            remove_cache(path)
            cache = Cache.open(path, owner_epoch=owner_epoch, durable=False)
            if low > 0:
                _begin_at_base(topic, archive, cache, low, high)
            position = cache.position()
        fold = (
            Fold(topic.name, position.next_offset, Owner(*position.owner), position.number)
            if position is not None
            else Fold(topic.name)
        )
        taker = Taker(fold, cache)
        topic.go_to(fold.position)
        if high > fold.position:
            taker.take_all(topic.read_through(high - 1))
        return cache, fold, taker
    except BaseException:
        cache.close()
        raise


def _begin_at_base(topic: Topic, archive: Topic, cache: Cache, low: int, high: int) -> None:
    base, base_offset = _find_base(topic, low, high)
    _log.info("%s is read anew from offset %d.", topic.name, low)
    archived = list(read_blocks(archive, base.mark.end[2]))
    mark = base.mark
    position = Position(topic.name, mark.offset, mark.owner, mark.number, base_offset, base.archived_seq)
    cache.begin(base, archived, position)


def _find_base(topic: Topic, low: int, high: int) -> tuple[Base, int]:
    """Find the base that says what was before the topic's first record, whoever wrote it: all knew what counts."""
    hint = _hint(topic, high)
    for start in (hint, low) if low <= hint < high else (low,):
        topic.go_to(start)
        parts: dict[tuple[Owner, int], dict[int, bytes]] = {}
        for offset, record in topic.read_through(high - 1):
            frame = unpack(record, topic.name, offset)
            if frame.kind is not Kind.BASE:
                continue
            own = parts.setdefault((frame.owner, frame.number), {})
            own[frame.part] = frame.body
            if len(own) == frame.parts:
                base = unpack_base(b"".join(own[part] for part in range(frame.parts)))
                if base.mark.offset == low:
                    return base, offset - frame.parts + 1
    message = f"{topic.name} begins at offset {low}, which is no place at which Usher cut it: records were removed."
    step = f"Set the topic's retention.ms and retention.bytes to -1. {RESTORE_TOPIC}"
    raise Damaged(message, file=topic.name, position=f"offset {low}", next_step=step)


def _hint(topic: Topic, high: int) -> int:
    """Give where the newest base begins, as the topic's last record has it."""
    topic.go_to(high - 1)
    for offset, record in topic.read_through(high - 1):
        return unpack(record, topic.name, offset).base_offset
    return -1
