"""Changes of membership for delivery to send: a log of known content, and an evaluator and a controller that give it.

Users change in turn: every round each of them once, in an order drawn anew, so that a user's next change is far away
but at the seam of two rounds. Answers are made as they are asked for, so that a long log takes no memory.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.workloads import START_MS, user_keys
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, Reply
from destinations.registry import KINDS as DESTINATIONS

AUDIENCE: Final = "bargain_hunters"
SYNC: Final = "hunters"
KINDS: Final = ("exited", "entered")
_SEED: Final = 7
#: Cluster states have numbers from 1.
_REVISION: Final = 1


class Turns:
    """A log of `count` changes, numbered from 1; the one numbered `seq` was made `seq` ms after START_MS.

    `leaving`: everybody is a member at first, so that the first round is of exits.
    """

    def __init__(self, users: int, count: int, *, leaving: bool = False) -> None:
        self.users = users
        self.count = count
        self._leaving = leaving
        self._round = -1
        self._order = np.empty(0, np.int64)

    def columns(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give number, user's number and whether they entered, of up to `count` changes after `start`."""
        seqs = np.arange(start + 1, min(start + count, self.count) + 1)
        rounds, places = np.divmod(seqs - 1, self.users)
        users = np.empty(len(seqs), np.int64)
        for number in np.unique(rounds):
            chosen = rounds == number
            users[chosen] = self._order_of(int(number))[places[chosen]]
        return seqs, users, (rounds % 2 == 0) != self._leaving

    def packed(self, start: int, count: int) -> tuple[bytes, bytes]:
        """Give numbers and changes as an evaluator answers `transitions_after`."""
        seqs, users, entered = self.columns(start, count)
        rows = len(seqs)
        if not rows:
            return b"", b""
        table = pa.RecordBatch.from_pydict(
            {
                "audience_id": pa.array([AUDIENCE]).take(pa.array(np.zeros(rows, np.int8))),
                "audience_version": pa.array(np.ones(rows, np.int32)),
                "user_id": user_keys(users),
                "kind": pa.array(KINDS).take(pa.array(entered.astype(np.int8))),
                "at": pa.array(START_MS + seqs),
                "n": pa.array(np.zeros(rows, np.int32)),
                "cause": pa.array(["event"]).take(pa.array(np.zeros(rows, np.int8))),
                "partition": pa.array(np.zeros(rows, np.int16)),
            }
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_batch(table)
        return seqs.astype("<i8").tobytes(), sink.getvalue().to_pybytes()

    def _order_of(self, number: int) -> np.ndarray:
        if number != self._round:
            self._round = number
            self._order = np.random.default_rng([_SEED, number]).permutation(self.users)
        return self._order


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
    return publish(None, parse_document(document, "<benchmark>", DESTINATIONS))
