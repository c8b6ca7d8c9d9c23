"""A destination that was down: what waits for it on disk, how fast it catches up, and whether another sync notices.

Users leave while the destination refuses everything, and a tenth of them comes back. Then it works again, without any
limit, and some more change meanwhile. Beside it a webhook sync of another audience has changes at a steady rate.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import numpy as np
import uvloop

from actors.delivery.actor import DeliveryActor
from benchmarks.arrivals import Arrivals, arrivals_of, digested, in_order
from benchmarks.delivery_world import SYNC, LogsEvaluator, OneState, OpenedLog, SteadyLog, some_syncs
from benchmarks.machine import rss_bytes
from benchmarks.membership import AUDIENCE, LeanTurns, Turns
from benchmarks.receiver import Receiver
from benchmarks.results import Check, equal
from benchmarks.workloads import START_MS
from cluster.clock import SystemClock
from cluster.log.database import connect_reader
from cluster.runtime.protocols import Controller, Evaluator

BESIDE: Final = "beside"
OTHERS: Final = "others"
_POLL_S: Final = 0.1
_PATIENCE_S: Final = 60.0
#: Of the users who left, those who come back while the destination is down, and who change while it catches up.
_BACK: Final = 10
#: How long after its first request the other sync counts as being in calm.
_STARTS_MS: Final = 1_000
_MEANWHILE: Final = 50


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What came of it. `on_disk` changes waited when the destination worked again, and `sealed` had their batches.

    `memory`: at which part of all that was to be done (0 to 1) the process held how many bytes; `cpu_s`: what it spent
    on catching up, the log of the benchmark included.

    `delays_ms` of the other sync's changes, from each to its arrival: in calm, while changes went to disk, and while
    the destination caught up.
    """

    turns: Turns
    on_disk: int
    sealed: int
    parked_s: float
    cpu_s: float
    disk_bytes: int
    arrivals: Arrivals
    beside: Arrivals
    beside_count: int
    status: Mapping[str, Mapping[str, Any]]
    memory: list[tuple[float, int]]
    delays_ms: tuple[np.ndarray, np.ndarray, np.ndarray]


def catch_up(users: int, batch: int, per_s: int, calm_s: float) -> CaughtUp:
    """Let `users` leave a webhook sync whose destination is down, and catch up by batches of `batch`.

    The other sync has `per_s` changes a second, for `calm_s` before anything else happens.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_catch_up(users, batch, per_s, calm_s))


async def _catch_up(users: int, batch: int, per_s: int, calm_s: float) -> CaughtUp:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    there = Receiver(partial(digested, secret=secret))
    beside = Receiver(partial(digested, secret=secret, audience=OTHERS))
    try:
        with TemporaryDirectory(prefix="usher-bench-") as folder:
            story = _Story(Path(folder), there, beside, secret, users, batch, per_s)
            return await story.run(calm_s)
    finally:
        there.close()
        beside.close()


class _Story:
    """One run."""

    def __init__(
        self, folder: Path, there: Receiver, beside: Receiver, secret: str, users: int, batch: int, per_s: int
    ) -> None:
        self._folder = folder
        self._there = there
        self._beside = beside
        self._down_changes = users + users // _BACK
        self._turns = LeanTurns(users, self._down_changes + users // _MEANWHILE, leaving=True)
        self._log = OpenedLog(self._turns)
        self._steady = SteadyLog(per_s)
        hook = {"kind": "webhook", "secret": secret, "allow_private": True}
        ids = {"identifiers": {"user_id": "user_id"}}
        published = some_syncs({
            SYNC: (AUDIENCE, {**hook, "url": there.start(), "batch_size": batch}, {**ids, "deliver": "state"}),
            BESIDE: (OTHERS, {**hook, "url": beside.start()}, {**ids, "batch_age": "0s"}),
        })  # fmt: skip
        evaluator = cast("Evaluator", LogsEvaluator({AUDIENCE: self._log, OTHERS: self._steady}))
        self._actor = DeliveryActor(
            folder, cast("Controller", OneState(published)), lambda info: evaluator, SystemClock(), traits=_no_traits
        )
        self._memory: list[tuple[float, int]] = []

    async def run(self, calm_s: float) -> CaughtUp:
        """Tell it."""
        self._there.be("refuses")
        await self._actor.start()
        await self._until(lambda: self._beside.changes_seen > 0, lambda: self._beside.changes_seen)
        marks_ms = [_wall_ms() + _STARTS_MS]
        await asyncio.sleep(_STARTS_MS / 1000 + calm_s)
        marks_ms.append(_wall_ms())
        began_s = time.perf_counter()
        self._log.opened = self._down_changes
        await self._until(lambda: self._log.asked >= self._down_changes, lambda: self._log.asked)
        parked_s = time.perf_counter() - began_s
        await asyncio.sleep(max(0.5, calm_s / 10))
        backlog, on_disk = int((await self._status())[SYNC]["backlog"]), self._on_disk()
        disk_bytes = sum(path.stat().st_size for path in self._folder.glob("delivery.db*"))
        self._there.be("takes")
        marks_ms.append(_wall_ms())
        cpu_s = time.process_time()
        await self._actor.retry(SYNC)
        await self._until(self._caught_up, lambda: self._there.changes_seen)
        status = await self._settled()
        cpu_s = time.process_time() - cpu_s
        marks_ms.append(_wall_ms())
        beside_count = self._steady.end()
        await self._until(lambda: self._beside.changes_seen >= beside_count, lambda: self._beside.changes_seen)
        await self._actor.drain()
        arrivals = await asyncio.to_thread(self._there.stop_and_read, arrivals_of)
        others = await asyncio.to_thread(self._beside.stop_and_read, arrivals_of)
        return CaughtUp(
            self._turns, on_disk, backlog - on_disk, parked_s, cpu_s, disk_bytes, arrivals, others, beside_count,
            status, self._memory, _delays(others, marks_ms),
        )  # fmt: skip

    def _on_disk(self) -> int:
        """Give how many changes wait in the file."""
        with closing(connect_reader(self._folder / "delivery.db")) as connection:
            (count,) = connection.execute("SELECT coalesce(sum(waiting), 0) FROM room_backlogs").fetchone()
        return int(count)

    def _caught_up(self) -> bool:
        """Open the rest of the log as the destination catches up; say whether all of it is read and most arrived."""
        extra = self._turns.count - self._down_changes
        part = self._there.changes_seen / max(1, self._turns.users)
        self._log.opened = min(self._turns.count, self._down_changes + int(extra * part * 2))
        return self._log.asked >= self._turns.count

    async def _until(self, done: Callable[[], bool], progress: Callable[[], int]) -> None:
        """Wait until something is so, or nothing moves for long: what is missing then shows in the checks."""
        seen, quiet_s = -1, 0.0
        while not done() and quiet_s < _PATIENCE_S:
            await asyncio.sleep(_POLL_S)
            quiet_s = 0.0 if progress() != seen else quiet_s + _POLL_S
            seen = progress()
            self._note_memory()

    async def _settled(self) -> Mapping[str, Mapping[str, Any]]:
        """Give the status once nothing waits."""
        seen, quiet_s = -1, 0.0
        while True:
            status = await self._status()
            backlog = int(status[SYNC]["backlog"])
            if not backlog or quiet_s > _PATIENCE_S:
                return status
            quiet_s = 0.0 if backlog != seen else quiet_s + _POLL_S
            seen = backlog
            await asyncio.sleep(_POLL_S)
            self._note_memory()

    def _note_memory(self) -> None:
        done, users = self._log.asked + self._there.changes_seen, self._turns.users
        self._memory.append((done / (self._turns.count + users - users // _BACK), rss_bytes()))

    async def _status(self) -> dict[str, Mapping[str, Any]]:
        return {row["id"]: row for row in (await self._actor.status())["syncs"]}


def _delays(beside: Arrivals, marks_ms: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the delays of the changes between the marks."""
    at_ms = beside.seqs + START_MS
    late = np.repeat(beside.came_ms, beside.counts) - at_ms
    phases = np.searchsorted(np.array(marks_ms), at_ms)
    return late[phases == 1], late[phases == 2], late[phases == 3]


