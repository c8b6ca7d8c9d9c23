"""`read`: look-ups over HTTP against a handler that returns a constant, and their tail while events arrive.

At full speed the two servers are asked in turn, by the same generator for the same pairs; the figure is the median of
the pairs' ratios. The tail is of an open loop: a look-up counts from when it was due.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.bare_server import BareServer
from benchmarks.cases import Step
from benchmarks.load import Load, Sent, closed_loop, generators, open_loop
from benchmarks.results import CaseResult, Check, Figure, curve, equal, quantile
from benchmarks.shop import (
    CHECKED,
    EVENTS_A_REQUEST,
    EventBlock,
    batch_request,
    customers,
    event_blocks,
    expected_members,
    membership_request,
    shop_document,
    user_name,
)
from benchmarks.system import System, running
from benchmarks.verify import all_answered, wrong_memberships
from benchmarks.wrk import Rate, ReadLoad

RATIO_TARGET = 0.85
P99_TARGET_MS = 5.0
READS_PER_S, EVENTS_PER_S = 5_000, 20_000
PAIRS = 5
#: Distinct look-ups.
LOOKUPS = 5_000
CONNECTIONS = 32
BLOCKS = 40
_EVENT_CONNECTIONS = 8
_KEEP_EVERY = 7


@dataclass(frozen=True, slots=True)
class Setup:
    """What all phases share. Half of the customers get events before, the other half while reads are timed."""

    system: System
    pool: ProcessPoolExecutor
    expected: dict[str, np.ndarray]
    pairs: list[tuple[str, int]]
    before: list[EventBlock]
    during: list[EventBlock]

    def look_ups(self) -> Load:
        """Give the look-ups of all pairs, in turn."""
        system = self.system
        requests = tuple(membership_request(system.authority, *pair, system.key) for pair in self.names())
        return Load(system.host, system.port, requests, CONNECTIONS)

    def names(self) -> list[tuple[str, str]]:
        """Give the pairs as they are asked for."""
        return [(audience, user_name(user)) for audience, user in self.pairs]


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure rate, then tail."""
    return asyncio.run(_measure(quick, step))


async def _measure(quick: bool, step: Step) -> CaseResult:
    seconds, tail_s, pairs = (1, 3.0, 2) if quick else (4, 20.0, PAIRS)
    traits = customers(20_000)
    known = traits.num_rows // 2
    before = event_blocks(BLOCKS, known)
    during = [_moved(block, known) for block in event_blocks(BLOCKS, known, seed=13)]
    expected = expected_members(traits, before, [1] * BLOCKS)
    rng = np.random.default_rng(3)
    chosen = list(zip(rng.choice(list(CHECKED), LOOKUPS).tolist(), rng.integers(0, known, LOOKUPS).tolist(),
                      strict=True))  # fmt: skip
    bare = BareServer()
    try:
        bare_port = bare.start()
        with generators(2) as pool:
            async with running(traits, shop_document, step) as system:
                setup = Setup(system, pool, expected, chosen, before, during)
                sent = await _fill(setup)
                rates, generator = await _rates(setup, bare_port, seconds, pairs, step)
                bare.close()
                # What wrk got is not kept: the same once more with a generator that keeps answers.
                fast = await asyncio.get_running_loop().run_in_executor(
                    pool, closed_loop, setup.look_ups(), 0.5, _KEEP_EVERY
                )
                reads, events = await _tail(setup, tail_s, step)
                step("checking answers")
                checks = [
                    all_answered([sent, fast, reads, events]),
                    equal(f"wrong answers among {len(fast.bodies):,} sampled at full speed",
                          wrong_answers(setup, fast)[:5], []),
                    *await _checks(setup, reads, events),
                    Check("no look-up at full speed failed", not any(a.faults + b.faults for a, b in rates)),
                ]  # fmt: skip
    finally:
        bare.close()
    figures = [*_rate_figures(rates), *_tail_figures(reads, events)]
    notes = {
        "generator": generator, "pairs": [[round(usher.per_s), round(plain.per_s)] for usher, plain in rates],
        "generator_late_p99_ms": round(reads.sent_late_ms, 2), "filesystem": system.filesystem,
    }  # fmt: skip
    curves = {"look-ups while events arrive": curve(reads.latencies_ms())}
    return CaseResult("read", figures, [*checks, system.ended_well()], curves, notes)


def _moved(block: EventBlock, by: int) -> EventBlock:
    """Give the same events to other customers."""
    return EventBlock(block.users + by, block.models, block.channels, block.amounts)


async def _in_pool(pool: ProcessPoolExecutor, load: Load, rate: float, seconds: float, keep_every: int = 0) -> Sent:
    return await asyncio.get_running_loop().run_in_executor(pool, open_loop, load, rate, seconds, keep_every)


async def _fill(setup: Setup) -> Sent:
    """Send each of the first blocks once."""
    system = setup.system
    requests = tuple(batch_request(system.authority, block) for block in setup.before)
    load = Load(system.host, system.port, requests, _EVENT_CONNECTIONS, numbers=True)
    return await _in_pool(setup.pool, load, BLOCKS, 1.0)


async def _rates(
    setup: Setup, bare_port: int, seconds: int, pairs: int, step: Step
) -> tuple[list[tuple[Rate, Rate]], str]:
    """Ask both servers in turn; gives (Usher, bare) of each pair, and what sent."""
    system = setup.system
    with tempfile.TemporaryDirectory(prefix="usher-bench-") as folder:
        load = ReadLoad(setup.names(), system.key, Path(folder), CONNECTIONS)
        for host, port in ((system.host, system.port), ("127.0.0.1", bare_port)):
            await load.run(host, port, 1, setup.pool)  # warm up
        rates = []
        for turn in range(pairs):
            step(f"full speed against a bare handler, pair {turn + 1} of {pairs}")
            usher = await load.run(system.host, system.port, seconds, setup.pool)
            plain = await load.run("127.0.0.1", bare_port, seconds, setup.pool)
            rates.append((usher, plain))
    return rates, load.generator


async def _tail(setup: Setup, seconds: float, step: Step) -> tuple[Sent, Sent]:
    """Read at a fixed rate while events of other customers arrive at a fixed rate."""
    step(f"{READS_PER_S:,} reads/s and {EVENTS_PER_S:,} events/s for {seconds:.0f} s")
    system = setup.system
    batches = tuple(batch_request(system.authority, block) for block in setup.during)
    event_load = Load(system.host, system.port, batches, _EVENT_CONNECTIONS, numbers=True, first_number=1_000)
    # Events begin before the reads and end after them.
    events = asyncio.ensure_future(
        _in_pool(setup.pool, event_load, EVENTS_PER_S / EVENTS_A_REQUEST, seconds + 1.5)
    )
    await asyncio.sleep(0.75)
    reads = await _in_pool(setup.pool, setup.look_ups(), READS_PER_S, seconds, _KEEP_EVERY)
    return reads, await events


async def _checks(setup: Setup, reads: Sent, events: Sent) -> list[Check]:
    client = setup.system.client
    status = await client.status()
    times = Counter(index % BLOCKS for index in range(events.sends))
    total = (BLOCKS + events.sends) * EVENTS_A_REQUEST
    known = np.unique([user for _, user in setup.pairs])
    traits_rows = next(iter(setup.expected.values())).shape[0]
    after = expected_members(
        customers(traits_rows), [*setup.before, *setup.during], [1] * BLOCKS + [times[block] for block in range(BLOCKS)]
    )
    everybody = np.arange(0, traits_rows, 4)
    return [
        equal(f"wrong answers among {len(reads.bodies):,} sampled under load", wrong_answers(setup, reads)[:5], []),
        equal("POST /api/v1/memberships says the same of these customers",
              await wrong_memberships(client, setup.expected, known), []),
        equal("a quarter of all customers are where all events say",
              await wrong_memberships(client, after, everybody), []),
        equal("status counts as accepted what was sent", status.events.accepted, total),
    ]  # fmt: skip


def wrong_answers(setup: Setup, reads: Sent) -> list[tuple[str, int, bool]]:
    """Give the sampled answers that are not as expected."""
    wrong = []
    for index, body in reads.bodies.items():
        audience, user = setup.pairs[index % len(setup.pairs)]
        answer = msgspec.json.decode(body)["isMember"]
        if answer != bool(setup.expected[audience][user]):
            wrong.append((audience, user, answer))
    return wrong


def _rate_figures(rates: list[tuple[Rate, Rate]]) -> list[Figure]:
    ratios = [usher.per_s / plain.per_s for usher, plain in rates]
    return [
        Figure(f"look-ups/s against a bare handler, median of {len(rates)} pairs",
               round(statistics.median(ratios), 3), "times", RATIO_TARGET),
        Figure("lowest pair", round(min(ratios), 3), "times"),
        Figure("look-ups/s, median", round(statistics.median(usher.per_s for usher, _ in rates)), "1/s"),
        Figure("bare handler, median", round(statistics.median(plain.per_s for _, plain in rates)), "1/s"),
    ]  # fmt: skip


def _tail_figures(reads: Sent, events: Sent) -> list[Figure]:
    latencies = reads.latencies_ms()
    under = f"look-up at {READS_PER_S:,}/s while {EVENTS_PER_S:,} events/s arrive"
    return [
        Figure(f"{under}, p50", quantile(latencies, 0.5), "ms", better="lower"),
        Figure(f"{under}, p99", quantile(latencies, 0.99), "ms", P99_TARGET_MS, "lower"),
        Figure("events/s that arrived meanwhile", round(events.sends * EVENTS_A_REQUEST / events.seconds), "1/s"),
        Figure("their request of 500 to its answer, p99", quantile(events.latencies_ms(), 0.99), "ms", better="lower"),
    ]
