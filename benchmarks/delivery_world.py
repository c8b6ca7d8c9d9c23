"""Who delivery talks to in its benchmarks: an evaluator with a known log, a controller, definitions of one sync."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks.membership import AUDIENCE, Turns, pack_transitions
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, Reply
from destinations.registry import KINDS

SYNC: Final = "hunters"
#: Cluster states have numbers from 1.
_REVISION: Final = 1
#: How long a log that is not open any further keeps a question.
_LOOK_MS: Final = 20
_STEADY_USERS: Final = 1_000


class LogEvaluator:
    """Answers delivery's questions as an evaluator does whose log is `turns`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def status(self) -> Reply:
        """Give the position at which a sync without first members begins."""
        return {"seq": 0, "live_from_seq": 0}

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        """Give up to `limit` changes after `seq`; none after `wait_ms` where there are none."""
        if seq >= self._turns.count:
            await asyncio.sleep(wait_ms / 1000)
            return {"next_seq": seq, "seqs": b"", "transitions": b""}
        seqs, transitions = self._turns.packed(seq, limit)
        return {"next_seq": min(seq + limit, self._turns.count), "seqs": seqs, "transitions": transitions}


class OpenedLog(LogEvaluator):
    """One whose log is there up to `opened`; `asked` is how far it was read."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(turns)
        self.opened = 0
        self.asked = 0

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        """Give up to `limit` changes after `seq` of those that are there."""
        self.asked = max(self.asked, seq)
        if seq >= self.opened:
            await asyncio.sleep(min(wait_ms, _LOOK_MS) / 1000)
        return await super().transitions_after(seq, min(limit, max(0, self.opened - seq)), 0, audience)


class SteadyLog:
    """A log of a few users who enter and leave by turns, `per_s` changes a second, each at its own ms of the clock."""

    def __init__(self, per_s: int) -> None:
        self._every_ms = 1000 // per_s
        self._began_ms = time.time_ns() // 1_000_000
        self._ended: int | None = None

    @property
    def count(self) -> int:
        """Changes so far."""
        if self._ended is not None:
            return self._ended
        return (time.time_ns() // 1_000_000 - self._began_ms) // self._every_ms

    def end(self) -> int:
        """Let nothing more happen; gives how many changes there were."""
        self._ended = self.count
        return self._ended

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        """Give the changes after `seq`, or wait for the next one."""
        if seq >= self.count:
            await asyncio.sleep(min(wait_ms, self._every_ms) / 1000)
        seqs = np.arange(seq + 1, min(seq + limit, self.count) + 1)
        if not len(seqs):
            return {"next_seq": seq, "seqs": b"", "transitions": b""}
        rounds, users = np.divmod(seqs, _STEADY_USERS)
        times = self._began_ms + seqs * self._every_ms
        packed = pack_transitions(audience or "", users, rounds % 2 == 0, times)
        return {"next_seq": int(seqs[-1]), "seqs": seqs.astype("<i8").tobytes(), "transitions": packed}


class LogsEvaluator:
    """An evaluator of several audiences, each with a log of its own."""

    def __init__(self, logs: Mapping[str, OpenedLog | SteadyLog]) -> None:
        self._logs = logs

    async def status(self) -> Reply:
        """Give the position at which a sync without first members begins."""
        return {"seq": 0, "live_from_seq": 0}

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        """Give changes of one audience."""
        return await self._logs[audience or ""].transitions_after(seq, limit, wait_ms, audience)


class OneState:
    """A controller whose definitions never change."""

    def __init__(self, published: Published) -> None:
        info = EvaluatorInfo(0, "evaluator-0", "", "")
        self._state = ClusterState(_REVISION, published, (0,), (info,), ())

    async def state_after(self, revision: int, wait_ms: int) -> ClusterState:
        """Give the state, once."""
        if revision >= _REVISION:
            await asyncio.sleep(wait_ms / 1000)
        return self._state


def one_sync(destination: dict[str, Any], sync: dict[str, Any]) -> Published:
    """Give checked definitions of one audience, one destination and one sync, which starts without members."""
    return some_syncs({SYNC: (AUDIENCE, destination, sync)})


def some_syncs(syncs: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]]) -> Published:
    """Give checked definitions of syncs by name: each its audience, and what its destination and itself say."""
    where = {"trait": "email", "is_set": True}
    document: dict[str, Any] = {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {
            "source": {"kind": "parquet", "path": "users.parquet"}, "columns": {"email": {"type": "string"}},
        }}],
        "audiences": [{"id": audience, "parent": "users", "where": where} for audience, _, _ in syncs.values()],
        "destinations": [{"id": f"of_{name}", **destination} for name, (_, destination, _) in syncs.items()],
        "syncs": [
            {"id": name, "audience": audience, "destination": f"of_{name}", "initial": "none", **sync}
            for name, (audience, _, sync) in syncs.items()
        ],
    }
    return publish(None, parse_document(document, "<benchmark>", KINDS))
