"""The log of one evaluator in a Kafka topic: the topic is the truth, a SQLite file beside the evaluator its cache.

A commit is sent as one record for each entry (acks=all), counts once its owner has read it back with no newer owner's
claim before it, and then goes into the cache, from which everything is read. Whoever opens the log claims it in the
topic: from that record on nothing that an earlier owner writes counts for any reader. Nothing rests on the brokers'
transactions.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cluster.errors import Damaged, Fenced, InternalError, LogUnavailable, StorageFull
from cluster.log.bounds import Bound
from cluster.log.ends import End
from cluster.log.kafka.archive import write_blocks
from cluster.log.kafka.base import Base, Mark
from cluster.log.kafka.cache import Cache
from cluster.log.kafka.fold import Fold, Group
from cluster.log.kafka.frames import Commit, Frame, Kind, Owner, cut, cut_commit, pack_entries, unpack
from cluster.log.kafka.limits import CLAIM_TRIES, RECORD_BYTES_MAX
from cluster.log.kafka.place import KafkaPlace
from cluster.log.kafka.taking import Taker, caught_up
from cluster.log.kafka.topic import Topic
from cluster.log.records import LASTING_KINDS, NO_META, Entry, EntryKind, LastingKind, TransitionBlock

_log = logging.getLogger("usher.log")
#: Blocks moved to the archive at once.
_ROWS_A_MOVE = 65_536


class KafkaLog:
    """The `Log` of one evaluator in a topic. Make it with `open`."""

    def __init__(self, topic: Topic, archive: Topic, cache: Cache, fold: Fold, taker: Taker, owner: Owner) -> None:
        self._topic = topic
        self._archive = archive
        self._cache = cache
        self._fold = fold
        self._taker = taker
        self._owner = owner
        #: Held while something is sent and read back.
        self._lock = threading.Lock()
        self._bound = Bound()
        #: Why nothing may be written any more: what became of the last commit is not known.
        self._broken: BaseException | None = None

    @classmethod
    def open(cls, place: KafkaPlace, name: str, cache_path: Path, *, owner_epoch: int) -> KafkaLog:
        """Claim the topic of the evaluator `name`, making it where there is none, and bring the cache up to date.

        An older epoch than the topic has seen raises `Fenced`; a topic that lost or changed something acknowledged
        `Damaged`; LogUnavailable where the brokers do not answer, StorageFull where the cache finds no room.
        """
        topic = Topic.open(place, place.topic(name))
        archive: Topic | None = None
        cache: Cache | None = None
        try:
            archive = Topic.open(place, f"{place.topic(name)}.transitions")
            cache, fold, taker = caught_up(topic, archive, cache_path, owner_epoch)
            owner = _claim(topic, fold, taker, owner_epoch)
            return cls(topic, archive, cache, fold, taker, owner)
        except BaseException:
            for each in (topic, archive, cache):
                if each is not None:
                    each.close()
            raise

    # --- writing -----------------------------------------------------------------------------------

    def commit(
        self,
        entries: Sequence[Entry],
        transitions: Sequence[TransitionBlock],
        meta: Mapping[str, bytes] = NO_META,
    ) -> None:
        """See `Log.commit`. LogUnavailable where what became of it is not known: nothing more can be written then."""
        with self._lock:
            self._require_whole()
            commit = Commit(tuple(entries), tuple(transitions), meta)
            self._end().after(entries, transitions, self._topic.name)
            takes_events = any(entry.kind == "batch" for entry in entries)
            self._require_room(commit.size_bytes, takes_events=takes_events)
            group = self._append(Kind.COMMIT, cut_commit(commit, RECORD_BYTES_MAX))
            with self._ending():
                self._taker.take(group, commit)

    def _append(self, kind: Kind, bodies: Sequence[bytes]) -> Group:
        """Send a group and read it back. The lock must be held."""
        number = self._fold.number + 1
        frames = [
            Frame(kind, self._owner, number, part, len(bodies), self._taker.base_offset, body)
            for part, body in enumerate(bodies)
        ]
        with self._ending():
            last_offset = self._topic.send([frame.pack() for frame in frames])
            try:
                groups = [
                    group
                    for offset, record in self._topic.read_through(last_offset)
                    if (group := self._fold.feed(offset, record)) is not None
                ]
            except Damaged:
                if self._is_succeeded():
                    # Where this one had read to is cut off by now, which only an owner does.
                    raise _taken_over(self._topic.name) from None
                raise
            if self._fold.owner != self._owner:
                raise _taken_over(self._topic.name)
            if [group.number for group in groups] != [number]:
                message = f"{self._topic.name}: group {number} was sent, {[g.number for g in groups]} were read back."
                raise InternalError(message)
        return groups[0]

    def _is_succeeded(self) -> bool:
        """Whether the oldest record that is kept is a newer owner's."""
        first, _ = self._topic.bounds()
        self._topic.go_to(first)
        return any(
            unpack(record, self._topic.name, offset).owner.is_newer(self._owner)
            for offset, record in self._topic.read_through(first)
        )

    def _ending(self) -> _Ending:
        return _Ending(self)

    def _require_whole(self) -> None:
        if isinstance(self._broken, Fenced):
            raise _taken_over(self._topic.name)
        if self._broken is not None:
            message = f"{self._topic.name} is not written to any more: {self._broken}"
            raise LogUnavailable(message, next_step="Open it anew.")

    def limit(self, size_bytes_max: int | None) -> None:
        """See `Log.limit`. The size is that of the cache, which holds the same."""
        self._bound = Bound(size_bytes_max)

    def require_room(self, batch_bytes: int) -> None:
        """See `Log.require_room`. The cache's disk needs room too."""
        self._require_room(batch_bytes, takes_events=True)

    def _require_room(self, size_bytes: int, *, takes_events: bool) -> None:
        if self._bound.is_set:
            self._bound.require(self._topic.name, self.size_bytes(), size_bytes, takes_events=takes_events)
        self._cache.require_disk(size_bytes, takes_events=takes_events)

    # --- reading: from the cache -------------------------------------------------------------------

    def _end(self) -> End:
        return self._cache.end

    def last_seq(self) -> int:
        """See `Log.last_seq`."""
        return self._cache.last_seq()

    def last_clock_ms(self) -> int | None:
        """See `Log.last_clock_ms`."""
        return self._cache.last_clock_ms()

    def last_transition_seq(self) -> int:
        """See `Log.last_transition_seq`."""
        return self._cache.last_transition_seq()

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """See `Log.entries`."""
        return self._cache.entries(after_seq, kinds, from_clock_ms)

    def newest(self, kind: LastingKind) -> list[Entry]:
        """See `Log.newest`."""
        return self._cache.newest(kind)

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """See `Log.transitions_after`."""
        return self._cache.transitions_after(seq, limit)

    def meta(self, key: str) -> bytes | None:
        """See `Log.meta`."""
        return self._cache.meta(key)

    def first_clock_ms(self) -> int | None:
        """See `Log.first_clock_ms`."""
        return self._cache.first_clock_ms()

    def size_bytes(self) -> int:
        """See `Log.size_bytes`."""
        return self._cache.size_bytes()

    # --- dropping ----------------------------------------------------------------------------------

    def trim(self, before_clock_ms: int, size_bytes: int | None = None) -> int:
        """See `Log.trim`. The topic is cut behind the cache, at places some MiB apart."""
        dropped = self._cache.trim(before_clock_ms, size_bytes)
        self._cut()
        return dropped

    @property
    def archives_transitions(self) -> bool:
        """See `Log.archives_transitions`."""
        return True

    def trim_transitions(self, through_seq: int) -> int:
        """See `Log.trim_transitions`. What is in the archive stays there."""
        return self._cache.trim_transitions(through_seq)

    def _cut(self) -> None:
        """Delete what nobody reads any more from the topic: first a base goes into it, and transitions are moved."""
        trimmed_seq = self._cache.trimmed_seq()
        mark = self._taker.last_mark(min(trimmed_seq, self.last_seq() - 1))
        if mark is None:
            return
        self._move_transitions(mark.end[2])
        with self._lock:
            self._require_whole()
            base = self._base(mark, trimmed_seq)
            group = self._append(Kind.BASE, cut(base.pack(), RECORD_BYTES_MAX))
            with self._ending():
                self._taker.passed(group, mark)
        self._topic.delete_before(mark.offset)

    def _base(self, mark: Mark, trimmed_seq: int) -> Base:
        lasting = [e for kind in LASTING_KINDS for e in self._cache.newest(kind) if e.seq <= mark.end[0]]
        return Base(
            mark=mark,
            meta=self._cache.values(),
            lasting=pack_entries(sorted(lasting, key=lambda entry: entry.seq)),
            trimmed_seq=min(trimmed_seq, mark.end[0]),
            archived_seq=self._taker.archived_seq,
        )

    def _move_transitions(self, through_seq: int) -> None:
        """Have the archive hold the transitions up to here. They may have been dropped from the cache already."""
        while (after := self._taker.archived_seq) < through_seq:
            blocks = self._cache.transitions_after(after, min(_ROWS_A_MOVE, through_seq - after))
            if not blocks:
                return
            write_blocks(self._archive, self._owner, blocks)
            self._taker.archived_seq = blocks[-1].last_seq

    def close(self) -> None:
        """See `Log.close`."""
        with self._lock:
            closed = "It was closed."
            self._broken = self._broken or InternalError(closed)
            for each in (self._topic, self._archive, self._cache):
                each.close()