def backlog_checks(name: str, done: CaughtUp) -> list[Check]:
    """Check that what arrived is what the log came to, at whatever moment each was sent."""
    arrivals, turns = done.arrivals, done.turns
    _, users, entered = turns.columns(0, turns.count)
    places = np.clip(arrivals.seqs - 1, 0, turns.count - 1)
    alike = np.array_equal(users[places], arrivals.users) and np.array_equal(entered[places], arrivals.entered)
    once = len(np.unique(arrivals.seqs)) == len(arrivals.seqs)
    final = np.ones(turns.users, np.bool_)
    final[users] = entered
    told = np.ones(turns.users, np.bool_)
    told[arrivals.users] = arrivals.entered
    # Who came back while it was down: neither was to be sent, but of whom a batch was made before.
    down = turns.users + turns.users // _BACK
    back = np.zeros(turns.users, np.bool_)
    back[users[turns.users : down]] = True
    back[users[: done.sealed]] = False
    needless = int((back[arrivals.users] & (arrivals.seqs <= down)).sum())
    counted = tuple(done.status[SYNC].get(key) for key in ("delivered", "failed", "backlog"))
    beside = done.beside
    detail = f"{done.on_disk:,} on disk, {done.sealed:,} in batches and in memory"
    return [
        Check(f"{name}: its changes waited on disk", done.on_disk > done.sealed, detail),
        Check(f"{name}: what arrived was logged, each change once, under one webhook-id", alike and once),
        Check(f"{name}: each user's changes came in order and alternate", _alternate(arrivals)),
        Check(f"{name}: the receiver ends with the membership", bool(np.array_equal(final, told))),
        equal(f"{name}: changes sent of users who came back while it was down", needless, 0),
        equal(f"{name}: repeats with other bytes, wrong ids, bad signatures",
              (arrivals.unlike, arrivals.wrong_ids, arrivals.unsigned), (0, 0, 0)),
        equal(f"{name}: status: delivered, failed, backlog", counted, (len(arrivals.seqs), 0, 0)),
        equal(f"{name}: the other sync's changes, all and in order", (len(np.unique(beside.seqs)), len(beside.seqs)),
              (done.beside_count, done.beside_count)),
        Check(f"{name}: the other sync's users each in order", in_order(beside.users, beside.seqs)),
    ]  # fmt: skip


def _alternate(arrivals: Arrivals) -> bool:
    """Say whether each user's arrivals are in order and alternate, an exit first."""
    by_user = np.argsort(arrivals.users, kind="stable")
    users, entered = arrivals.users[by_user], arrivals.entered[by_user]
    same = np.diff(users) == 0
    first = np.concatenate([[True], ~same])
    alternates = not (same & (entered[1:] == entered[:-1])).any() and not entered[first[: len(users)]].any()
    return bool(alternates) and in_order(arrivals.users, arrivals.seqs)


def _wall_ms() -> float:
    return time.time_ns() / 1e6


async def _no_traits(parent: str, keys: list[str], columns: list[str]) -> Mapping[str, Any]:
    message = "the syncs' identifiers come from no column"
    raise AssertionError(message)
