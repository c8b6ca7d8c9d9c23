"""`ingest`: decoding alone; events/s over HTTP, durable and evaluated, in batches of 100; single events a second.

Decoding is of every wire format beside two yardsticks (`ingest_decode`), single events beside a bare handler
(`ingest_singles`). For batches, the generator's bodies are prebuilt; each send only gets its number, so that every
message id is new. What was sent is what must have been accepted, and who must be a member follows from it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.cases import Step
from benchmarks.ingest_decode import decoding_figures, decoding_plot, decoding_table, measure_decoding
from benchmarks.ingest_singles import SINGLES, measure_singles
from benchmarks.load import Load, Sent, closed_loop, generators
from benchmarks.results import CaseResult, Check, Figure, equal
from benchmarks.shop import (
    EventBlock,
    batch_request,
    customers,
    event_blocks,
    expected_members,
    native_request,
    ndjson_request,
    shop_document,
)
from benchmarks.system import System, cpu_us_each, running
from benchmarks.verify import all_answered, wrong_memberships

RATE_TARGET = 100_000
EVENTS_A_REQUEST = 100
#: Distinct requests: a full run has 100,000 distinct events, so that memberships change all along.
BLOCKS, BLOCKS_QUICK = 1_000, 100
#: Enough events on their way that the system never waits for the generator, and batches get large.
CONNECTIONS = 64
FORMS = ("segment batch", "ndjson", "json array", "msgpack")
#: Numbers of requests start apart by form, so that no message id repeats.
_NUMBERS_APART = 1_000_000_000
WARM_UP_NUMBER = 900 * _NUMBERS_APART


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure decoding in this process, then the rest on one Usher."""
    rates, checks = measure_decoding(quick, step)
    served = asyncio.run(_measure(quick, step))
    return CaseResult(
        "ingest", [*served.figures, *decoding_figures(rates)], [*served.checks, *checks], notes=served.notes,
        bar_plots=[decoding_plot(rates)], tables=[decoding_table(rates)],
    )  # fmt: skip


async def _measure(quick: bool, step: Step) -> CaseResult:
    users = 10_000 if quick else 100_000
    traits = customers(users + SINGLES)
    blocks = event_blocks(BLOCKS_QUICK if quick else BLOCKS, users, size=EVENTS_A_REQUEST)
    seconds, rounds = (2.0, 1) if quick else (5.0, 3)
    with generators(1) as pool:
        async with running(traits, shop_document, step) as system:
            requests = _requests(system, blocks)
            counts: Counter[int] = Counter()
            step("warming up")
            await _send(pool, system, requests["segment batch"], 1.0, WARM_UP_NUMBER, counts)
            sent: dict[str, list[Sent]] = {form: [] for form in FORMS}
            before, warm = await system.cpu_seconds(), counts.total()
            for turn in range(rounds):
                for place, form in enumerate(FORMS):
                    step(f"{form}, round {turn + 1} of {rounds}")
                    first = (turn * len(FORMS) + place) * _NUMBERS_APART
                    sent[form].append(await _send(pool, system, requests[form], seconds, first, counts))
            spent = cpu_us_each(before, await system.cpu_seconds(), (counts.total() - warm) * EVENTS_A_REQUEST)
            step("checking who is a member")
            checks = await _checks(system, traits, blocks, counts, sent)
            singles = await measure_singles(system, traits, users, pool, quick, step)
            notes = {
                **await _notes(system), "filesystem": system.filesystem, "cpu_us_an_event": spent, **singles.notes
            }
            checks = [*checks, *singles.checks, await _none_lost(system)]
    return CaseResult("ingest", [*_figures(sent), *singles.figures], [*checks, system.ended_well()], notes=notes)


def _requests(system: System, blocks: list[EventBlock]) -> dict[str, tuple[bytes, ...]]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {
        "segment batch": tuple(batch_request(system.authority, block) for block in blocks),
        "ndjson": tuple(ndjson_request(system.authority, block, now) for block in blocks),
        **{
            form: tuple(native_request(system.authority, block, now, content_type) for block in blocks)
            for form, content_type in (("json array", "application/json"), ("msgpack", "application/msgpack"))
        },
    }


async def _send(
    pool: ProcessPoolExecutor, system: System, requests: tuple[bytes, ...], seconds: float, first: int,
    counts: Counter[int],
) -> Sent:  # fmt: skip
    """Send at full speed for `seconds`, and count how often each block was sent."""
    load = Load(system.host, system.port, requests, CONNECTIONS, numbers=True, first_number=first)
    sent = await asyncio.get_running_loop().run_in_executor(pool, closed_loop, load, seconds)
    counts.update({block: len(range(block, sent.sends, len(requests))) for block in range(len(requests))})
    return sent


async def _checks(
    system: System, traits: pa.Table, blocks: list[EventBlock], counts: Counter[int], sent: dict[str, list[Sent]]
) -> list[Check]:
    status = await system.client.status()
    events = status.events
    expected = expected_members(traits, blocks, [counts[block] for block in range(len(blocks))])
    wrong = await wrong_memberships(system.client, expected, np.arange(0, traits.num_rows, 10))
    return [
        all_answered([one for runs in sent.values() for one in runs]),
        equal("status counts as accepted what was sent", events.accepted, counts.total() * EVENTS_A_REQUEST),
        equal("a tenth of the customers are in the audiences that their events say", wrong, []),
    ]  # fmt: skip


async def _none_lost(system: System) -> Check:
    events = (await system.client.status()).events
    found = (events.duplicates, events.too_late, events.rejected)
    return equal("nothing was a duplicate, too late or rejected", found, (0, 0, 0))


async def _notes(system: System) -> dict[str, Any]:
    status = await system.client.status()
    return {
        "events": status.events.accepted,
        "members": {audience.id: audience.size for audience in status.audiences},
        "events_a_request": EVENTS_A_REQUEST,
    }


def _figures(sent: dict[str, list[Sent]]) -> list[Figure]:
    figures = []
    for form, runs in sent.items():
        rates = [one.sends * EVENTS_A_REQUEST / one.seconds for one in runs]
        name = f"{form}, batches of {EVENTS_A_REQUEST}, median"
        figures.append(Figure(name, round(float(np.median(rates))), "events/s", RATE_TARGET))
        spread = round(max(rates) / min(rates), 2)
        figures.append(Figure(f"{form}, fastest to slowest round", spread, "times", better="lower"))
    return figures
