"""One webhook sync end to end: the delivery process's own code on real files, and a receiver beside it.

The evaluator is one that answers from a prepared log: it costs next to nothing, so that what is measured is delivery.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import uvloop

from actors.delivery.actor import DeliveryActor
from benchmarks.arrivals import Arrivals, read_arrivals
from benchmarks.delivery_world import LogEvaluator, OneState, one_sync
from benchmarks.machine import cpu_seconds, filesystem_of, rss_bytes
from benchmarks.membership import Turns
from benchmarks.receiver import Receiver
from cluster.clock import SystemClock
from cluster.runtime.protocols import Controller, Evaluator

_POLL_S: Final = 0.1
#: How long nothing may arrive before the run counts as stuck: what is missing then shows in the checks.
_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A log that was sent. `memory`: at which part of the changes (0 to 1) the process held how many bytes."""

    arrivals: Arrivals
    status: Mapping[str, Any]
    memory: list[tuple[float, int]]
    seconds: float
    delivery_cpu_s: float
    receiver_cpu_s: float
    filesystem: str


def send(turns: Turns, destination: Mapping[str, Any], sync: Mapping[str, Any]) -> Sent:
    """Send a log through a delivery process's code, in this process, to a receiver in its own.

    `destination` and `sync` are keys of their definitions beside those that are the same for all.
    """
    # The loop that Ray gives its actors.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send(turns, destination, sync))


async def _send(turns: Turns, destination: Mapping[str, Any], sync: Mapping[str, Any]) -> Sent:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    receiver = Receiver()
    try:
        webhook = {"kind": "webhook", "url": receiver.start(), "secret": secret, "allow_private": True}
        published = one_sync({**webhook, **destination}, {"identifiers": {"user_id": "user_id"}, **sync})
        with TemporaryDirectory(prefix="usher-bench-") as folder:
            controller, evaluator = cast("Controller", OneState(published)), cast("Evaluator", LogEvaluator(turns))
            actor = DeliveryActor(folder, controller, lambda info: evaluator, SystemClock(), traits=_no_traits)
            began, cpu_s = time.perf_counter(), time.process_time()
            await actor.start()
            memory = await _until_seen(receiver, turns.count)
            cpu_s, seconds = time.process_time() - cpu_s, time.perf_counter() - began
            receiver_cpu_s = cpu_seconds(receiver.pid)
            status = await _settled(actor)
            await actor.drain()
            filesystem = filesystem_of(Path(folder))
        arrivals = await asyncio.to_thread(receiver.stop_and_read, partial(read_arrivals, secret=secret))
    finally:
        receiver.close()
    return Sent(arrivals, status, memory, seconds, cpu_s, receiver_cpu_s, filesystem)


async def _until_seen(receiver: Receiver, changes: int) -> list[tuple[float, int]]:
    """Wait until so many changes came, or none came for long."""
    memory: list[tuple[float, int]] = []
    seen, quiet_s = -1, 0.0
    while receiver.changes_seen < changes and quiet_s < _PATIENCE_S:
        await asyncio.sleep(_POLL_S)
        quiet_s = 0.0 if receiver.changes_seen != seen else quiet_s + _POLL_S
        seen = receiver.changes_seen
        memory.append((seen / changes, rss_bytes()))
    return memory


async def _settled(actor: DeliveryActor) -> Mapping[str, Any]:
    """Give the sync's status once the answers to the last requests are counted."""
    quiet_s = 0.0
    while True:
        (row,) = (await actor.status())["syncs"] or [{"backlog": -1}]
        if not row["backlog"] or quiet_s > _PATIENCE_S:
            return dict(row)
        await asyncio.sleep(_POLL_S)
        quiet_s += _POLL_S


async def _no_traits(parent: str, keys: list[str], columns: list[str]) -> Mapping[str, Any]:
    message = "the sync's identifiers come from no column"
    raise AssertionError(message)
