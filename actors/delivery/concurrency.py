"""How many requests may be unanswered: adapted per sync, and counted over all syncs of a scope.

Adding one when calm and cutting by a factor on trouble settles near what the destination can take, and lets syncs
that share it settle at fair shares (AIMD, as TCP does it). Trouble is a refusal, or an answer time that rises well
above what it was. Looked at once per answer time, for the effect of a change is not seen earlier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from destinations.limits import ConcurrencyLimit

#: Where it starts: enough to hide the latency of a healthy destination.
_START: Final = 4.0
#: What is left after a refusal, and after a rise of the answer time, which may have other causes.
_KEPT_ON_REFUSAL: Final = 0.5
_KEPT_ON_RISE: Final = 0.8
#: An answer time rises when it is above this factor of the best, and by at least so many ms: jitter is none.
_RISE_FACTOR: Final = 2.0
_RISE_MS: Final = 20.0
#: The best answer time is that of the last one or two stretches of this length: destinations change.
_BEST_OF_MS: Final = 5 * 60_000


class AdaptiveLimit:
    """One sync's own limit, from 1 to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = min(_START, float(most))
        #: The best answer time of the stretch before and of this one, and when this one began.
        self._best_ms: tuple[float, float] = (math.inf, math.inf)
        self._stretch_ms = 0
        #: How long a period is: the last one's answer time.
        self._period_ms = 0.0
        #: Since when answers are counted, and what they were.
        self._began_ms = 0
        self._refused = False
        self._reached = False
        self._latency_sum_ms = 0.0
        self._answers = 0
        #: Answers to come of requests that went before the last cut: they say nothing about its effect.
        self._stale = 0

    @property
    def limit(self) -> int:
        """Requests that may be unanswered now."""
        return int(self._limit)

    def configure(self, most: int) -> None:
        """Go on under another bound."""
        self._most = most
        self._limit = min(self._limit, float(most))

    def answered(self, latency_ms: float, *, refused: bool, in_flight: int, now_ms: int) -> None:
        """Count one answer; `in_flight` counts the requests that were unanswered just before it, itself included."""
        if self._stale:
            self._stale -= 1
            return
        self._refused = self._refused or refused
        self._reached = self._reached or in_flight >= self.limit
        self._latency_sum_ms += latency_ms
        self._answers += 1
        if refused or not 0 <= now_ms - self._began_ms < self._period_ms:
            before = self._limit
            self._adapt(now_ms)
            self._stale = in_flight - 1 if self._limit < before else 0

    def _adapt(self, now_ms: int) -> None:
        latency_ms = self._latency_sum_ms / self._answers
        if self._refused:
            self._limit = max(1.0, self._limit * _KEPT_ON_REFUSAL)
        elif self._reached and self._rises(latency_ms, now_ms):
            self._limit = max(1.0, self._limit * _KEPT_ON_RISE)
        elif self._reached:
            self._limit = min(float(self._most), self._limit + 1.0)
        self._begin_period(now_ms)
        self._period_ms = latency_ms

    def _rises(self, latency_ms: float, now_ms: int) -> bool:
        """Compare with the best under load: with fewer requests than may go, batches may be small and answers quick."""
        before_ms, here_ms = self._best_ms
        if not 0 <= now_ms - self._stretch_ms < _BEST_OF_MS:
            before_ms, here_ms, self._stretch_ms = here_ms, math.inf, now_ms
        self._best_ms = (before_ms, min(here_ms, latency_ms))
        return latency_ms > max(_RISE_FACTOR * min(self._best_ms), min(self._best_ms) + _RISE_MS)

    def _begin_period(self, now_ms: int) -> None:
        self._began_ms = now_ms
        self._refused = False
        self._reached = False
        self._latency_sum_ms = 0.0
        self._answers = 0


class Slots:
    """Requests without an answer over all syncs of one scope. Who found none free is told when one is."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self._used = 0
        self._waiting: dict[str, Callable[[], None]] = {}

    def free(self, owner: str, wake: Callable[[], None]) -> bool:
        """Whether one is free; if not, `wake` is called once there may be."""
        if self._used < self.amount:
            return True
        self._waiting[owner] = wake
        return False

    def take(self) -> None:
        """Take one; only after `free` said so."""
        self._used += 1

    def give_back(self) -> None:
        """Give one back and wake whoever waits longest."""
        self._used -= 1
        if self._waiting:
            owner = next(iter(self._waiting))
            self._waiting.pop(owner)()


class SharedSlots:
    """Every concurrency limit of one sync. `wake` asks its shell for a `Tick`."""

    def __init__(self, owner: str, slots: Sequence[Slots] = (), wake: Callable[[], None] = lambda: None) -> None:
        self._owner = owner
        self._slots = tuple(slots)
        self._wake = wake

    def free(self) -> bool:
        """Whether a request may go."""
        return all(slots.free(self._owner, self._wake) for slots in self._slots)

    def take(self) -> None:
        """Count a request that goes; only after `free` said so."""
        for slots in self._slots:
            slots.take()

    def give_back(self) -> None:
        """Count its answer."""
        for slots in self._slots:
            slots.give_back()


class ConcurrencyScopes:
    """The slots by scope; the only maker of those that are shared."""

    def __init__(self) -> None:
        self._slots: dict[str, Slots] = {}

    def shared(self, owner: str, limits: Iterable[ConcurrencyLimit], wake: Callable[[], None]) -> SharedSlots:
        """Give a sync's share of its scopes; a scope that is known under another amount takes the new one."""
        slots = []
        for limit in limits:
            known = self._slots.setdefault(limit.scope, Slots(limit.amount))
            known.amount = limit.amount
            slots.append(known)
        return SharedSlots(owner, slots, wake)
