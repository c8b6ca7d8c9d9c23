"""Who owns a thing, by records that candidates put beside each other: the decisions, without clock or store.

The store needs no more than to put a record whole and to list all of them; nothing is compared and swapped. Each
candidate has one record of its own; of all there are, the one of the highest epoch is the owner's (of two of the same,
one that says it has owned before one that only tries, then that of the smaller nonce). An owner renews its record by
counting its `beat` up. No clock is compared with another: who waits measures by its own duration clock how long a
record has not changed, an owner how long ago it began a renewal.

Why never two hold at once. An owner's word is good for `term - margin` from when it *began* a renewal after which it
still saw itself first. Whoever takes over has seen its record unchanged for a whole term, puts a record of a higher
epoch, and looks once more: either nothing has changed, then the owner's last renewal began before that term; or it
has, or another candidate is there, then it waits a further term, in which every renewal of anybody else shows the new
record. The margin is for clocks that do not run at the same speed.
`tests/properties/test_leases.py` tries orders of steps, stopped processes and clocks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import msgspec


class Lease(msgspec.Struct, frozen=True):
    """One candidate's record. `owner` says in words who it is; `term_ms` how long its word is good.

    `owned`: its candidate has owned, it does not only try. `released`: it has let go, nobody needs to wait for it.
    """

    epoch: int
    nonce: str
    owner: str
    term_ms: int
    beat: int = 0
    owned: bool = False
    released: bool = False

    @property
    def rank(self) -> tuple[int, bool, str]:
        """Its place among all: the least one owns."""
        return (-self.epoch, not self.owned, self.nonce)


def first(records: Collection[Lease]) -> Lease | None:
    """Give the owner's record."""
    return min(records, key=lambda record: record.rank, default=None)


class Watch:
    """Measures how long the owner's record has not changed."""

    def __init__(self) -> None:
        self.seen: Lease | None = None
        self._since_ms = 0.0

    def see(self, record: Lease | None, now_ms: float) -> None:
        """Take what was found; `now_ms` is after it was."""
        if record != self.seen:
            self.seen, self._since_ms = record, now_ms

    def unchanged_ms(self, now_ms: float) -> float:
        """Give how long it is as it is."""
        return now_ms - self._since_ms

    def is_free(self, now_ms: float) -> bool:
        """Whether nobody's word stands in the way."""
        seen = self.seen
        return seen is None or seen.released or self.unchanged_ms(now_ms) >= seen.term_ms


class Stage(Enum):
    """How far a candidate is."""

    OUTSIDE = "outside"
    PLACED = "placed"
    WAITING = "waiting"
    OWNER = "owner"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Put:
    """Put this record, then look again at once."""

    record: Lease


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Remove this record of one's own, then look again at once."""

    record: Lease


@dataclass(frozen=True, slots=True)
class Sleep:
    """Look again after this long."""

    ms: float


@dataclass(frozen=True, slots=True)
class Gone:
    """It is over: somebody else owns."""

    owner: Lease | None


#: What a candidate does next.
Step: TypeAlias = Put | Withdraw | Sleep | Gone


