"""What delivery says of its syncs, for /metrics at the front edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

#: Family, key of a sync's figures, what it says.
_GAUGES: Final = (
    ("usher_sync_backlog", "backlog", "Changes read and not finished."),
    ("usher_sync_dead_letters", "dead_letters", "Dead letters kept (batches)."),
    ("usher_sync_in_flight", "in_flight", "Requests without an answer."),
    ("usher_sync_concurrency", "concurrency", "Requests that may be without an answer now."),
)
_COUNTERS: Final = (
    ("usher_sync_delivered", "delivered", "Records delivered, over restarts."),
    ("usher_sync_failed", "failed", "Records dropped, dead or refused, over restarts."),
    ("usher_sync_retried", "retried", "Records whose attempt failed and that were tried again."),
)
_HISTOGRAMS: Final = (
    ("usher_sync_delivery_seconds", "delivery", "From a transition to its delivery."),
    ("usher_sync_request_seconds", "request", "From a request to its answer."),
)


def delivery_exposition(reply: Mapping[str, Any]) -> bytes:
    """Give the metrics of delivery's `metrics` reply in the Prometheus text format."""
    return generate_latest(_Delivery(reply))


class _Delivery(CollectorRegistry):
    """A registry of what one reply says."""

    def __init__(self, reply: Mapping[str, Any]) -> None:
        super().__init__()
        self._rows: Sequence[Mapping[str, Any]] = reply.get("syncs", ())
        self._alerts: Mapping[str, Any] = reply.get("alerts", {})

    def collect(self) -> Iterator[Metric]:
        """Give the present values."""
        for name, key, says in _GAUGES:
            gauge = GaugeMetricFamily(name, says, labels=["sync"])
            for row in self._rows:
                gauge.add_metric([row["id"]], row[key])
            yield gauge
        for name, key, says in _COUNTERS:
            counter = CounterMetricFamily(name, says, labels=["sync"])
            for row in self._rows:
                counter.add_metric([row["id"]], row[key])
            yield counter
        for name, key, says in _HISTOGRAMS:
            histogram = HistogramMetricFamily(name, says, labels=["sync"])
            for row in self._rows:
                histogram.add_metric([row["id"]], _buckets(row[key]), row[key]["sum_s"])
            yield histogram
        yield from self._others()
        yield from self._told()

    def _others(self) -> Iterator[Metric]:
        oldest = GaugeMetricFamily(
            "usher_sync_oldest_unsent_seconds", "Age of the oldest unsent change; 0 where there is none.",
            labels=["sync"],
        )  # fmt: skip
        state = GaugeMetricFamily("usher_sync_state", "1 for the state that a sync is in.", labels=["sync", "state"])
        requests = CounterMetricFamily(
            "usher_sync_requests", "Requests with records, by the class of their HTTP status (none: no answer).",
            labels=["sync", "status"],
        )  # fmt: skip
        for row in self._rows:
            oldest.add_metric([row["id"]], (row["oldest_unsent_ms"] or 0) / 1000)
            state.add_metric([row["id"], row["state"]], 1)
            for status, count in row["requests"].items():
                requests.add_metric([row["id"], status], count)
        yield from (oldest, state, requests)

    def _told(self) -> Iterator[Metric]:
        firing = GaugeMetricFamily("usher_alert_firing", "1 where an alert is true.", labels=["alert", "subject"])
        for row in self._alerts.get("firing", ()):
            firing.add_metric([row["alert"], row["subject"]], 1)
        notices = CounterMetricFamily(
            "usher_alert_notices", "Notices of alerts, by channel and what became of them.",
            labels=["channel", "outcome"],
        )  # fmt: skip
        for row in self._alerts.get("channels", ()):
            for outcome in ("sent", "lost"):
                notices.add_metric([row["id"], outcome], row[outcome])
        yield from (firing, notices)


def _buckets(histogram: Mapping[str, Any]) -> list[tuple[str, float]]:
    bounds = [*(repr(float(bound)) for bound in histogram["bounds_s"]), "+Inf"]
    return list(zip(bounds, accumulate(histogram["counts"]), strict=True))
