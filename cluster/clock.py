"""The only reader of real time. Everything else is told what time it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Gives the time in UTC ms since 1970 (`now_ms`) and a duration clock (`monotonic_ms`)."""

    def now_ms(self) -> int:
        """UTC, ms since 1970; may jump when the machine's clock is set."""
        ...

    def monotonic_ms(self) -> float:
        """Ms since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """UTC, ms since 1970, cut to whole ms."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Ms of the monotonic clock."""
        return time.monotonic_ns() / 1_000_000


@dataclass(slots=True)
class ManualClock:
    """A clock for tests: time passes only by `advance`."""

    current_ms: int = 0

    def now_ms(self) -> int:
        """Give the time it was set to."""
        return self.current_ms

    def monotonic_ms(self) -> float:
        """Give the same time as a duration clock."""
        return float(self.current_ms)

    def advance(self, by_ms: int) -> int:
        """Let `by_ms` pass and give the new time."""
        self.current_ms += by_ms
        return self.current_ms