@dataclass(slots=True)
class Candidate:
    """One process's way to the lease, and with it. Times are of its own duration clock, in ms.

    `floor`: no epoch below this is taken.
    """

    nonce: str
    owner: str
    term_ms: int
    margin_ms: int
    renew_ms: int
    floor: int = 1
    stage: Stage = Stage.OUTSIDE
    lease: Lease | None = None
    #: Whether there was no record at all when it took its own.
    is_first: bool = False
    _watch: Watch = field(default_factory=Watch)
    _before: Lease | None = None
    _asked_ms: float = 0.0
    _until_ms: float = float("-inf")
    _wait_until_ms: float = 0.0

    def holds(self, now_ms: float) -> bool:
        """Whether its word is good: nobody else's is."""
        return self.stage is Stage.OWNER and now_ms < self._until_ms

    def looked(self, records: Sequence[Lease], now_ms: float, dead: Collection[str] = ()) -> Step:
        """Decide what is next; `now_ms` is after the look. `dead`: nonces of processes known to be no more."""
        match self.stage:
            case Stage.OUTSIDE:
                return self._outside(records, now_ms, dead)
            case Stage.PLACED:
                return self._placed(records, now_ms, dead)
            case Stage.WAITING:
                return self._waiting(records, now_ms)
            case Stage.OWNER:
                return self._owner(records, now_ms)
            case Stage.LOST:
                return Gone(first(records))

    def rise_to(self, epoch: int, now_ms: float) -> Put:
        """Go on owning under a higher epoch. Only for who holds."""
        assert self.lease is not None
        assert self.holds(now_ms)
        self.lease = msgspec.structs.replace(self.lease, epoch=max(epoch, self.lease.epoch), beat=0)
        self._asked_ms = now_ms
        return Put(self.lease)

    def release(self) -> Put | None:
        """Let go; None where there is nothing to."""
        if self.lease is None or self.stage is Stage.LOST:
            return None
        self.stage = Stage.LOST
        self.lease = msgspec.structs.replace(self.lease, released=True)
        return Put(self.lease)

    def _outside(self, records: Sequence[Lease], now_ms: float, dead: Collection[str]) -> Put | Sleep:
        found = first(records)
        self._watch.see(found, now_ms)
        if found is not None and found.nonce not in dead and not self._watch.is_free(now_ms):
            return Sleep(min(self.renew_ms, found.term_ms - self._watch.unchanged_ms(now_ms)))
        self.is_first = found is None
        self._before = found
        self.lease = Lease(
            max(self.floor, found.epoch + 1 if found is not None else 1), self.nonce, self.owner, self.term_ms
        )
        self.stage, self._asked_ms = Stage.PLACED, now_ms
        return Put(self.lease)

    def _placed(self, records: Sequence[Lease], now_ms: float, dead: Collection[str]) -> Step:
        assert self.lease is not None
        if first(records) != self.lease:
            return self._again()
        oldest = self._before.epoch if self._before is not None else 0
        others = [r for r in records if r.nonce not in (self.nonce, *dead) and r.epoch >= oldest]
        if not others or others == [self._before]:
            self.stage = Stage.OWNER
            self._until_ms = self._asked_ms + self.term_ms - self.margin_ms
            return self._renewed(now_ms)
        longest_ms = max(record.term_ms for record in others)
        self.stage, self._wait_until_ms = Stage.WAITING, now_ms + longest_ms
        return Sleep(min(self.renew_ms, longest_ms))

    def _waiting(self, records: Sequence[Lease], now_ms: float) -> Step:
        if not self._is_first(records):
            return self._again()
        if now_ms < self._wait_until_ms:
            return self._renewed(now_ms) if self._is_due(now_ms) else self._nap(now_ms)
        self.stage = Stage.OWNER
        return self._renewed(now_ms)

    def _owner(self, records: Sequence[Lease], now_ms: float) -> Step:
        if not self._is_first(records):
            self.stage = Stage.LOST
            return Gone(first(records))
        if self.lease in records:
            self._until_ms = max(self._until_ms, self._asked_ms + self.term_ms - self.margin_ms)
        return self._renewed(now_ms) if self._is_due(now_ms) else Sleep(self.renew_ms)

    def _is_first(self, records: Sequence[Lease]) -> bool:
        """Whether nobody comes before it; its own record may be gone, with the folder: it is put again when due."""
        found = first(records)
        return self.lease is not None and (found is None or found.rank >= self.lease.rank)

    def _is_due(self, now_ms: float) -> bool:
        return now_ms - self._asked_ms >= self.renew_ms

    def _renewed(self, now_ms: float) -> Put:
        assert self.lease is not None
        self._asked_ms = now_ms
        owned = self.stage is Stage.OWNER
        self.lease = msgspec.structs.replace(self.lease, beat=self.lease.beat + 1, owned=owned)
        return Put(self.lease)

    def _nap(self, now_ms: float) -> Sleep:
        return Sleep(max(1.0, min(self.renew_ms, self._wait_until_ms - now_ms)))

    def _again(self) -> Withdraw:
        """Somebody else was first: begin anew, as one who watches."""
        assert self.lease is not None
        record, self.stage, self.lease = self.lease, Stage.OUTSIDE, None
        return Withdraw(record)
