"""Carries chaos out: a real Usher under load, strikes until the time is over, quiet, and the verdict."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cases import Step
from benchmarks.chaos.clients import Clients, Owner, Record
from benchmarks.chaos.logs import Reference, Snapshots, read_logs
from benchmarks.chaos.story import SHORT_S, SYNCS, Node, document, traits, users_of
from benchmarks.chaos.strikes import Strikes
from benchmarks.chaos.verdict import of_clients, of_deliveries, of_logs, of_membership
from benchmarks.chaos.victim import Victim
from benchmarks.machine import filesystem_of
from benchmarks.receiver import Receiver
from benchmarks.results import CaseResult, Check, Figure
from cluster.client.errors import UsherApiError
from cluster.limits import LOOKUP_PAIRS_MAX

EVALUATORS: Final = 2
#: How long Usher may take to come to rest, and after how long without a webhook it has.
_REST_S: Final = 90.0
_QUIET_S: Final = 2.0
_SNAPSHOTS_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Chaos:
    """How long it is struck, how often (s between two strikes, on average), with how many events/s, by which chance."""

    seconds: float
    pause_s: float = 1.5
    rate: float = 200.0
    seed: int = 0
    #: Kinds of strikes to leave out.
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rest:
    """What Usher says once it is at rest, and what the reference evaluator needs to say the same."""

    members: Mapping[str, Mapping[str, bool]]
    asked_ms: int
    answered_ms: int
    accepted: int
    traits: pa.Table
    document: Node


async def carry_out(chaos: Chaos, step: Step) -> CaseResult:
    """Run it; every law that must hold is a check of the result. Where one does not, the data dir stays for a look.

    Raises InputError where the reference evaluator is not installed, NotReady where Usher does not start.
    """
    reference = Reference()
    folder = Path(tempfile.mkdtemp(prefix="usher-chaos-"))
    kept = False
    try:
        result = await _in_folder(folder, chaos, step, reference)
        kept = not result.passed
        return msgspec.structs.replace(result, notes={**result.notes, "kept": str(folder)}) if kept else result
    finally:
        if not kept:
            shutil.rmtree(folder)


async def _in_folder(folder: Path, chaos: Chaos, step: Step, reference: Reference) -> CaseResult:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    receiver = Receiver()
    try:
        scene = _Scene(folder, receiver, receiver.start(), secret, chaos, step)
        try:
            rest = await scene.play()
            step("stopping Usher")
            drained = await scene.victim.stop()
        finally:
            await scene.victim.end()
        deliveries = receiver.stop()
    finally:
        receiver.close()
    step("comparing with the reference evaluator")
    record, logs = scene.clients.record, read_logs(scene.victim.data_dir, EVALUATORS)
    expected = reference.members(rest.document, record.rows, rest.traits, [rest.asked_ms, rest.answered_ms])
    checks = [
        *of_clients(record),
        of_membership(rest.members, *expected),
        *of_logs(logs, record, rest.accepted, reference, scene.snapshots.tables(), rest.asked_ms),
        *of_deliveries(deliveries, secret, logs),
        Check("Usher drained and ended with exit code 0", drained),
    ]
    return _result(chaos, record, scene.strikes, checks, filesystem_of(folder), len(deliveries))


class _Scene:
    """One run, from a ready Usher to one at rest."""

    def __init__(self, folder: Path, receiver: Receiver, url: str, secret: str, chaos: Chaos, step: Step) -> None:
        self._chaos = chaos
        self._step = step
        self._folder = folder
        self._receiver = receiver
        self._table = folder / "users.parquet"
        self._variants = [document(str(self._table), url, secret, other=other) for other in (False, True)]
        self._definitions = folder / "definitions.json"
        options = ["--evaluators", str(EVALUATORS), "--checkpoint-every", "2s"]
        self.victim = Victim(folder, self._definitions, options)
        self.clients: Clients
        self.strikes: Strikes
        self.snapshots: Snapshots
        self._owner: Owner

    async def play(self) -> Rest:
        """Start Usher; let everybody do their work while it is struck; wait until it is at rest; ask for everybody."""
        self._step("starting Usher")
        pq.write_table(traits(1, Random(self._chaos.seed)), self._table)
        self._definitions.write_text(json.dumps(self._variants[0]))
        await self.victim.start(lambda text: self._step(f"starting Usher: {text}"))
        chaos, client = self._chaos, self.victim.client
        self.snapshots = Snapshots(self.victim.data_dir, self._folder / "kept")
        self.clients = Clients(client, self.victim.key, chaos.rate, chaos.seed)
        self._owner = Owner(
            client, self._definitions, self._variants, self._table, self.clients.record, chaos.seed
        )
        self.strikes = Strikes(
            self.victim, self._receiver, self._owner, Random(chaos.seed + 3), self._step, chaos.pause_s, chaos.without
        )
        try:
            return await self._struck()
        finally:
            await client.close()

    async def _struck(self) -> Rest:
        sending = asyncio.create_task(self.clients.run())
        others = [asyncio.create_task(work) for work in
                  (self._owner.publish(), self._owner.write_traits(), self._keep_snapshots())]  # fmt: skip
        tasks = [sending, *others]
        try:
            await self.strikes.run(time.monotonic() + self._chaos.seconds)
            self._step("the last requests")
            self.clients.stop()
            await sending
            for task in others[:2]:
                task.cancel()
            await asyncio.gather(*others[:2], return_exceptions=True)
            await self._owner.apply()
            self._step("coming to rest")
            return await self._at_rest()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_snapshots(self) -> None:
        while True:
            self.snapshots.keep()
            await asyncio.sleep(_SNAPSHOTS_EVERY_S)

    async def _at_rest(self) -> Rest:
        await asyncio.sleep(SHORT_S + 1)
        until_s, seen, since_s = time.monotonic() + _REST_S, -1, time.monotonic()
        status: Mapping[str, Any] = {}
        while time.monotonic() < until_s:
            status = await self._status()
            if self._receiver.changes_seen != seen or not _is_quiet(status, pq.read_metadata(self._table).num_rows):
                seen, since_s = self._receiver.changes_seen, time.monotonic()
            elif time.monotonic() - since_s > _QUIET_S:
                break
            await asyncio.sleep(0.2)
        users = sorted({user for row in self.clients.record.rows for user in users_of(row)})
        asked_ms = int(time.time() * 1000)
        members = await self._members(users, [each["id"] for each in self._owner.document["audiences"]])
        answered_ms = int(time.time() * 1000)
        accepted = int(status.get("events", {}).get("accepted", 0))
        return Rest(members, asked_ms, answered_ms, accepted, pq.read_table(self._table), self._owner.document)

    async def _status(self) -> Mapping[str, Any]:
        try:
            return (await self.victim.client.status()).document
        except UsherApiError:
            return {}

    async def _members(self, users: list[str], audiences: list[str]) -> dict[str, dict[str, bool]]:
        step, found = LOOKUP_PAIRS_MAX // len(audiences), {}
        for start in range(0, len(users), step):
            found.update(await self.victim.client.memberships(users[start : start + step], audiences))
        return found


def _is_quiet(status: Mapping[str, Any], trait_rows: int) -> bool:
    """Say whether nothing is under way: nothing to deliver, and everybody has the newest traits."""
    syncs, loaded = status.get("syncs", []), status.get("traits", [])
    return (
        len(syncs) == len(SYNCS)
        and all(row["backlog"] == 0 and not row.get("reason") for row in syncs)
        and bool(loaded)
        and all(row.get("state") == "ok" and not row.get("waiting_for") and row["rows"] == trait_rows for row in loaded)
    )


def _result(
    chaos: Chaos, record: Record, strikes: Strikes, checks: list[Check], filesystem: str, webhooks: int
) -> CaseResult:
    waits = sorted(sent.waited_s for sent in record.sent)
    events = sum(len(sent.rows) for sent in record.sent)
    figures = [
        Figure("strikes survived", len(strikes.story), ""),
        Figure("events acknowledged", events, ""),
        Figure("longest time until a request was acknowledged", round(waits[-1], 1) if waits else None, "s",
               better="lower"),
        Figure("longest time without an acknowledgement", _longest_gap_s(record), "s", better="lower"),
    ]  # fmt: skip
    notes = {
        "seed": chaos.seed, "strikes": dict(Counter(kind for _, kind, _ in strikes.story)),
        "story": [f"{at_s:.1f} s: {kind}: {whom}" for at_s, kind, whom in strikes.story],
        "attempts_by_status": dict(sorted(record.statuses.items())),
        "requests_sent_more_than_once": sum(sent.attempts > 1 for sent in record.sent),
        "look_ups": dict(record.looks), "publications": record.publications, "snapshots": record.snapshots,
        "webhooks": webhooks, "filesystem": filesystem,
    }  # fmt: skip
    return CaseResult("chaos", figures, checks, {}, notes)


def _longest_gap_s(record: Record) -> float:
    times = sorted(sent.answered_s for sent in record.sent)
    return round(max((after - before for before, after in pairwise(times)), default=0.0), 1)
