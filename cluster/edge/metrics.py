"""What an edge process counts, for /metrics and for status."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class EdgeMetrics:
    """Counters of one edge process, in a registry of its own. Children are kept: finding one by labels costs 1 µs."""

    def __init__(self, edge: str, fast_answers: Callable[[], int], rows_waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._edge = edge
        self._requests = Counter(
            "usher_http_requests", "Requests answered, by route and status.", ("edge", "method", "route", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "usher_http_request_seconds", "From the head of a request to its answer.", ("edge", "route"),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._events = Counter(
            "usher_events", "Events answered for, by what became of them.", ("edge", "outcome"),
            registry=self._registry,
        )  # fmt: skip
        self._refusals = Counter(
            "usher_refused_requests", "Event requests refused as a whole, by reason.", ("edge", "reason"),
            registry=self._registry,
        )  # fmt: skip
        self._violations = Counter(
            "usher_contract_violations", "Rules of contracts that events broke, by event model.", ("edge", "model"),
            registry=self._registry,
        )  # fmt: skip
        self._registry.register(_Gauges(edge, fast_answers, rows_waiting))
        self._request_children: dict[tuple[str, str, int], Counter] = {}
        self._second_children: dict[str, Histogram] = {}
        self._event_children: dict[str, Counter] = {}
        #: Events by outcome: accepted, duplicate, or the reason of a rejection.
        self.events: dict[str, int] = {}
        #: Event requests refused as a whole, by reason.
        self.refusals: dict[str, int] = {}

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method, route, status)
        counter = self._request_children.get(key)
        if counter is None:
            counter = self._request_children[key] = self._requests.labels(self._edge, method, route, str(status))
        counter.inc()
        histogram = self._second_children.get(route)
        if histogram is None:
            histogram = self._second_children[route] = self._seconds.labels(self._edge, route)
        histogram.observe(seconds)

    def count_events(self, outcome: str, count: int) -> None:
        """Count events with one outcome."""
        if not count:
            return
        self.events[outcome] = self.events.get(outcome, 0) + count
        child = self._event_children.get(outcome)
        if child is None:
            child = self._event_children[outcome] = self._events.labels(self._edge, outcome)
        child.inc(count)

    def count_refusal(self, reason: str) -> None:
        """Count an event request of which nothing was taken."""
        self._refusals.labels(self._edge, reason).inc()
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def count_violations(self, model: str, events: int) -> None:
        """Count events that broke a rule of a model's contract."""
        self._violations.labels(self._edge, model).inc(events)

    def register(self, collector: Collector) -> None:
        """Add what another part of this process counts."""
        self._registry.register(collector)

    def exposition(self) -> bytes:
        """Give this process's metrics in the Prometheus text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    """Values that are read when asked for."""

    def __init__(self, edge: str, fast_answers: Callable[[], int], rows_waiting: Callable[[], int]) -> None:
        self._edge = edge
        self._fast_answers = fast_answers
        self._rows_waiting = rows_waiting

    def collect(self) -> Iterator[Metric]:
        """Give the present values."""
        fast = CounterMetricFamily("usher_membership_reads", "Look-ups answered by the fast path.", labels=["edge"])
        fast.add_metric([self._edge], self._fast_answers())
        yield fast
        waiting = GaugeMetricFamily("usher_edge_rows_waiting", "Event rows not yet answered for.", labels=["edge"])
        waiting.add_metric([self._edge], self._rows_waiting())
        yield waiting


def merge_expositions(texts: Iterable[str]) -> bytes:
    """Put the metrics of several processes together: each family once, with all samples. They differ by `edge`."""
    families: dict[str, Metric] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            known = families.setdefault(family.name, family)
            if known is not family:
                known.samples.extend(family.samples)
    return generate_latest(_Families(families.values()))


class _Families(CollectorRegistry):
    """A registry that holds ready families."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        """Give them."""
        yield from self._families
