"""Compiles the evaluation kernels before an evaluator reports ready, by a small run of the real thing.

Numba compiles a kernel at its first call: about a minute on a fresh machine, once, then it comes from a cache on disk.
Without this the first customer's event would wait for it. A list of signatures lost: it would have to follow every
change of a kernel.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa

from actors.evaluator.actor import EvaluatorActor
from actors.evaluator.kernels.cache import note_compiled
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.trait_rows import prepare
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.edge.dealing import deal
from cluster.errors import InternalError
from cluster.runtime.data_dir import DataDir
from cluster.runtime.protocols import Reply
from cluster.wire.envelope import envelope_of
from destinations.registry import KINDS

_START_MS: Final = 1_700_000_000_000
_NATIVE: Final = 0
#: Of the snapshots that are planned, the one that is not taken.
_GIVEN_UP: Final = 3
_EVENT: Final = {"event": "viewed", "within": "1s"}


async def warm_up() -> None:
    """Run every kind of condition once: publish, traits, events, duplicates, late ones, due times, look-ups, recovery.

    Takes 0.3 s once the kernels are cached. Raises InternalError where the run is refused anything.
    """
    with TemporaryDirectory(prefix="usher-warm-") as name:
        folder = Path(name)
        clock = ManualClock(_START_MS)
        first = publish(None, parse_document(_document("a"), "warm-up", KINDS))
        second = publish(first, parse_document(_document("b"), "warm-up", KINDS))
        await _run(folder, clock, [first, second])
        # What a restart does: recovery reads the log of the run before.
        await _run(folder, clock, [second])


async def _run(folder: Path, clock: ManualClock, publications: list[Published]) -> None:
    with DataDir(folder).open() as owned:
        evaluator = EvaluatorActor(0, str(folder), owned.epoch, (0,), clock=clock)
        await evaluator.start(None)
        for published in publications:
            _check(await evaluator.publish(published))
            await _feed(evaluator, published, folder, clock)
        _check(await evaluator.drain())


async def _feed(evaluator: EvaluatorActor, published: Published, folder: Path, clock: ManualClock) -> None:
    snapshot = folder / f"{published.version}.arrow"
    columns = {"key": ["u1", "u9"], "partition": pa.array([0, 0], pa.int16()), "ltv": [500.0, None]}
    rows = pa.table({**columns, "seen": pa.array([_START_MS, None], pa.int64())})
    with pa.OSFile(str(snapshot), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    _check(await evaluator.apply_traits("users", published.version, [], str(snapshot)))
    _plan(published, rows)
    for step_ms in (0, 100, 1_500, 1_500):
        clock.advance(step_ms)
        await _append(evaluator, published, clock.now_ms())
        _check(await evaluator.lookup("users", ["u1", "u2", "nobody"], ["counts", "mixed"], True))
    _check(await evaluator.members("mixed", None, 10))
    _check(await evaluator.initial_members("mixed"))
    _check(await evaluator.transitions_after(0, 100, 0, None))
    _check(await evaluator.status())


def _plan(published: Published, rows: pa.Table) -> None:
    """Take snapshots as large ones are: one to its end, one in which a user is gone, one that is given up."""
    machine = EvaluatorMachine(published, clock_ms=_START_MS)
    for version, table in enumerate((rows, rows.slice(0, 1), rows), 1):
        machine.plan_traits(prepare(machine.program, "users", version, "", table, lambda: None))
        while machine.look_on(1):
            pass
        machine.aim(machine.clock_ms + 1)
        while machine.arm_on(1):
            pass
        if version < _GIVEN_UP:
            machine.tick(machine.take_planned())
    machine.drop_plan()


async def _append(evaluator: EvaluatorActor, published: Published, now_ms: int) -> None:
    ages_ms = (0, 0, 500, 3_000_000)
    events = [
        {
            "type": "track",
            "event": "viewed",
            "user_id": f"u{number}",
            "message_id": f"m{number // 2}-{now_ms}" if number else None,
            "timestamp": now_ms - ages_ms[number % len(ages_ms)],
            "properties": {"channel": "web", "amount": number},
        }
        for number in range(8)
    ]
    envelope = envelope_of([json.dumps(event).encode() for event in events], _NATIVE)
    decoded = Decoder(EventPlan(published.definitions)).decode(envelope)
    for part in deal(envelope, decoded, (0,)):
        _check(await evaluator.append(part.request(published.version)))


def main() -> None:
    """Compile everything into the cache: `python -m cluster.runtime.warming`."""
    asyncio.run(warm_up())
    note_compiled()


def _check(reply: Reply) -> None:
    if "error" in reply:
        message = f"The evaluator refused its warm-up: {reply.get('message') or reply['error']}"
        raise InternalError(message, next_step="Please report this.")


def _document(channel: str) -> dict[str, Any]:
    """Definitions whose second edition differs in a filter, so that publishing it rebuilds and compares."""
    web = {"any": [{"property": "channel", "eq": "web"}, {"property": "channel", "eq": channel}]}
    viewed = {"event": "viewed", "where": {"property": "channel", "eq": "web"}}
    kinds: dict[str, Any] = {
        "late": {**viewed, "between_ago": ["500ms", "2s"]},
        "since": {"event": "viewed", "since": "2023-11-01T00:00:00Z"},
        "any_case": {"event": "viewed", "within": "1s",
                     "where": {"property": "channel", "contains": "WEB", "ignore_case": True}},
        "today": {"event": "viewed", "this": "day", "tz": "Europe/Berlin"},
        "sum": {"event": "viewed", "sum": "amount", "gt": 5, "within": "1s"},
        "distinct": {"event": "viewed", "distinct": "amount", "gt": 1, "within": "1s"},
        "sequence": {"sequence": [viewed, {"event": "viewed"}], "within": "1s"},
        "abandoned": {**viewed, "within": "1s", "after": "100ms", "not_followed_by": {"event": "viewed"}},
        "recent": {"trait": "seen", "within_last": "1s"},
        "refers": {"any": [{"audience": "counts"}, {"not": {"audience": "sum"}}]},
    }
    mixed = [
        {"any": [{**_EVENT, "at_most": 1, "where": web}, {**_EVENT, "exactly": 2}]},
        {"not": {"trait": "ltv", "gt": 600}},
    ]
    return {
        "version": 1,
        "settings": {"partitions": 1, "retention": "10m"},
        "parent_models": [
            {
                "id": "users",
                "primary_key": "user_id",
                "traits": {
                    "source": {"kind": "parquet", "path": "none.parquet"},
                    "columns": {"ltv": {"type": "number"}, "seen": {"type": "timestamp"}},
                },
            }
        ],
        "event_models": [
            {
                "id": "viewed",
                "parent": "users",
                "event": "viewed",
                "foreign_key": "user_id",
                "timestamp": "timestamp",
                "columns": {
                    "channel": {"path": "properties.channel", "type": "string"},
                    "amount": {"path": "properties.amount", "type": "number"},
                },
            }
        ],
        "audiences": [
            {"id": "counts", "parent": "users", "where": {**_EVENT, "at_least": 2}},
            {"id": "mixed", "parent": "users", "where": {"all": mixed}},
            *({"id": kind, "parent": "users", "where": where} for kind, where in kinds.items()),
        ],
    }


if __name__ == "__main__":
    main()
