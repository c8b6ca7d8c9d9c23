"""`scale`: from one evaluator to two and back while events come: how long events wait, and what two make of a second.

First beside 20,000 events/s, an open loop, where a request that waits for a move is charged for it. Then beside a
closed loop at full speed, the worst company there is: every process wants a processor, and the log never ends.

On a cluster: USHER_BENCH_UP has the options for `usher up`, USHER_BENCH_GENERATORS the number of load generators, which
share out the nodes' edges among them.

Then the cores of two evaluators, half of the users each, run side by side against one with all of them: what is left
of twice is what they take from each other (memory, caches). Edge and generator need processors too, and are left out.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import bench_engine
from benchmarks.bench_ingest import BLOCKS_QUICK, CONNECTIONS, WARM_UP_NUMBER
from benchmarks.cases import Step
from benchmarks.load import Load, Sent, closed_loop, generators, open_loop
from benchmarks.results import CaseResult, Check, Figure, equal
from benchmarks.shop import (
    EVENTS_A_REQUEST,
    EventBlock,
    batch_request,
    customers,
    event_blocks,
    expected_members,
    shop_document,
)
from benchmarks.system import System, running
from benchmarks.verify import all_answered, wrong_memberships
from benchmarks.workloads import engine_workload

#: An environment variable: how many processes send.
GENERATORS = "USHER_BENCH_GENERATORS"
PAUSE_TARGET_MS = 1_000.0
TWO_TARGET = 1.8
_NUMBERS_APART = 1_000_000_000
#: Requests a second of the open loop.
_CALM_RATE = 40.0


def measure(quick: bool, step: Step) -> CaseResult:
    """Move users there and back under load, then measure the cores."""
    return asyncio.run(_measure(quick, step))


async def _measure(quick: bool, step: Step) -> CaseResult:
    traits = customers(10_000 if quick else 100_000)
    blocks = event_blocks(BLOCKS_QUICK, traits.num_rows)
    seconds, moves = (2.0, 2) if quick else (4.0, 2)
    count = int(os.environ.get(GENERATORS, "1"))
    with generators(count) as pool:
        async with running(traits, shop_document, step) as system:
            load = _Loads(pool, await system.edges(), count, blocks)
            step("warming up")
            await load.for_seconds(1.0)
            calm: list[float] = []
            for evaluators in (2, 1):
                step(f"users move to {evaluators} beside {_CALM_RATE * EVENTS_A_REQUEST:,.0f} events/s")
                calm.append((await _moved(system, load, evaluators, seconds, _CALM_RATE))[0])
            slowest_ms = load.slowest_ms
            rates: dict[int, list[float]] = {1: [], 2: []}
            pauses: list[float] = []
            took: list[float] = []
            for move in range(moves):
                evaluators = 2 - move % 2
                step(f"events/s of {3 - evaluators}, and then users move: {move + 1} of {moves}")
                rates[3 - evaluators].append(await load.for_seconds(seconds))
                pause_ms, took_s = await _moved(system, load, evaluators, seconds, None)
                pauses.append(pause_ms)
                took.append(took_s)
            rates[1 + moves % 2].append(await load.for_seconds(seconds))
            step("checking who is a member")
            checks = await _checks(system, traits, blocks, load)
    step("the cores: one evaluator, and two side by side")
    alone, together = _cores(quick)
    figures = [
        Figure("a move beside 20,000 events/s: all partitions at once waited", max(calm), "ms", PAUSE_TARGET_MS,
               better="lower"),
        Figure("slowest request meanwhile", round(slowest_ms), "ms", better="lower"),
        Figure("a move at full load: they waited", statistics.median(pauses), "ms", better="lower"),
        Figure("a move at full load, whole", round(statistics.median(took), 1), "s", better="lower"),
        Figure("one evaluator, end to end", round(statistics.median(rates[1])), "events/s"),
        Figure("two evaluators, end to end, generator beside them", round(statistics.median(rates[2])), "events/s"),
        Figure("core of one evaluator", round(alone), "events/s"),
        Figure("cores of two, half of the users each", round(together), "events/s"),
        Figure("cores of two, times one", round(together / alone, 2), "times", TWO_TARGET),
    ]  # fmt: skip
    notes: dict[str, Any] = {"calm_pauses_ms": calm, "pauses_ms": pauses, "moves_s": [round(one, 1) for one in took]}
    return CaseResult("scale", figures, [*checks, system.ended_well()], notes=notes)


class _Loads:
    """Closed loops one after the other; counts how often each block was sent."""

    def __init__(
        self, pool: ProcessPoolExecutor, edges: list[tuple[str, int]], generators: int, blocks: list[EventBlock]
    ) -> None:
        self._pool = pool
        self._edges = [edges[number % len(edges)] for number in range(generators)]
        self._blocks = len(blocks)
        self._requests = {
            edge: tuple(batch_request(f"{edge[0]}:{edge[1]}", block) for block in blocks) for edge in set(self._edges)
        }
        self._next = WARM_UP_NUMBER
        self.counts: Counter[int] = Counter()
        self.sent: list[Sent] = []
        self.slowest_ms = 0.0

    async def for_seconds(self, seconds: float, rate: float | None = None) -> float:
        """Send so many requests a second in all, None: at full speed; gives events/s."""
        of_each = await asyncio.gather(*(self._send(edge, seconds, rate) for edge in self._edges))
        for sent in of_each:
            if rate is not None:
                self.slowest_ms = max(self.slowest_ms, float((sent.done_ns - sent.due_ns).max()) / 1e6)
            places = range(self._blocks)
            self.counts.update({place: len(range(place, sent.sends, self._blocks)) for place in places})
            self.sent.append(sent)
        return sum(sent.sends * EVENTS_A_REQUEST / sent.seconds for sent in of_each)

    async def _send(self, edge: tuple[str, int], seconds: float, rate: float | None) -> Sent:
        first, self._next = self._next, self._next + _NUMBERS_APART
        load = Load(*edge, self._requests[edge], CONNECTIONS, numbers=True, first_number=first)
        run = partial(closed_loop, load, seconds)
        if rate is not None:
            run = partial(open_loop, load, rate / len(self._edges), seconds)
        return await asyncio.get_running_loop().run_in_executor(self._pool, run)


async def _moved(
    system: System, load: _Loads, evaluators: int, seconds: float, rate: float | None
) -> tuple[float, float]:
    """Move all users while a load goes on; gives how long events waited in ms, and the whole in s."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = asyncio.ensure_future(_scaled(system, evaluators))
    while not done.done():
        await load.for_seconds(seconds, rate)
    return await done, loop.time() - began


