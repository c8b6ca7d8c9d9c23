"""Which records count: a function of the topic's order alone, so that every reader finds the same.

- A claim of a newer owner (higher epoch, or a later claim of the same) takes the log: from there on nothing of the
  owner before counts, whatever it still sends (a stopped process that goes on, a request that a broker held back).
- Of the owner's groups the next number counts, once all of its parts are there, in any order. A part that comes again
  (an answer was lost and the client sent it anew) changes nothing.
- A group that lacks parts when its owner is fenced was torn by a crash: nobody was told of it, and it never counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.errors import Damaged
from cluster.log.kafka.frames import RESTORE_TOPIC, Frame, Kind, Owner, unpack


@dataclass(frozen=True, slots=True)
class Group:
    """A group that counts: its records lie in `first_offset` to (excluding) `next_offset`, others' may lie between."""

    kind: Kind
    owner: Owner
    number: int
    first_offset: int
    next_offset: int
    body: bytes
    base_offset: int


class Fold:
    """Goes over a topic's records in order. `position` is the next offset; start it anywhere the owner is known."""

    def __init__(self, topic: str, position: int = 0, owner: Owner | None = None, number: int = 0) -> None:
        self.topic = topic
        self.position = position
        #: Who may write here, and the number of its newest group that counts.
        self.owner = owner
        self.number = number
        #: Records that did not count: a fenced owner's, and those that came again.
        self.fenced = 0
        self.repeated = 0
        #: Groups cut short: their owner ended before all parts were there.
        self.torn = 0
        self._parts: dict[int, bytes] = {}
        self._first_offset = 0

    def feed(self, offset: int, record: bytes) -> Group | None:
        """Take the next record; gives the group that it completes. `Damaged` where it is not what an owner wrote."""
        frame = unpack(record, self.topic, offset)
        self.position = offset + 1
        if frame.kind is Kind.CLAIM:
            if frame.owner.is_newer(self.owner):
                self.torn += bool(self._parts)
                self.owner, self.number, self._parts = frame.owner, 0, {}
            return None
        if frame.owner != self.owner:
            if frame.owner.is_newer(self.owner):
                raise self._lost(offset, f"the claim of epoch {frame.owner.epoch}")
            self.fenced += 1
            return None
        if frame.number <= self.number or frame.part in self._parts:
            self.repeated += 1
            return None
        return self._part(frame, offset)

    def _part(self, frame: Frame, offset: int) -> Group | None:
        if frame.number != self.number + 1:
            # Its owner had read group number - 1 back before it sent this one.
            raise self._lost(offset, f"the group {self.number + 1} of its owner")
        if not self._parts:
            self._first_offset = offset
        self._parts[frame.part] = frame.body
        if len(self._parts) < frame.parts:
            return None
        body = b"".join(self._parts[part] for part in range(frame.parts))
        self.number, self._parts = frame.number, {}
        return Group(
            frame.kind, frame.owner, frame.number, self._first_offset, offset + 1, body, frame.base_offset
        )

    def _lost(self, offset: int, what: str) -> Damaged:
        return Damaged(
            f"{self.topic} lacks {what} before offset {offset}: it lost records that were acknowledged.",
            file=self.topic,
            position=f"offset {offset}",
            next_step=RESTORE_TOPIC,
        )
