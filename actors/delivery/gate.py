"""What decides when a request may go: halts, Retry-After, the breaker, adaptive concurrency, shared limits."""

from __future__ import annotations

from actors.delivery.breaker import NEVER, Breaker
from actors.delivery.concurrency import AdaptiveLimit
from actors.delivery.dividing import Health
from actors.delivery.instructions import HaltState
from actors.delivery.outbox import OutboxBatch
from actors.delivery.stimuli import Shares


class Gate:
    """One sync's gate. Whoever passes is counted by `open_for`, and its answer by `answered`."""

    def __init__(self, shares: Shares, in_flight_max: int) -> None:
        self.halted: HaltState = ""
        #: Somebody paused the sync.
        self.suspended = False
        #: The audience is paused.
        self.paused = False
        self.breaker = Breaker()
        self._shares = shares
        self._adaptive = AdaptiveLimit(in_flight_max)
        self._throttled_until_ms = 0

    @property
    def shut(self) -> bool:
        """Whether nothing goes until somebody acts."""
        return bool(self.halted) or self.suspended or self.paused

    @property
    def concurrency(self) -> int:
        """Requests that may be unanswered now."""
        return self._adaptive.limit

    def configure(self, shares: Shares, in_flight_max: int) -> None:
        """Take changed definitions."""
        if shares is not self._shares:
            self._shares.limiter.leave()
        self._shares = shares
        self._adaptive.configure(in_flight_max)

    def leave(self) -> None:
        """Give up places in line, so that others need not wait."""
        self._shares.limiter.leave()

    def mend(self) -> None:
        """Somebody acted: whatever held requests back by experience is forgotten."""
        self._throttled_until_ms = 0
        self.breaker.reset()

    def throttle(self, until_ms: int) -> None:
        """Let nothing go before `until_ms`: the destination asked for it."""
        self._throttled_until_ms = max(self._throttled_until_ms, until_ms)

    def quiet(self, until_ms: int) -> None:
        """Let nobody who shares a rate limit send before `until_ms`."""
        self._shares.limiter.quiet(until_ms)

    def ready_ms(self, batch: OutboxBatch) -> int:
        """Give from when this sync itself lets a batch go; NEVER while a probe is under way.

        A probe does not wait for its own next attempt: the breaker's pause has taken its place.
        """
        if self.breaker.closed:
            return max(batch.next_attempt_ms, self._throttled_until_ms)
        return max(self.breaker.ready_ms(), self._throttled_until_ms)

    def open_for(self, batch: OutboxBatch, in_flight: int, now_ms: int) -> bool:
        """Whether the batch goes now. If it does, it is counted; else whoever shares the limits knows that it waits."""
        if in_flight >= self.concurrency or self.ready_ms(batch) > now_ms:
            return False
        if not self._shares.slots.free() or self._shares.limiter.wait_ms(len(batch.users), now_ms):
            return False
        self._shares.limiter.take(len(batch.users), now_ms)
        self._shares.slots.take()
        batch.slots = self._shares.slots
        self.breaker.sent()
        return True

    def go_ms(self, batch: OutboxBatch, now_ms: int) -> int:
        """Give from when a batch may go, as things are; NEVER where another request's answer decides."""
        ready_ms = self.ready_ms(batch)
        if ready_ms > now_ms:
            return ready_ms
        if not self._shares.slots.free():
            return NEVER  # whoever gives one back wakes us
        return now_ms + self._shares.limiter.wait_ms(len(batch.users), now_ms)

    def answered(
        self, batch: OutboxBatch, told: Health, latency_ms: float, in_flight: int, now_ms: int, jitter: float
    ) -> bool:
        """Count an answer; True where it shows that a destination that was down works again."""
        if batch.slots is not None:
            batch.slots.give_back()
            batch.slots = None
        if told != "unknown":
            refused = told in ("throttling", "failing")
            self._adaptive.answered(latency_ms, refused=refused, in_flight=in_flight, now_ms=now_ms)
        if told == "failing":
            self.breaker.failed(now_ms, jitter)
            return False
        if told == "unknown":
            self.breaker.undecided()
            return False
        # Who asks us to wait is alive: its own wish takes the place of the breaker's pause.
        return self.breaker.succeeded() and told == "well"