class _Ending:
    """What fails inside leaves a log not to be written to: what the topic has is not known, or not in the cache."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        self._log._broken = error
        if isinstance(error, StorageFull):
            # Refusing it would have the sender try again what counts already.
            message = f"The cache of {self._log._topic.name} did not take what the topic has: {error}"
            raise LogUnavailable(message, next_step=error.next_step) from error


def _claim(topic: Topic, fold: Fold, taker: Taker, epoch: int) -> Owner:
    """Take the log over: whoever had it before writes in vain from here on."""
    for _ in range(CLAIM_TRIES):
        before = fold.owner
        if before is not None and before.epoch > epoch:
            raise _taken_over(topic.name, before.epoch)
        claim = before.claim + 1 if before is not None and before.epoch == epoch else 1
        owner = Owner(epoch, claim, secrets.randbits(63))
        offset = topic.send([Frame(Kind.CLAIM, owner, 0, 0, 1, taker.base_offset, b"").pack()])
        taker.take_all(topic.read_through(offset))
        if fold.owner == owner:
            _say_what_did_not_count(fold)
            return owner
    message = f"{topic.name} is claimed by others again and again."
    raise LogUnavailable(message, next_step="Stop the other processes of this evaluator.")


def _say_what_did_not_count(fold: Fold) -> None:
    if fold.torn:
        _log.warning(
            "%s ends with a commit of which records are missing: its owner ended while it was sent. It was never "
            "acknowledged, and does not count.", fold.topic,
        )  # fmt: skip
    if fold.fenced:
        _log.warning("%s holds %d records of fenced owners; they do not count.", fold.topic, fold.fenced)


def _taken_over(topic: str, epoch: int = 0) -> Fenced:
    return Fenced(
        f"{topic} belongs to a newer owner; this process may not write to it any more.",
        next_step="End this process: it outlived its run.",
        epoch=epoch,
    )
