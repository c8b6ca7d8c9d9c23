"""A simulated destination: counts what it allows by itself, refuses, is slow, is down, and remembers what it took."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime

from actors.delivery.changes import Change
from destinations.answers import plain_failure
from destinations.outcomes import Delivered, Divide, Outcome, Permanent
from destinations.requests import Answer, NoResponse, Response
from tests.links.link import Allowed, Link
from tests.links.timeline import Timeline

#: 2026-11-23T00:00:00Z: what virtual time 0 is in a date.
START_MS = 1_795_392_000_000
TIMEOUT_MS = 30_000
#: A request's way there: at least so long, and by an exponential draw of this mean longer, in ms.
_WAY_MS, _WAY_MORE_MS = 5.0, 1.0


class _Window:
    """One limit: what it took in the last period."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self._taken: deque[tuple[int, int]] = deque()
        self._total = 0

    def wait_ms(self, cost: int, now_ms: int) -> int:
        """Give how long until `cost` would be taken; 0: now."""
        while self._taken and self._taken[0][0] <= now_ms - self.allowed.per_ms:
            self._total -= self._taken.popleft()[1]
        if self._total + cost <= self.allowed.amount or not self._taken:
            return 0
        return self._taken[0][0] + self.allowed.per_ms - now_ms

    def take(self, cost: int, now_ms: int) -> None:
        self._taken.append((now_ms, cost))
        self._total += cost


class SimulatedDestination:
    """`send` answers later, in virtual time. Everything it took is in `took`, in the order in which it took it."""

    def __init__(self, link: Link, time: Timeline) -> None:
        self._there = link.there
        self._time = time
        self._chance = random.Random(link.seed)
        self._windows = [_Window(allowed) for allowed in link.there.allows]
        self._here = 0
        self._requests = 0
        #: `(sync, changes)` of each.
        self.took: list[tuple[str, tuple[Change, ...]]] = []
        self.refused_for_pace = 0
        self.most_at_once = 0

    def send(
        self, sync: str, changes: tuple[Change, ...], answered: Callable[[tuple[Outcome, ...], Answer], None]
    ) -> None:
        """Take a request on its way; `answered` is called with an outcome per change when its answer is back."""
        # Requests that travel together may change places on the way.
        latency = self._there.latency
        way_ms = _WAY_MS + self._chance.expovariate(1 / _WAY_MORE_MS)
        took_ms = self._chance.lognormvariate(math.log(latency.median_ms), latency.spread)

        def arrive() -> None:
            outcomes, answer = self._judge(sync, changes)
            wait_ms = TIMEOUT_MS if isinstance(answer, NoResponse) else took_ms
            wait_ms += latency.each_ms * self._here
            self._here += 1
            self.most_at_once = max(self.most_at_once, self._here)

            def leave() -> None:
                self._here -= 1
                answered(outcomes, answer)

            self._time.after(wait_ms, leave)

        self._time.after(way_ms, arrive)

    def _judge(self, sync: str, changes: tuple[Change, ...]) -> tuple[tuple[Outcome, ...], Answer]:
        there, now_ms, count = self._there, self._time.now_ms, len(changes)
        outage = next((outage for outage in there.outages if outage.covers(now_ms)), None)
        if outage is not None:
            answer: Answer = self._answer(outage.answer) if outage.answer else NoResponse("timeout", "no answer")
            return self._whole(answer, count), answer
        if there.at_once and self._here >= there.at_once:
            return self._slow_down("nothing", 0, count)
        for window in self._windows:
            wait_ms = window.wait_ms(_cost(window, count), now_ms)
            if wait_ms:
                return self._slow_down(window.allowed.says, wait_ms, count)
        for window in self._windows:
            window.take(_cost(window, count), now_ms)
        if any(_is_each(change.user_id, there.chokes_every) for change in changes):
            return (Divide("status 400"),) * count, self._answer(400)
        refused = [_is_each(change.user_id, there.refuses_every) for change in changes]
        taken = tuple(change for change, no in zip(changes, refused, strict=True) if not no)
        self.took.append((sync, taken))
        self._requests += 1
        if there.fails_every and self._requests % there.fails_every == 0:
            answer = self._answer(500)
            return self._whole(answer, count), answer
        return tuple(Permanent("no such user") if no else Delivered() for no in refused), self._answer(200)

    def _slow_down(self, says: str, wait_ms: int, count: int) -> tuple[tuple[Outcome, ...], Answer]:
        self.refused_for_pace += 1
        seconds = math.ceil(wait_ms / 1000)
        when = datetime.fromtimestamp((START_MS + self._time.now_ms) / 1000 + seconds, UTC)
        text = {"seconds": str(seconds), "date": format_datetime(when.replace(microsecond=0), usegmt=True)}
        answer = self._answer(429, text.get(says))
        return self._whole(answer, count), answer

    def _answer(self, status: int, retry_after: str | None = None) -> Response:
        headers = {} if retry_after is None else {"retry-after": retry_after}
        return Response(status, headers, b"", START_MS + self._time.now_ms)

    @staticmethod
    def _whole(answer: Answer, count: int) -> tuple[Outcome, ...]:
        failure = plain_failure(answer)
        assert failure is not None, "only failures are told so"
        return (failure,) * count


def _is_each(user: str, every: int) -> bool:
    return bool(every) and int(user.removeprefix("user_")) % every == every - 1


def _cost(window: _Window, records: int) -> int:
    return records if window.allowed.counts == "records" else 1
