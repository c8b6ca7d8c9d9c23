"""What one sync counts for /metrics: how often, how many, how long. Counts begin with the process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from actors.delivery.changes import REPEATS
from destinations.records import Record

#: Upper ends of the buckets, seconds: from a transition to its delivery, and of one request.
DELIVERY_SECONDS: Final = (
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0
)  # fmt: skip
REQUEST_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Durations by bucket. `counts` has one more than there are `bounds`: what is longer than all."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def add(self, seconds: Sequence[float]) -> None:
        """Count durations."""
        values = np.asarray(seconds, dtype=np.float64)
        self.sum_s += float(values.sum())
        places = np.bincount(np.searchsorted(self.bounds, values), minlength=len(self.counts))
        self.counts = [known + int(more) for known, more in zip(self.counts, places, strict=True)]

    def shown(self) -> dict[str, Any]:
        """Give it as a plain value."""
        return {"bounds_s": list(self.bounds), "counts": list(self.counts), "sum_s": self.sum_s}


class Figures:
    """One sync's. `began_ms` is when the sync began: who was a member before was not late before it."""

    def __init__(self, began_ms: int) -> None:
        self.retried = 0
        self.requests: dict[str, int] = {}
        self.delivery = Histogram(DELIVERY_SECONDS)
        self.request = Histogram(REQUEST_SECONDS)
        self._began_ms = began_ms

    def answered(self, status: int | None, latency_ms: float) -> None:
        """Count a request by what came back; no status: no answer."""
        word = "none" if status is None else f"{status // 100}xx"
        self.requests[word] = self.requests.get(word, 0) + 1
        self.request.add((latency_ms / 1000,))

    def delivered(self, records: Iterable[Record], now_ms: int) -> None:
        """Count how long after their transitions records arrived; what only repeats membership has none."""
        late = [
            max(0, now_ms - max(record.at_ms, self._began_ms)) / 1000
            for record in records
            if record.cause not in REPEATS
        ]
        if late:
            self.delivery.add(late)

    def since_ms(self, records: Iterable[Record]) -> int | None:
        """Give since when the longest unsent of some records wait, UTC ms; None where all only repeat membership."""
        return self.floor(min((record.at_ms for record in records if record.cause not in REPEATS), default=None))

    def floor(self, at_ms: int | None) -> int | None:
        """Give a transition's time, or when the sync began if that was later."""
        return None if at_ms is None else max(at_ms, self._began_ms)

    def shown(self) -> dict[str, Any]:
        """Give them as a plain value."""
        return {
            "retried": self.retried,
            "requests": dict(self.requests),
            "delivery": self.delivery.shown(),
            "request": self.request.shown(),
        }
