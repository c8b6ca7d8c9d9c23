"""What evaluators say of their checkpoints and of their last recovery, for /metrics at the front edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

_OUTCOMES: Final = ("written", "failed", "passed_over")


def evaluator_exposition(statuses: Sequence[Mapping[str, Any]]) -> bytes:
    """Give the metrics of these status replies in the Prometheus text format."""
    return generate_latest(_Statuses(statuses))


class _Statuses(CollectorRegistry):
    """A registry of what some status replies say."""

    def __init__(self, statuses: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._rows = [(str(each["name"]), each["checkpoints"]) for each in statuses if each.get("checkpoints")]

    def collect(self) -> Iterator[Metric]:
        """Give the present values."""
        outcomes = CounterMetricFamily(
            "usher_checkpoints", "Checkpoints written, that could not be, and that a recovery passed over.",
            labels=["evaluator", "outcome"],
        )  # fmt: skip
        taken = _gauge("usher_checkpoint_taken_seconds", "When the newest checkpoint was taken, in Unix time.")
        size = _gauge("usher_checkpoint_bytes", "Size of the newest checkpoint.")
        pause = _gauge("usher_checkpoint_pause_seconds", "How long evaluation waited for the newest checkpoint's copy.")
        since = _gauge("usher_checkpoint_events_since", "Events that a recovery would replay now.")
        replayed = _gauge("usher_recovery_events", "Events that the last recovery replayed.")
        for name, row in self._rows:
            for outcome in _OUTCOMES:
                outcomes.add_metric([name, outcome], row[outcome])
            since.add_metric([name], row["events_since"])
            replayed.add_metric([name], row["recovered"]["events"])
            if newest := row["newest"]:
                taken.add_metric([name], newest["taken_at_ms"] / 1000)
                size.add_metric([name], newest["bytes"])
                if newest["pause_ms"] is not None:
                    pause.add_metric([name], newest["pause_ms"] / 1000)
        yield from (outcomes, taken, size, pause, since, replayed)


def _gauge(name: str, says: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, labels=["evaluator"])
