"""`latency`: from the POST of an event to the webhook about it, and how late exits by time alone arrive.

Each event is one request of one customer who is in no audience: it makes one entry at once, and one exit when the
window ends. Events are sent on schedule (open loop) and counted from when they were due.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections import Counter
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from benchmarks.cases import Step
from benchmarks.load import Load, Sent, generators, open_loop
from benchmarks.receiver import Delivery, Receiver, is_signed
from benchmarks.results import CaseResult, Check, Figure, curve, equal, quantile
from benchmarks.shop import customers, shop_document, track_request, user_name
from benchmarks.system import cpu_us_each, running
from benchmarks.verify import all_answered

RATE = 2_000
P50_TARGET_MS, P99_TARGET_MS = 25.0, 150.0
EXIT_TARGET_MS = 250.0
SYNC = "recent_hook"
CONNECTIONS = 256
#: Sent and checked like the rest, but not counted in the figures: connections open, caches fill.
WARM_UP_S = 1.0
#: Customers who were in the trait snapshot; the others are new to Usher.
CUSTOMERS = 10_000
_SIGNATURES_CHECKED = 200
_PATIENCE_S = 20.0
_POLL_S = 0.1


class Arrivals:
    """Per customer: when its entry and its exit were received, and what they said. 0 where none came."""

    def __init__(self, count: int) -> None:
        self.entered_ns = np.zeros(count, np.int64)
        self.entered_at_ms = np.zeros(count, np.int64)
        self.exited_wall_ms = np.zeros(count, np.float64)
        self.exited_at_ms = np.zeros(count, np.int64)
        #: Changes by (customer, kind), and webhook ids by transition id: both must be single.
        self.kinds: Counter[tuple[int, str]] = Counter()
        self.batches: dict[str, set[str]] = {}


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure both latencies in one run."""
    return asyncio.run(_measure(quick, step))


async def _measure(quick: bool, step: Step) -> CaseResult:
    seconds, window_ms = (5.0, 2_000) if quick else (30.0, 5_000)
    count = int(RATE * (seconds + WARM_UP_S))
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    receiver = Receiver()
    try:
        url = receiver.start()
        with generators(1) as pool:
            async with running(
                customers(CUSTOMERS), lambda path: _document(path, url, secret, window_ms), step
            ) as system:
                requests = tuple(track_request(system.authority, user_name(i), i) for i in range(count))
                load = Load(system.host, system.port, requests, CONNECTIONS)
                before = await system.cpu_seconds()
                step(f"{RATE:,} events/s for {seconds + WARM_UP_S:.0f} s")
                sent = await asyncio.get_running_loop().run_in_executor(
                    pool, open_loop, load, RATE, seconds + WARM_UP_S
                )
                step("waiting for the last webhooks")
                await _until_seen(receiver, 2 * count)
                after = await system.cpu_seconds()
                status = await system.client.status()
        deliveries = receiver.stop()
    finally:
        receiver.close()
    arrivals = read_arrivals(deliveries, count)
    sync = next(row for row in status.syncs if row.id == SYNC)
    checks = [
        all_answered([sent]),
        *arrival_checks(arrivals, count, window_ms),
        _signatures(deliveries, secret),
        equal("status of the sync: delivered, failed, backlog", (sync.delivered, sync.failed, sync.backlog),
              (2 * count, 0, 0)),
        system.ended_well(),
    ]  # fmt: skip
    figures, curves = figures_of(sent, arrivals, int(RATE * WARM_UP_S))
    notes = {
        "events": count, "webhooks": len(deliveries),
        "changes_a_webhook": round(2 * count / max(1, len(deliveries)), 1),
        "generator_late_p99_ms": round(sent.sent_late_ms, 2), "filesystem": system.filesystem,
        "cpu_us_an_event": cpu_us_each(before, after, count),
    }  # fmt: skip
    return CaseResult("latency", figures, checks, curves, notes)


def _document(traits_path: str, url: str, secret: str, window_ms: int) -> dict[str, Any]:
    document = shop_document(traits_path)
    recent = {"id": "recent", "parent": "users", "where": {"event": "e0", "within": f"{window_ms}ms"}}
    document["audiences"].append(recent)
    document["destinations"] = [{"id": "hook", "kind": "webhook", "url": url, "secret": secret, "allow_private": True}]
    sync = {"id": SYNC, "audience": "recent", "destination": "hook", "identifiers": {"user_id": "user_id"}}
    return {**document, "syncs": [sync]}


