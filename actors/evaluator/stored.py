"""Questions to the stored transitions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from actors.evaluator.ledger import Pages, pages_of, rows_after
from actors.evaluator.results import TRANSITION_SCHEMA
from cluster.log.contract import Log
from cluster.log.records import TransitionBlock, pack_transitions

Reply = dict[str, Any]
#: Transitions read at a time when looking back.
_STEP = 8_192


#: (audience id, user key)
Pair: TypeAlias = tuple[str, str]


def with_since(log: Log, reply: Reply, users: Sequence[str], audiences: Sequence[str]) -> Reply:
    """Complete the worker's answer to a look-up with details: `since` of every member.

    Reads the log, for long where somebody has been a member for long: not on the thread that evaluates.
    """
    if "details" not in reply:
        return reply
    through_seq = reply.pop("through_seq")
    members = {
        (audience, user)
        for user, row in zip(users, reply["members"], strict=True)
        for audience, member in zip(audiences, row, strict=True)
        if member
    }
    since = entered_since(log, members, through_seq)
    for user, row in zip(users, reply["details"], strict=True):
        for audience, detail in zip(audiences, row, strict=True):
            detail["since"] = since.get((audience, user))
    return reply


def entered_since(log: Log, members: Collection[Pair], through_seq: int) -> dict[Pair, int]:
    """Give when each of these members entered: the newest `entered` up to `through_seq`.

    Looks back from there, once for all: O(transitions since the first of them entered).
    """
    found: dict[Pair, int] = {}
    sought = set(members)
    last, dropped_seq = through_seq, pages_of(log).through_seq
    while last > dropped_seq and sought:
        first = max(dropped_seq, last - _STEP)
        for block in reversed(log.transitions_after(first, last - first)):
            entries = _entries_of(block.rows(), sought)
            found.update(entries)
            sought.difference_update(entries)
        last = first
    for _, rows in rows_after(log, 0) if sought else ():
        found = {**_entries_of(rows, sought), **found}
    return found


def _entries_of(table: pa.RecordBatch, sought: Collection[Pair]) -> dict[Pair, int]:
    chosen = pc.and_(
        pc.and_(
            pc.is_in(table.column("audience_id"), pa.array({audience for audience, _ in sought}, pa.string())),
            pc.is_in(table.column("user_id"), pa.array({user for _, user in sought}, pa.string())),
        ),
        pc.equal(table.column("kind"), "entered"),
    )
    rows = table.filter(chosen).select(["audience_id", "user_id", "at"]).to_pylist()
    newest = {(row["audience_id"], row["user_id"]): int(row["at"]) for row in rows}
    return {pair: at for pair, at in newest.items() if pair in sought}


def initial_members(log: Log, audience: str) -> Reply:
    """Give the last `entered` of each member, as the stored transitions up to `seq` have it.

    Reads all of them: not on the thread that evaluates.
    """
    seq = log.last_transition_seq()
    seqs, table = last_entered(log, audience, seq)
    return {"seq": seq, "seqs": seqs.astype("<i8").tobytes(), "transitions": table}


def last_entered(log: Log, audience: str, through_seq: int) -> tuple[NDArray[np.int64], bytes]:
    """Give number and row of the last `entered` of each user whose newest transition of the audience is one.

    Rows come as a packed Arrow stream (empty bytes: nobody). O(stored transitions).
    """
    seqs: list[NDArray[np.int64]] = []
    tables: list[pa.RecordBatch] = []
    for numbers, rows in rows_after(log, 0):
        chosen = pc.equal(rows.column("audience_id"), audience)
        tables.append(rows.filter(chosen))
        seqs.append(numbers[np.asarray(chosen)])
    after = pages_of(log).through_seq
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
    return _newest_entered(table, np.concatenate(seqs))


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


def history_after(log: Log, seq: int, limit: int, audience: str | None) -> Reply:
    """Answer `transitions_after` from the log; of what was dropped the ledger has who was left inside."""
    pages = pages_of(log)
    blocks = [] if seq < pages.through_seq else log.transitions_after(seq, limit)
    if blocks and blocks[0].first_seq > seq + 1:
        pages = pages_of(log)  # they were dropped between the two looks; or never were in this log, without a ledger
    if seq < pages.through_seq:
        return _of_ledger(log, pages, seq, limit, audience)
    return packed(blocks, seq, limit, audience)


def _of_ledger(log: Log, pages: Pages, seq: int, limit: int, audience: str | None) -> Reply:
    for numbers, rows in rows_after(log, seq, pages):
        numbers, rows = numbers[:limit], rows.slice(0, limit)
        next_seq = int(numbers[-1])
        if audience is not None:
            chosen = pc.equal(rows.column("audience_id"), audience)
            numbers, rows = numbers[np.asarray(chosen)], rows.filter(chosen)
        if rows.num_rows:
            return {
                "next_seq": next_seq, "seqs": numbers.astype("<i8").tobytes(), "transitions": pack_transitions(rows)
            }  # fmt: skip
        return {"next_seq": next_seq, "seqs": b"", "transitions": b""}
    return {"next_seq": pages.through_seq, "seqs": b"", "transitions": b""}


def packed(blocks: list[TransitionBlock], seq: int, limit: int, audience: str | None) -> Reply:
    """Cut blocks to (seq, seq + limit], keep one audience's rows, pack."""
    numbers: list[NDArray[np.int64]] = []
    tables: list[pa.RecordBatch] = []
    next_seq = seq
    room = limit
    for block in blocks:
        if room <= 0:
            break
        rows = block.rows()
        first = max(0, next_seq + 1 - block.first_seq)
        part = rows.slice(first, min(room, rows.num_rows - first))
        start = block.first_seq + first
        own = np.arange(start, start + part.num_rows, dtype=np.int64)
        next_seq = start + part.num_rows - 1
        room -= part.num_rows
        if audience is not None:
            chosen = pc.equal(part.column("audience_id"), audience)
            part = part.filter(chosen)
            own = own[np.asarray(chosen)]
        if part.num_rows:
            tables.append(part)
            numbers.append(own)
    if not tables:
        return {"next_seq": next_seq, "seqs": b"", "transitions": b""}
    table = pa.Table.from_batches(tables, TRANSITION_SCHEMA).combine_chunks().to_batches()[0]
    return {
        "next_seq": next_seq,
        "seqs": np.concatenate(numbers).astype("<i8").tobytes(),
        "transitions": pack_transitions(table),
    }
