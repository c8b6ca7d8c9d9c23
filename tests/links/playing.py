"""Plays a link: delivery's own machine and limits against a simulated destination, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from actors.delivery.concurrency import ConcurrencyScopes
from actors.delivery.plans import plan_syncs
from actors.delivery.rate_limit import RateScopes
from actors.delivery.stimuli import Shares
from cluster.definitions.parsing import parse_document
from destinations.registry import KINDS
from tests.links.delivering import SyncInTime
from tests.links.destination import SimulatedDestination
from tests.links.link import Link
from tests.links.timeline import Timeline

MINUTE_MS = 60_000
#: Minutes are looked at every so often, and begin once the first burst is over.
_STEP_MS = 1_000
_BEGIN_MS = 1_000


@dataclass(frozen=True)
class Facts:
    """What links expect ranges of; over all syncs. Rates only of minutes in which every sync had something to send."""

    least_requests_a_minute: float
    most_requests_a_minute: float
    least_records_a_minute: float
    most_records_a_minute: float
    requests: float
    refused_for_pace: float
    #: Of all requests those that are not a batch's first.
    repeats: float
    delivered: float
    dead: float
    #: What is read and not delivered, and what the log holds beside.
    left: float
    drained_after_s: float
    #: Of a fair share, what the sync has that has least of the requests.
    least_share: float
    most_pending: float
    most_at_once: float
    longest_pause_s: float


@dataclass(frozen=True)
class Played:
    facts: Facts
    syncs: list[SyncInTime]
    there: SimulatedDestination


def play(link: Link) -> Played:
    """Play a link to its end."""
    time = Timeline()
    there = SimulatedDestination(link, time)
    rates, slots = RateScopes(), ConcurrencyScopes()
    syncs: dict[str, SyncInTime] = {}
    for number, (name, plan) in enumerate(plans(link).items()):

        def wake(name: str = name) -> None:
            time.after(0, lambda: syncs[name].wake())

        limits = plan.kind.rate_limits(plan.settings, plan.shape)
        at_once = plan.kind.concurrency_limits(plan.settings, plan.shape)
        shares = Shares(rates.limiter(name, limits), slots.shared(name, at_once, wake))
        syncs[name] = SyncInTime(plan.config, shares, link, there, time, link.seed * 100 + number)
    time.run(link.lasts_ms)
    return Played(_facts(list(syncs.values()), there, link), list(syncs.values()), there)


def plans(link: Link) -> dict[str, Any]:
    """Give the syncs' plans, from definitions as users write them."""
    model = {"id": "users", "primary_key": "user_id", "traits": {
        "source": {"kind": "parquet", "path": "users.parquet"}, "columns": {"email": {"type": "string"}},
    }}  # fmt: skip
    sync = {"audience": "aud", "destination": "there", "identifiers": {"external_id": "user_id"}, **link.sync}
    document = {
        "version": 1,
        "parent_models": [model],
        "audiences": [{"id": "aud", "parent": "users", "where": {"trait": "email", "is_set": True}}],
        "destinations": [{"id": "there", **link.destination}],
        "syncs": [{"id": f"sync_{number}", **sync} for number in range(link.syncs)],
    }
    found = plan_syncs(parse_document(document, "<link>", KINDS), (0,), (), KINDS)
    # The batches of one sync would be those of another under the same name.
    return {name: replace(plan, config=replace(plan.config, sync=name)) for name, plan in found.items()}


def _facts(syncs: list[SyncInTime], there: SimulatedDestination, link: Link) -> Facts:
    sent = sorted(request for sync in syncs for request in sync.sent)
    times = np.array([when for when, _, _ in sent], np.int64)
    busy_ms = min(sync.busy_until_ms(link.lasts_ms) for sync in syncs)
    starts = np.arange(_BEGIN_MS, busy_ms - MINUTE_MS, _STEP_MS)
    requests = _in_minutes(times, np.ones(len(times), np.int64), starts)
    records = _in_minutes(times, np.array([count for _, count, _ in sent], np.int64), starts)
    shares = [len(sync.sent) * len(syncs) / max(1, len(sent)) for sync in syncs]
    return Facts(
        least_requests_a_minute=float(requests.min(initial=2**31)),
        most_requests_a_minute=float(requests.max(initial=0)),
        least_records_a_minute=float(records.min(initial=2**31)),
        most_records_a_minute=float(records.max(initial=0)),
        requests=len(sent),
        refused_for_pace=there.refused_for_pace,
        repeats=sum(attempt > 1 for _, _, attempt in sent) / max(1, len(sent)),
        delivered=sum(sync.delivered for sync in syncs),
        dead=sum(sync.dead for sync in syncs),
        left=sum(sync.left for sync in syncs),
        drained_after_s=max(sync.busy_until_ms(link.lasts_ms) for sync in syncs) / 1000,
        least_share=min(shares),
        most_pending=max(sync.most_pending for sync in syncs),
        most_at_once=there.most_at_once,
        longest_pause_s=max((later - earlier for earlier, later in pairwise(times.tolist())), default=0) / 1000,
    )


def _in_minutes(times: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Give how much went in the minute from each start on."""
    total = np.concatenate([[0], np.cumsum(counts)])
    ends = np.searchsorted(times, starts + MINUTE_MS)
    found: np.ndarray = total[ends] - total[np.searchsorted(times, starts)]
    return found


FACTS = frozenset(field.name for field in fields(Facts))