async def _until_seen(receiver: Receiver, changes: int) -> None:
    """Wait until so many changes came, or none came for long: what is missing shows in the checks."""
    seen, quiet_s = -1, 0.0
    while receiver.changes_seen < changes and quiet_s < _PATIENCE_S:
        await asyncio.sleep(_POLL_S)
        quiet_s = 0.0 if receiver.changes_seen != seen else quiet_s + _POLL_S
        seen = receiver.changes_seen


def read_arrivals(deliveries: list[Delivery], count: int) -> Arrivals:
    """Sort out what was received, by customer."""
    found = Arrivals(count)
    for delivery in deliveries:
        batch = delivery.header("webhook-id")
        for change in msgspec.json.decode(delivery.body)["changes"]:
            user = int(change["user_id"].removeprefix("user_"))
            at_ms = round(datetime.fromisoformat(change["at"]).timestamp() * 1000)
            ids = found.batches.setdefault(change["transition_id"], set())
            if batch in ids:
                continue  # a retry under the same id: receivers drop it
            ids.add(batch)
            found.kinds[user, change["kind"]] += 1
            if change["kind"] == "entered":
                found.entered_ns[user], found.entered_at_ms[user] = delivery.monotonic_ns, at_ms
            else:
                found.exited_wall_ms[user], found.exited_at_ms[user] = delivery.wall_ms, at_ms
    return found


def arrival_checks(arrivals: Arrivals, count: int, window_ms: int) -> list[Check]:
    """Check that every customer came and went exactly once, to the ms, and nothing else arrived."""
    expected = Counter({(user, kind): 1 for user in range(count) for kind in ("entered", "exited")})
    missing, surplus = expected - arrivals.kinds, arrivals.kinds - expected
    several = sum(1 for ids in arrivals.batches.values() if len(ids) > 1)
    wrong = int(np.count_nonzero(arrivals.exited_at_ms - arrivals.entered_at_ms != window_ms))
    return [
        equal(f"each of {count:,} customers entered and left exactly once: missing, surplus",
              (missing.total(), surplus.total()), (0, 0)),
        equal("transitions that came under more than one webhook-id", several, 0),
        equal("customers whose exit is not exactly one window after their entry", wrong, 0),
    ]  # fmt: skip


def _signatures(deliveries: list[Delivery], secret: str) -> Check:
    sample = deliveries[:: max(1, len(deliveries) // _SIGNATURES_CHECKED)]
    bad = sum(not is_signed(delivery, secret) for delivery in sample)
    return equal(f"bad signatures in a sample of {len(sample)}", bad, 0)


def figures_of(sent: Sent, arrivals: Arrivals, skipped: int) -> tuple[list[Figure], dict[str, list[float]]]:
    """Give figures and curves of the customers after the first `skipped`; who never arrived is in none of them."""
    came = (arrivals.entered_ns > 0) & (np.arange(sent.sends) >= skipped)
    left = (arrivals.exited_at_ms > 0) & (np.arange(sent.sends) >= skipped)
    entered = ((arrivals.entered_ns - sent.due_ns) / 1e6)[came]
    exited = (arrivals.exited_wall_ms - arrivals.exited_at_ms)[left]
    answered = sent.latencies_ms()[skipped:]
    figures = [
        Figure("event to webhook, p50", quantile(entered, 0.5), "ms", P50_TARGET_MS, "lower"),
        Figure("event to webhook, p99", quantile(entered, 0.99), "ms", P99_TARGET_MS, "lower"),
        Figure("event to webhook, worst", quantile(entered, 1.0), "ms", better="lower"),
        Figure("event to its answer, p50", quantile(answered, 0.5), "ms", better="lower"),
        Figure("event to its answer, p99", quantile(answered, 0.99), "ms", better="lower"),
        Figure("exit by time after its due ms, p50", quantile(exited, 0.5), "ms", better="lower"),
        Figure("exit by time after its due ms, p99", quantile(exited, 0.99), "ms", EXIT_TARGET_MS, "lower"),
        Figure("exit by time after its due ms, worst", quantile(exited, 1.0), "ms", EXIT_TARGET_MS, "lower"),
    ]
    curves = {"event to webhook": curve(entered), "event to answer": curve(answered), "late exits": curve(exited)}
    return figures, curves
