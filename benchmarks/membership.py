"""Changes of membership for delivery to send: a log of known content.

Users change in turn: every round each of them once, in an order drawn anew, so that a user's next change is far away
but at the seam of two rounds. Answers are made as they are asked for, so that a long log takes no memory.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import pyarrow as pa

from benchmarks.workloads import START_MS, user_keys

AUDIENCE: Final = "bargain_hunters"
KINDS: Final = ("exited", "entered")
_SEED: Final = 7


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
            users[chosen] = self._users_at(int(number), places[chosen])
        return seqs, users, (rounds % 2 == 0) != self._leaving

    def packed(self, start: int, count: int) -> tuple[bytes, bytes]:
        """Give numbers and changes as an evaluator answers `transitions_after`."""
        seqs, users, entered = self.columns(start, count)
        if not len(seqs):
            return b"", b""
        packed = pack_transitions(AUDIENCE, users, entered, START_MS + seqs)
        return seqs.astype("<i8").tobytes(), packed

    def _users_at(self, number: int, places: np.ndarray) -> np.ndarray:
        """Give the users at some places of a round."""
        if number != self._round:
            self._round = number
            self._order = np.random.default_rng([_SEED, number]).permutation(self.users)
        users: np.ndarray = self._order[places]
        return users


class LeanTurns(Turns):
    """The same with orders that take no memory: a round goes through the users in steps of its own."""

    def _users_at(self, number: int, places: np.ndarray) -> np.ndarray:
        step = int(self.users * (0.618 - 0.01 * (number % 10))) | 1
        while math.gcd(step, self.users) > 1:
            step += 2
        users: np.ndarray = (places * step + number) % self.users
        return users


def pack_transitions(audience: str, users: np.ndarray, entered: np.ndarray, at_ms: np.ndarray) -> bytes:
    """Give an audience's transitions as an evaluator does, by users' numbers."""
    rows = len(users)
    table = pa.RecordBatch.from_pydict(
        {
            "audience_id": pa.array([audience]).take(pa.array(np.zeros(rows, np.int8))),
            "audience_version": pa.array(np.ones(rows, np.int32)),
            "user_id": user_keys(users),
            "kind": pa.array(KINDS).take(pa.array(entered.astype(np.int8))),
            "at": pa.array(at_ms),
            "n": pa.array(np.zeros(rows, np.int32)),
            "cause": pa.array(["event"]).take(pa.array(np.zeros(rows, np.int8))),
            "partition": pa.array(np.zeros(rows, np.int16)),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed
