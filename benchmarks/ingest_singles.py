"""One event a request, as browsers send them: requests/s against a bare handler that syncs too, by turns.

Both servers get the same bytes from the same generator over as many kept connections, on the same cores. Usher knows
the sender, checks the event, evaluates it and answers when it is durable and true; the bare one parses and commits it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.bare_ingest import BareIngest
from benchmarks.cases import Step
from benchmarks.results import Check, Figure, equal
from benchmarks.shop import EventBlock, event_blocks, expected_members, page_request, rows_of
from benchmarks.system import System, cpu_us_each
from benchmarks.verify import wrong_memberships
from benchmarks.wrk import PostLoad, Rate

REQUESTS_TARGET, SHARE_TARGET = 5_000, 0.5
#: Distinct requests, each of a customer of its own.
SINGLES = 500
CONNECTIONS = 64
PAIRS, SECONDS = 5, 4
_NUMBERS_APART = 10_000_000


@dataclass(frozen=True, slots=True)
class Singles:
    """What was found."""

    figures: list[Figure]
    checks: list[Check]
    notes: dict[str, Any]


def single_block(first_customer: int) -> EventBlock:
    """Make the events: one of each of SINGLES customers from `first_customer` on."""
    block = event_blocks(1, 1, size=SINGLES, seed=17)[0]
    return EventBlock(first_customer + np.arange(SINGLES), block.models, block.channels, block.amounts)


async def measure_singles(
    system: System, traits: pa.Table, first_customer: int, pool: ProcessPoolExecutor, quick: bool, step: Step
) -> Singles:
    """Ask both servers in turn; the customers of `single_block` must not have had an event before."""
    block = single_block(first_customer)
    pairs, seconds = (1, 1) if quick else (PAIRS, SECONDS)
    before = await _accepted(system)
    with tempfile.TemporaryDirectory(prefix="usher-bench-") as name:
        bare = BareIngest(Path(name))
        try:
            port = bare.start()
            requests = [page_request(system.authority, *row) for row in rows_of(block)]
            load = PostLoad(requests, Path(name), CONNECTIONS)
            rates, spent = await _rates(load, system, port, (pairs, seconds), pool, step)
            accepted = await _accepted(system) - before
            stored = bare.rows()
        finally:
            bare.close()
    expected = expected_members(traits, [block], [min(rate.answered // SINGLES for rate, _ in rates)])
    checks = [
        _taken("Usher accepted every single event that it answered for", [usher for usher, _ in rates], accepted),
        _taken("the bare handler stored what it answered for", [bare for _, bare in rates], stored),
        equal("the customers of single events are in the audiences that these say",
              await wrong_memberships(system.client, expected, block.users), []),
    ]  # fmt: skip
    timed = rates[1:]
    notes = {
        "single_events_generator": load.generator, "single_events_cpu_us": spent,
        "single_events_pairs": [[round(usher.per_s), round(bare.per_s)] for usher, bare in timed],
    }  # fmt: skip
    return Singles(_figures(timed), checks, notes)


async def _rates(
    load: PostLoad, system: System, bare_port: int, runs: tuple[int, int], pool: ProcessPoolExecutor, step: Step
) -> tuple[list[tuple[Rate, Rate]], dict[str, float]]:
    """Give (Usher, bare) of each pair, the first of them a warm-up, and what a timed request took of processors."""
    pairs, seconds = runs
    rates: list[tuple[Rate, Rate]] = []
    spent: dict[str, float] = {}
    for turn in range(pairs + 1):
        step(f"single events against a bare handler, pair {turn} of {pairs}" if turn else "single events: warming up")
        cpu = await system.cpu_seconds()
        number = turn * _NUMBERS_APART
        usher = await load.run(system.host, system.port, seconds if turn else 1, pool, number)
        spent = cpu_us_each(cpu, await system.cpu_seconds(), usher.answered)
        bare = await load.run("127.0.0.1", bare_port, seconds if turn else 1, pool, number)
        rates.append((usher, bare))
    return rates, spent


async def _accepted(system: System) -> int:
    """Give how many events Usher has accepted, once none is under way."""
    last = -1
    while (now := (await system.client.status()).events.accepted) != last:
        last = now
        await asyncio.sleep(0.3)
    return last


def _taken(name: str, rates: list[Rate], count: int) -> Check:
    """Check a server's count: wrk leaves at most one request a connection unanswered when it ends."""
    answered = sum(rate.answered for rate in rates)
    faults = sum(rate.faults for rate in rates)
    good = answered <= count <= answered + CONNECTIONS * len(rates) and not faults
    return Check(name, good, "" if good else f"{count} taken, {answered} answered, {faults} faults")


def _figures(rates: list[tuple[Rate, Rate]]) -> list[Figure]:
    share = statistics.median(usher.per_s / bare.per_s for usher, bare in rates)
    usher = statistics.median(usher.per_s for usher, _ in rates)
    reached = max(usher / REQUESTS_TARGET, share / SHARE_TARGET)
    return [
        Figure(f"single events, of {REQUESTS_TARGET:,} requests/s or of half the bare handler's, the better",
               round(reached, 2), "times", 1.0),
        Figure("single events, median", round(usher), "requests/s"),
        Figure("bare aiohttp, msgspec, group commit, median",
               round(statistics.median(bare.per_s for _, bare in rates)), "requests/s"),
        Figure(f"single events against it, median of {len(rates)} pairs", round(share, 3), "times"),
    ]  # fmt: skip
