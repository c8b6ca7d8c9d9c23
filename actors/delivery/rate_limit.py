"""Rate limits on given time, shared by every sync that has a limit of the same scope.

Two things hold at once: a token bucket spreads requests over the period, and a window of what was taken keeps every
period at its amount, also after a quiet time, when the bucket is full. Whoever has to wait keeps its place: syncs
that share a limit are served in turn, however often the others ask.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from destinations.limits import RateLimit

#: What may go at once after a quiet time where a limit does not say, as a part of a second.
_BURST_S: Final = 0.1
#: Tokens kept beyond the burst, so that what comes late costs no throughput: those of so many seconds while somebody
#: waits, and so long after the last request (a machine too busy to have the next one ready), else a part of one. The
#: window holds the period all the same.
_LATE_S: Final = 1.0
_LATE_TOKENS: Final = 0.5
#: By so much a period is longer here than there: requests come nearer to each other on their way than they went.
_MARGIN: Final = 0.01
#: Above so many in a period the window is kept in slots, of which a period has as many: it errs by one slot, to less.
_SLOTS: Final = 500
#: A sync that waits and does not come so long after its time has lost its place.
_ABSENT_MS: Final = 1_000
#: What adding up fractions may lack of a whole token.
_ROUNDING: Final = 1e-9


class Bucket:
    """One limit at work. Time that goes back gives and takes nothing."""

    def __init__(self, limit: RateLimit) -> None:
        self._tokens = math.nan
        self._filled_ms: int | None = None
        self._quiet_until_ms = 0
        #: What was taken in the last period: [when, how many], oldest first.
        self._taken: deque[list[int]] = deque()
        self._taken_total = 0
        self._last_ms = -math.inf
        #: Who waits, in their turn: cost, and when the place is lost.
        self._waiting: dict[str, tuple[int, int]] = {}
        self.configure(limit)

    def configure(self, limit: RateLimit) -> None:
        """Go on under another amount, period or burst."""
        self.limit = limit
        self._per_ms = limit.amount / limit.per_ms
        burst = limit.burst if limit.burst is not None else self._per_ms * 1000 * _BURST_S
        self._burst = max(1.0, burst)
        self._room = self._burst + _LATE_TOKENS
        self._room_waited = max(self._room, self._burst + self._per_ms * 1000 * _LATE_S)
        self._tokens = self._burst if math.isnan(self._tokens) else min(self._tokens, self._room)
        # Half a request a second is one request in two seconds.
        whole = max(1.0, limit.amount)
        self._window_max = math.ceil(whole)
        self._window_ms = math.ceil(whole / self._per_ms * (1 + _MARGIN))
        self._slot_ms = max(1, self._window_ms // _SLOTS) if self._window_max > _SLOTS else 1

    def wait_ms(self, owner: str, cost: int, now_ms: int) -> int:
        """Give how long until `owner` may take `cost`, 0 where it may now. Whoever has to wait stands in line."""
        self._pass_time(now_ms)
        ahead = 0
        for other, (its_cost, _) in self._waiting.items():
            if other == owner:
                break
            ahead += its_cost
        wait_ms = max(
            self._quiet_until_ms - now_ms, self._bucket_wait_ms(ahead, cost), self._window_wait_ms(ahead + cost, now_ms)
        )
        if wait_ms > 0:
            self._waiting[owner] = (cost, now_ms + wait_ms + _ABSENT_MS)
        return max(0, wait_ms)

    def take(self, owner: str, cost: int, now_ms: int) -> None:
        """Take it; only after `wait_ms` gave 0. What costs more than the bucket holds leaves it in debt."""
        self._tokens -= cost
        self._last_ms = now_ms
        self._taken_total += cost
        if self._taken and now_ms - self._taken[-1][0] < self._slot_ms:
            self._taken[-1][1] += cost
        else:
            self._taken.append([now_ms, cost])
        self._waiting.pop(owner, None)

    def quiet(self, until_ms: int) -> None:
        """Let nothing go before `until_ms`."""
        self._quiet_until_ms = max(self._quiet_until_ms, until_ms)

    def leave(self, owner: str) -> None:
        """Give up a place in line."""
        self._waiting.pop(owner, None)

    def _pass_time(self, now_ms: int) -> None:
        if self._filled_ms is not None and now_ms > self._filled_ms:
            room = self._room_waited if self._waiting or self._goes_on(now_ms) else self._room
            self._tokens = min(room, self._tokens + (now_ms - self._filled_ms) * self._per_ms)
        if self._filled_ms is not None and now_ms < self._filled_ms:
            # The clock was set back: what was taken counts from now, and no place is kept for ever.
            self._taken = deque([[now_ms, self._taken_total]]) if self._taken_total else deque()
            self._quiet_until_ms -= self._filled_ms - now_ms
            self._waiting.clear()
        self._filled_ms = now_ms
        while self._taken and self._gone_ms(self._taken[0]) <= now_ms:
            self._taken_total -= self._taken.popleft()[1]
        if self._waiting:
            self._waiting = {owner: place for owner, place in self._waiting.items() if place[1] > now_ms}

    def _goes_on(self, now_ms: int) -> bool:
        """Whether the last request is so recent that lateness is made up for; a burst that was stated is kept to."""
        return self.limit.burst is None and now_ms - self._last_ms <= _LATE_S * 1000

    def _bucket_wait_ms(self, ahead: int, cost: int) -> int:
        missing = ahead + min(float(cost), self._burst) - self._tokens
        return math.ceil(missing / self._per_ms) if missing > _ROUNDING else 0

    def _window_wait_ms(self, count: int, now_ms: int) -> int:
        over = self._taken_total + count - self._window_max
        last_ms = now_ms
        for slot in self._taken:
            if over <= 0:
                break
            over -= slot[1]
            last_ms = self._gone_ms(slot)
        return max(0, last_ms - now_ms)

    def _gone_ms(self, slot: list[int]) -> int:
        return slot[0] + self._window_ms + self._slot_ms - 1


#: Of a bucket: the scope, what it counts, the period in ms.
_Key: TypeAlias = tuple[str, str, int]


class Limiter:
    """Every rate limit of one sync: a request goes when it fits all of them."""

    def __init__(self, owner: str, buckets: Sequence[Bucket] = ()) -> None:
        self._owner = owner
        self._buckets = tuple(buckets)

    def wait_ms(self, records: int, now_ms: int) -> int:
        """Give how long until a request of `records` records may go, 0 where it may now."""
        return max((b.wait_ms(self._owner, _cost(b, records), now_ms) for b in self._buckets), default=0)

    def take(self, records: int, now_ms: int) -> None:
        """Count a request that goes now; only after `wait_ms` gave 0."""
        for bucket in self._buckets:
            bucket.take(self._owner, _cost(bucket, records), now_ms)

    def quiet(self, until_ms: int) -> None:
        """Let nobody who shares a limit send before `until_ms`."""
        for bucket in self._buckets:
            bucket.quiet(until_ms)

    def leave(self) -> None:
        """Stop waiting, so that others need not wait for it."""
        for bucket in self._buckets:
            bucket.leave(self._owner)


class RateScopes:
    """The buckets by scope; the only maker of limiters that share.

    Where owners differ on a limit, the strictest holds for all.
    """

    def __init__(self) -> None:
        self._buckets: dict[_Key, Bucket] = {}
        #: What each owner has of each bucket.
        self._asked: dict[_Key, dict[str, RateLimit]] = {}
        self._of: dict[str, tuple[_Key, ...]] = {}

    def limiter(self, owner: str, limits: Iterable[RateLimit]) -> Limiter:
        """Give an owner's limiter, in place of an earlier one. A bucket under another amount goes on with its count."""
        wanted: dict[_Key, RateLimit] = {}
        for limit in limits:
            key: _Key = (limit.scope, limit.counts, limit.per_ms)
            wanted[key] = min(limit, wanted.get(key, limit), key=_strictness)
        for gone in self._of.get(owner, ()):
            if gone not in wanted:
                self._leave(owner, gone)
        self._of[owner] = tuple(wanted)
        for key, limit in wanted.items():
            asked = self._asked.setdefault(key, {})
            before = asked.get(owner)
            asked[owner] = limit
            if key not in self._buckets:
                self._buckets[key] = Bucket(limit)
            elif _strictness(limit) < _strictness(self._buckets[key].limit) or before not in (None, limit):
                self._settle(key)
        return Limiter(owner, [self._buckets[key] for key in wanted])

    def forget(self, owner: str) -> None:
        """An owner is gone; buckets that nobody has any more go with it."""
        for key in self._of.pop(owner, ()):
            self._leave(owner, key)

    def _leave(self, owner: str, key: _Key) -> None:
        asked = self._asked[key]
        del asked[owner]
        self._buckets[key].leave(owner)
        if not asked:
            del self._asked[key], self._buckets[key]
        else:
            self._settle(key)

    def _settle(self, key: _Key) -> None:
        strictest = min(self._asked[key].values(), key=_strictness)
        if self._buckets[key].limit != strictest:
            self._buckets[key].configure(strictest)


def _strictness(limit: RateLimit) -> tuple[float, float]:
    return limit.amount, math.inf if limit.burst is None else limit.burst


def _cost(bucket: Bucket, records: int) -> int:
    return records if bucket.limit.counts == "records" else 1
