"""A circuit breaker: a destination that answers nothing of use is asked seldom, and by one request at a time.

Closed: requests go. After BREAKER_FAILURES failures in a row it opens: nothing goes for a while. Then it is half open:
one request probes. A success closes it, a failure opens it for twice as long, up to BREAKER_CAP_MS.
"""

from __future__ import annotations

from typing import Final, Literal

from actors.delivery.bounds import BREAKER_CAP_MS, BREAKER_FAILURES, BREAKER_FIRST_MS

#: "Nothing will happen by time alone."
NEVER: Final = 2**63 - 1


class Breaker:
    """One sync's breaker."""

    def __init__(self) -> None:
        self._failures = 0
        self._openings = 0
        self._until_ms: int | None = None
        self._probing = False

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """`half_open` from the first probe on until it is answered; an elapsed pause still reads `open`."""
        if self._until_ms is None:
            return "closed"
        return "half_open" if self._probing else "open"

    @property
    def closed(self) -> bool:
        """Whether requests go freely."""
        return self._until_ms is None

    def ready_ms(self) -> int:
        """Give the time from which a request may go: 0 where it may at any time, NEVER while a probe is under way."""
        if self._until_ms is None:
            return 0
        return NEVER if self._probing else self._until_ms

    def sent(self) -> None:
        """Count a request that goes; only once `ready_ms` is past."""
        self._probing = self._until_ms is not None

    def succeeded(self) -> bool:
        """Count an answer of use; True where it closes the breaker."""
        closes = self._until_ms is not None
        self.reset()
        return closes

    def failed(self, now_ms: int, jitter: float) -> None:
        """Count a failure; `jitter` in [0, 1) spreads the pause over the upper half of what it may be."""
        self._failures += 1
        if self._until_ms is None and self._failures < BREAKER_FAILURES:
            return
        if self._until_ms is not None and not self._probing:
            return  # a late answer to what went before it opened
        pause_ms = min(BREAKER_CAP_MS, BREAKER_FIRST_MS << min(self._openings, 40))
        self._openings += 1
        self._until_ms = now_ms + pause_ms // 2 + int(pause_ms // 2 * jitter)
        self._probing = False

    def undecided(self) -> None:
        """Count an answer that says nothing about the destination's health: the next request probes."""
        self._probing = False

    def reset(self) -> None:
        """Close it: somebody mended something, or it works."""
        self._failures, self._openings, self._until_ms, self._probing = 0, 0, None, False
