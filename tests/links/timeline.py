"""Virtual time: what is to happen when, in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Timeline:
    """Time passes only from one thing that happens to the next. `now_ms` counts from the start of the link."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, when_ms: int, happens: Callable[[], None]) -> None:
        """Let something happen at a time; what is late happens now."""
        self._number += 1
        heapq.heappush(self._due, (max(when_ms, self.now_ms), self._number, happens))

    def after(self, ms: float, happens: Callable[[], None]) -> None:
        """Let something happen after so many ms."""
        self.at(self.now_ms + round(ms), happens)

    def run(self, until_ms: int) -> None:
        """Let everything happen that is due before a time."""
        while self._due and self._due[0][0] < until_ms:
            self.now_ms, _, happens = heapq.heappop(self._due)
            happens()
        self.now_ms = until_ms
