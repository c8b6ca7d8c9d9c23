"""A token bucket on given time: one token a request, shared by all syncs of a destination."""

from __future__ import annotations

import math
from typing import Final

#: How many seconds' worth of requests may go at once after a quiet time.
_BURST_S: Final = 0.1


class TokenBucket:
    """`rate_per_s` None never makes anybody wait. Time that goes back gives and takes nothing."""

    def __init__(self, rate_per_s: float | None) -> None:
        self._rate_per_s = rate_per_s
        self._room = max(1.0, (rate_per_s or 0.0) * _BURST_S)
        self._tokens = self._room
        self._filled_ms: int | None = None

    def take(self, now_ms: int) -> bool:
        """Take a token if there is one."""
        if self._rate_per_s is None:
            return True
        self._fill(now_ms, self._rate_per_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait_ms(self, now_ms: int) -> int:
        """Give how long until `take` can succeed, 0 where it would now."""
        if self._rate_per_s is None:
            return 0
        self._fill(now_ms, self._rate_per_s)
        missing = 1.0 - self._tokens
        return math.ceil(missing * 1000 / self._rate_per_s) if missing > 0 else 0

    def _fill(self, now_ms: int, rate_per_s: float) -> None:
        passed_ms = 0 if self._filled_ms is None else max(0, now_ms - self._filled_ms)
        self._filled_ms = now_ms
        # The tiny addition keeps a wait of whole ms from ending a rounding error short of its token.
        self._tokens = min(self._room, self._tokens + passed_ms * rate_per_s / 1000 + 1e-9)
