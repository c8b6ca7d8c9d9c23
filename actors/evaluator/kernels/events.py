"""The hot loop: hits in, ring updates and transitions out.

Sketch of the cost per hit that matches r rings: a user row (one or two cache misses), the block (one miss and the
rest in line), r insertions of a few ns, a program run per audience that reads a flipped leaf. Bound by memory
latency, not by arithmetic.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.blocks import advance, arm_block, arm_presence, new_block
from actors.evaluator.kernels.dedup import purge, remember, seen
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.membership import begin, has_room, mark_defaults, mark_leaf, settle, touch
from actors.evaluator.kernels.rings import ring_insert, ring_nth
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    ACCEPTED,
    ALIVE,
    CAUSE_EVENT,
    DUPLICATE,
    FIRST_WORD,
    FLAGS,
    I16,
    I32,
    I64,
    LAST_TS,
    NEED_ROOM,
    NEVER,
    NEVER_BEFORE,
    S_ALIVE,
    S_CLOCK,
    TOO_LATE,
    U8,
    U64,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
#: A scratch mark where a block's place would be.
_COUNTED = -1


@inner
def _insert(p: ProgramTable, s: StateTable, user: int, model: int, ts: int, masks: U64, live: bool, now: int) -> None:
    """Put `ts` into the rings whose filters matched; live: flip leaves that became true and arm the block."""
    block = s.users[user, p.shape[4] + model]
    first_ring = p.model_rings[model]
    words = s.words[user]
    soonest = NEVER
    last_needed = NEVER_BEFORE
    for w in range(masks.size):
        mask = masks[w]
        index = w << 6
        while mask != _ZERO:
            while (mask & np.uint64(15)) == _ZERO:
                mask >>= np.uint64(4)
                index += 4
            if (mask & _ONE) == _ONE:
                ring = first_ring + index
                if block == 0:
                    block = new_block(p, s, user, model)
                at = block + p.ring_offset[ring]
                capacity = p.ring_capacity[ring]
                if ring_insert(s.arena, at, capacity, ts) and live:
                    last_needed = max(last_needed, ts + p.ring_reach[ring])
                    for leaf in range(p.ring_leaves[ring], p.ring_leaves[ring + 1]):
                        word = FIRST_WORD + (leaf >> 6)
                        bit = np.uint64(leaf & 63)
                        if ((words[word] >> bit) & _ONE) == _ZERO:
                            until = ring_nth(s.arena, at, capacity, p.leaf_n[leaf]) + p.leaf_duration[leaf]
                            if until > now:
                                words[word] |= _ONE << bit
                                soonest = min(soonest, until)
                                mark_leaf(p, s, leaf)
            mask >>= _ONE
            index += 1
    if live and block != 0:
        if soonest < NEVER:
            arm_block(s, user, block, soonest)
        elif s.arena[block + 1] == NEVER and last_needed > now:
            arm_block(s, user, block, last_needed)
        elif s.arena[block + 1] == NEVER:
            arm_block(s, user, block, now + 1)


@kernel
def apply_hits(
    p: ProgramTable,
    s: StateTable,
    start: int,
    rows: I32,
    models: I16,
    slots: I32,
    clocks: I64,
    times: I64,
    relative: U8,
    timed: U8,
    masks: U64,
    first_hash: U64,
    second_hash: U64,
    horizon_ms: int,
    ids_max: int,
    live: bool,
    outcomes: U8,
) -> int:
    """Apply hits `start..` in order; hits of one row and user are one step. Give how many are applied.

    Fewer than all: the output is full, call again from there. `times` is read by `timed` (0: the clock is the ts)
    and `relative` (an offset to the clock). Not `live` (loading retained events): no due times, leaves or
    transitions, only rings, greatest ts and ids.
    """
    count = rows.size
    i = start
    while i < count:
        user = np.int64(slots[i])
        clock = max(clocks[i], s.scalars[S_CLOCK])
        parent = s.user_parent[user]
        if live:
            if advance(p, s, clock) == NEED_ROOM or not has_room(p, s, parent):
                return i
            begin(s)
        s.scalars[S_CLOCK] = clock
        end = i + 1
        while end < count and rows[end] == rows[i] and slots[end] == user:
            end += 1
        if first_hash[i] != _ZERO and seen(s, first_hash[i], second_hash[i], clock - horizon_ms):
            for j in range(i, end):
                outcomes[j] = DUPLICATE
            i = end
            continue
        accepted = False
        row = s.users[user]
        for j in range(i, end):
            model = np.int64(models[j])
            ts = clock
            if timed[j] != 0:
                ts = min(clock, times[j] + clock if relative[j] != 0 else times[j])
            if ts <= clock - p.model_retention[model]:
                outcomes[j] = TOO_LATE
                continue
            outcomes[j] = ACCEPTED
            accepted = True
            row[LAST_TS] = max(row[LAST_TS], ts)
            _insert(p, s, user, model, ts, masks[j], live, clock)
        if accepted:
            if first_hash[i] != _ZERO:
                remember(s, first_hash[i], second_hash[i], clock)
                # At each acceptance, not once a batch: what is a duplicate must not depend on how the log was cut.
                purge(s, clock - horizon_ms, ids_max, 2)
            if live:
                if (row[FLAGS] & ALIVE) == 0:
                    row[FLAGS] |= ALIVE
                    s.scalars[S_ALIVE] += 1
                    mark_defaults(p, s, parent)
                arm_presence(p, s, user)
                settle(p, s, user, clock, CAUSE_EVENT)
                touch(s, user)
        i = end
    return count


@kernel
def words_needed(p: ProgramTable, s: StateTable, slots: I32, models: I16, masks: U64) -> int:
    """Give the arena words that new blocks for these hits may take.

    A block that lapses before its hit is applied is made anew from the free list. Each user's block counts once,
    by a mark in its place: with long rings a block is 80 KB.
    """
    total = 0
    for i in range(slots.size):
        model = np.int64(models[i])
        if s.users[slots[i], p.shape[4] + model] == 0:
            for w in range(masks.shape[1]):
                if masks[i, w] != _ZERO:
                    total += p.model_block[model]
                    s.users[slots[i], p.shape[4] + model] = _COUNTED
                    break
    for i in range(slots.size):
        if s.users[slots[i], p.shape[4] + models[i]] == _COUNTED:
            s.users[slots[i], p.shape[4] + models[i]] = 0
    return total
