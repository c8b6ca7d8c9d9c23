"""Questions to the stored transitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from actors.evaluator.results import TRANSITION_SCHEMA
from cluster.log.contract import Log
from cluster.log.records import pack_transitions

#: Transitions read at a time when looking back.
_STEP = 8_192


def entered_since(log: Log, fresh: Sequence[pa.RecordBatch], audience: str, user: str) -> int | None:
    """Give when a present member entered: the newest `entered`; None if the log no longer has it.

    `fresh` are transitions made but not committed yet. Looks back from the newest: O(transitions since).
    """
    for table in reversed(fresh):
        found = _last_entered_at(table, audience, user)
        if found is not None:
            return found
    last = log.last_transition_seq()
    while last > 0:
        first = max(0, last - _STEP)
        for block in reversed(log.transitions_after(first, last - first)):
            found = _last_entered_at(block.rows(), audience, user)
            if found is not None:
                return found
        last = first
    return None


def _last_entered_at(table: pa.RecordBatch, audience: str, user: str) -> int | None:
    chosen = pc.and_(
        pc.and_(pc.equal(table.column("audience_id"), audience), pc.equal(table.column("user_id"), user)),
        pc.equal(table.column("kind"), "entered"),
    )
    times = table.column("at").filter(chosen)
    return int(times[-1].as_py()) if len(times) else None


def last_entered(log: Log, audience: str, through_seq: int) -> tuple[NDArray[np.int64], bytes]:
    """Give number and row of the last `entered` of each user whose newest transition of the audience is one.

    Rows come as a packed Arrow stream (empty bytes: nobody). O(stored transitions).
    """
    seqs: list[NDArray[np.int64]] = []
    tables: list[pa.RecordBatch] = []
    after = 0
    while after < through_seq:
        blocks = log.transitions_after(after, min(_STEP, through_seq - after))
        if not blocks:
            break
        for block in blocks:
            rows = block.rows()
            chosen = pc.equal(rows.column("audience_id"), audience)
            tables.append(rows.filter(chosen))
            numbers = np.arange(block.first_seq, block.last_seq + 1, dtype=np.int64)
            seqs.append(numbers[np.asarray(chosen)])
            after = block.last_seq
    if not tables:
        return np.zeros(0, np.int64), b""
    table = pa.Table.from_batches(tables, TRANSITION_SCHEMA).combine_chunks()
    numbers = np.concatenate(seqs)
    return _newest_entered(table, numbers)


def _newest_entered(table: pa.Table, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], bytes]:
    if table.num_rows == 0:
        return np.zeros(0, np.int64), b""
    users = np.asarray(table.column("user_id").combine_chunks().dictionary_encode().indices)
    newest = np.full(int(users.max()) + 1, -1, np.int64)
    newest[users] = np.arange(len(users))  # the last write of an index wins
    entered = np.asarray(pc.equal(table.column("kind"), "entered"))
    rows = np.sort(newest[entered[newest]])
    if not len(rows):
        return np.zeros(0, np.int64), b""
    return numbers[rows], pack_transitions(table.take(pa.array(rows)).to_batches()[0])
