"""Who delivery talks to in its benchmarks: an evaluator with a known log, a controller, definitions of one sync."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from benchmarks.membership import AUDIENCE, Turns
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, Reply
from destinations.registry import KINDS

SYNC: Final = "hunters"
#: Cluster states have numbers from 1.
_REVISION: Final = 1


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
    document: dict[str, Any] = {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {
            "source": {"kind": "parquet", "path": "users.parquet"}, "columns": {"email": {"type": "string"}},
        }}],
        "audiences": [{"id": AUDIENCE, "parent": "users", "where": {"trait": "email", "is_set": True}}],
        "destinations": [{"id": "there", **destination}],
        "syncs": [{"id": SYNC, "audience": AUDIENCE, "destination": "there", "initial": "none", **sync}],
    }
    return publish(None, parse_document(document, "<benchmark>", KINDS))
