"""What rules are judged on, asked of the syncs of this process and of the evaluators."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from actors.delivery.alerting.rules import ALL_EVENTS, Sample, SyncSample
from actors.delivery.runner import SyncRunner
from cluster.runtime.protocols import Evaluator

#: How long an evaluator may take to say how it is.
_STATUS_WAIT_S: Final = 5.0


async def sample_of(runners: Mapping[str, SyncRunner], evaluators: Sequence[Evaluator], *, asks: bool) -> Sample:
    """Take a sample; evaluators are asked where `asks` says so, and say nothing together unless all of them answer."""
    syncs = {id_: await _sync(runner) for id_, runner in list(runners.items()) if not runner.ending}
    if not asks or not evaluators:
        return Sample(syncs)
    async with asyncio.timeout(_STATUS_WAIT_S):
        replies = await asyncio.gather(*(evaluator.status() for evaluator in evaluators))
    if any("error" in reply for reply in replies):
        return Sample(syncs)
    return Sample(syncs, _sizes(replies), _events(replies))


def _events(replies: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Give how many events were accepted: all of them, those of each event model and of each source."""
    counts = {ALL_EVENTS: sum(int(reply.get("events", {}).get("accepted", 0)) for reply in replies)}
    for reply in replies:
        arrivals = reply.get("arrivals", {})
        for section, noun in (("models", "event model"), ("sources", "source")):
            for id_, count in arrivals.get(section, {}).items():
                subject = f"{noun} {id_}"
                counts[subject] = counts.get(subject, 0) + int(count)
    return counts


def _sizes(replies: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for reply in replies:
        for audience, about in reply.get("audiences", {}).items():
            sizes[audience] = sizes.get(audience, 0) + int(about.get("size", 0))
    return sizes


async def _sync(runner: SyncRunner) -> SyncSample:
    status = runner.status()
    return SyncSample(
        str(status["state"]), str(status["reason"]), int(status["delivered"]), int(status["failed"]),
        runner.desk.figures.retried, await runner.oldest_unsent_ms(),
    )  # fmt: skip
