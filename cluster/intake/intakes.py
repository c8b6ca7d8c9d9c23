"""The topics that one edge process reads: begun, ended and begun anew as definitions say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cluster.definitions.model import Definitions, Source
from cluster.intake.dead_letters import DeadLetterFile
from cluster.intake.kafka import KafkaIntake, Submit


class Intakes(Collector):
    """One intake a source of the kind kafka; its numbers for Prometheus too."""

    def __init__(
        self, edge: str, submit: Submit, count: Callable[[str, int], None], now_ms: Callable[[], int], folder: Path
    ) -> None:
        self._edge = edge
        self._submit = submit
        self._count = count
        self._now_ms = now_ms
        self._folder = folder
        self._running: dict[str, KafkaIntake] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False

    def take(self, definitions: Definitions | None) -> None:
        """Follow new definitions. A source that reads the same goes on undisturbed."""
        sources = definitions.sources if definitions is not None and not self._stopped else {}
        wanted = {source.id: source for source in sources.values() if source.kafka is not None}
        for source_id in list(self._running):
            known = wanted.get(source_id)
            if known is None or known.kafka != self._running[source_id].source.kafka:
                self._end(self._running.pop(source_id))
        for source_id, source in wanted.items():
            if source_id not in self._running:
                self._running[source_id] = self._begin(source)

    async def stop(self, within_ms: int) -> None:
        """Leave every group; what is under way is finished, or read again by whoever comes next."""
        self._stopped = True
        self.take(None)
        if self._ending:
            await asyncio.wait(self._ending, timeout=within_ms / 1000)

    def status(self) -> list[dict[str, Any]]:
        """Give each source's part that is read here."""
        return [intake.status() for intake in self._running.values()]

    def collect(self) -> Iterator[Metric]:
        """Give the present values."""
        records = CounterMetricFamily(
            "usher_source_records", "Records read from topics and done with.", labels=["edge", "source"]
        )
        letters = CounterMetricFamily(
            "usher_source_dead_letters", "Records set aside, by reason.", labels=["edge", "source", "reason"]
        )
        missed = CounterMetricFamily(
            "usher_source_missed_records", "Records that the broker deleted before they were read.",
            labels=["edge", "source"],
        )  # fmt: skip
        lag = GaugeMetricFamily(
            "usher_source_lag_records", "Records of a partition still to be read.",
            labels=["edge", "source", "topic", "partition"],
        )  # fmt: skip
        for source, intake in self._running.items():
            records.add_metric([self._edge, source], intake.records)
            missed.add_metric([self._edge, source], intake.status()["missed"])
            for reason, count in intake.dead_letters.items():
                letters.add_metric([self._edge, source, reason], count)
            for (topic, partition), behind in intake.lags.items():
                lag.add_metric([self._edge, source, topic, str(partition)], behind)
        yield from (records, letters, missed, lag)

    def _begin(self, source: Source) -> KafkaIntake:
        letters = DeadLetterFile(self._folder / f"{source.id}.{self._edge}.ndjson")
        intake = KafkaIntake(source, self._submit, letters, self._count, self._now_ms)
        intake.start()
        return intake

    def _end(self, intake: KafkaIntake) -> None:
        task = asyncio.get_running_loop().create_task(intake.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
