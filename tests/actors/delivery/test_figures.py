"""What is counted for /metrics: how long records took, how old the oldest unsent one is, what was tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.delivery.figures import Figures, Histogram
from cluster.clock import SystemClock
from destinations.records import Record
from tests.actors.delivery.asking import delivered_is, eventually, has_logged
from tests.actors.delivery.world import (
    InProcessController,
    InProcessEvaluator,
    Row,
    definitions,
    receiver,
    started,
    status,
)


def record(at_ms: int, cause: str = "event") -> Record:
    return Record("t", "aud", 1, "u", {}, "entered", at_ms, 0, cause, {}, "add")


def test_durations_fall_into_the_bucket_that_they_fit() -> None:
    histogram = Histogram((1.0, 5.0))
    histogram.add((0.0, 1.0, 1.5, 5.0, 5.5))
    histogram.add((9.0,))
    assert histogram.shown() == {"bounds_s": [1.0, 5.0], "counts": [2, 2, 2], "sum_s": 22.0}


def test_nothing_was_late_before_the_sync_began_and_what_repeats_has_no_age() -> None:
    figures = Figures(began_ms=10_000)
    figures.delivered([record(5_000), record(11_000), record(5_000, "resync")], now_ms=12_000)
    assert (figures.delivery.sum_s, sum(figures.delivery.counts)) == (3.0, 2)
    assert figures.since_ms([record(5_000), record(11_000)]) == 10_000
    assert figures.since_ms([record(5_000, "identifiers")]) is None


def test_a_sync_says_how_old_its_oldest_change_is_and_what_it_tried_again(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            endpoint.answer = status(500)
            actor = await started(tmp_path, InProcessController(definitions(endpoint.url)), evaluator)
            await asyncio.sleep(0.3)
            now_ms = SystemClock().now_ms()
            evaluator.change(Row("a", "entered", now_ms))
            await eventually(lambda: has_logged(actor, 1))
            (waiting,) = (await actor.metrics())["syncs"]
            age_ms = SystemClock().now_ms() - now_ms
            endpoint.answer = None
            await eventually(lambda: delivered_is(actor, 1))
            (done,) = (await actor.metrics())["syncs"]
            await actor.drain()

        assert 0 <= waiting["oldest_unsent_ms"] <= age_ms
        assert waiting["retried"] >= 1
        assert waiting["requests"]["5xx"] >= 1
        assert done["oldest_unsent_ms"] is None
        assert (done["delivered"], done["requests"]["2xx"], sum(done["delivery"]["counts"])) == (1, 1, 1)
        assert done["delivery"]["sum_s"] > 0

    asyncio.run(run())