async def _scaled(system: System, evaluators: int) -> float:
    while True:
        found = await system.client.scale(evaluators)
        if not found.under_way:
            return float(found.pause_ms)


async def _checks(system: System, traits: pa.Table, blocks: list[EventBlock], load: _Loads) -> list[Check]:
    events = (await system.client.status()).events
    counts = [load.counts[place] for place in range(len(blocks))]
    expected = expected_members(traits, blocks, counts)
    wrong = await wrong_memberships(system.client, expected, np.arange(0, traits.num_rows, 10))
    return [
        all_answered(load.sent),
        equal("status counts as accepted what was sent", events.accepted, load.counts.total() * EVENTS_A_REQUEST),
        equal("nothing was a duplicate, too late or rejected",
              (events.duplicates, events.too_late, events.rejected), (0, 0, 0)),
        equal("a tenth of the customers are in the audiences that their events say", wrong, []),
    ]  # fmt: skip


# --- the cores ---------------------------------------------------------------------------------------


def _cores(quick: bool) -> tuple[float, float]:
    """Give events/s of wall time: of one core with all users, of two with half of them each; medians of turns."""
    users, events = (10_000, 200_000) if quick else (100_000, 2_000_000)
    turns = 1 if quick else 3
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(2, mp_context=context) as pool:
        alone, together = [], []
        for turn in range(turns):
            barrier = manager.Barrier(1)
            alone.append(events / pool.submit(_evaluated, users, events, turn, barrier).result())
            barrier = manager.Barrier(2)
            both = [pool.submit(_evaluated, users // 2, events // 2, 10 * turn + i, barrier) for i in range(2)]
            together.append(events / max(one.result() for one in both))
    return statistics.median(alone), statistics.median(together)


def _evaluated(users: int, events: int, seed: int, barrier: Any) -> float:
    """Evaluate a workload once all are ready; gives the seconds."""
    # As often a user, however many there are.
    workload = engine_workload(users=users, events=events, events_per_second=max(1, 3 * users // 100), seed=seed)
    published, snapshot = bench_engine.published_of(workload), bench_engine.snapshot_of(workload)
    batches = bench_engine.hit_batches(workload)
    bench_engine.run_engine(published, snapshot, batches[:2])  # compiled, and warm
    barrier.wait()
    return bench_engine.run_engine(published, snapshot, batches).seconds
