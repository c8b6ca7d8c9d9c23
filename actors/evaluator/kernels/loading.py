"""What is done to all users at once: first truth after loading retained events, and trait snapshots."""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.blocks import arm_presence, free_block
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.membership import (
    begin,
    evaluate,
    has_room,
    mark_defaults,
    mark_leaf,
    mark_parent,
    refresh_due,
    settle,
    touch,
)
from actors.evaluator.kernels.rings import ring_nth
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.wheel import arm
from actors.evaluator.layout import (
    ALIVE,
    BLOCK_DUE,
    CAUSE_TRAITS,
    FIRST_WORD,
    FLAGS,
    I32,
    IN_SNAPSHOT,
    LAST_TS,
    LOADED,
    NEVER,
    NEVER_BEFORE,
    S_ALIVE,
    S_USERS,
    U64,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@inner
def _first_truth(p: ProgramTable, s: StateTable, user: int, model: int, block: int, now: int) -> None:
    soonest = NEVER
    last_needed = NEVER_BEFORE
    words = s.words[user]
    for ring in range(p.model_rings[model], p.model_rings[model + 1]):
        at = block + p.ring_offset[ring]
        capacity = p.ring_capacity[ring]
        latest = ring_nth(s.arena, at, capacity, 1)
        if latest == NEVER_BEFORE:
            continue
        last_needed = max(last_needed, latest + p.ring_reach[ring])
        for leaf in range(p.ring_leaves[ring], p.ring_leaves[ring + 1]):
            until = ring_nth(s.arena, at, capacity, p.leaf_n[leaf]) + p.leaf_duration[leaf]
            if until > now:
                words[FIRST_WORD + (leaf >> 6)] |= _ONE << np.uint64(leaf & 63)
                soonest = min(soonest, until)
    if soonest == NEVER:
        if last_needed <= now:
            free_block(p, s, user, model, block)
            return
        soonest = last_needed
    s.arena[block + BLOCK_DUE] = soonest
    arm(s, block, soonest)


@kernel
def finish_loading(p: ProgramTable, s: StateTable, now: int) -> None:
    """Give every user the truth and membership that hold at `now`, and arm what is due later; no transitions."""
    first_block = p.shape[4]
    first_member = p.shape[3]
    for user in range(s.scalars[S_USERS]):
        row = s.users[user]
        parent = s.user_parent[user]
        for m in range(p.shape[2]):
            block = row[first_block + m]
            if block != 0:
                _first_truth(p, s, user, m, block, now)
        fresh = row[LAST_TS] != NEVER_BEFORE and row[LAST_TS] + p.parent_retention[parent] > now
        if (fresh or (row[FLAGS] & IN_SNAPSHOT) != 0) and (row[FLAGS] & ALIVE) == 0:
            row[FLAGS] |= ALIVE
            s.scalars[S_ALIVE] += 1
        if fresh:
            arm_presence(p, s, user)
        for i in range(p.parent_audiences[parent], p.parent_audiences[parent + 1]):
            audience = p.parent_audience[i]
            if evaluate(p, s, user, audience):
                s.words[user, first_member + (audience >> 6)] |= _ONE << np.uint64(audience & 63)
        refresh_due(p, s, user)
        touch(s, user)


@inner
def _replace_words(p: ProgramTable, s: StateTable, user: int, parent: int, words: U64) -> None:
    """Set the trait words of a user and mark the audiences of the leaves that flipped."""
    for w in range(p.shape[0]):
        if p.word_parent[w] != parent:
            continue
        flipped = s.words[user, FIRST_WORD + w] ^ words[w]
        if flipped == _ZERO:
            continue
        s.words[user, FIRST_WORD + w] = words[w]
        for bit in range(64):
            if ((flipped >> np.uint64(bit)) & _ONE) == _ONE:
                mark_leaf(p, s, (w << 6) | bit)


@kernel
def apply_snapshot(
    p: ProgramTable, s: StateTable, parent: int, slots: I32, words: U64, start: int, now: int, live: bool
) -> int:
    """Give a snapshot's users their trait truths ([rows, leaf words]); resume from `start` as `apply_hits` does."""
    for i in range(start, slots.size):
        user = np.int64(slots[i])
        if live and not has_room(p, s, parent):
            return i
        begin(s)
        row = s.users[user]
        row[FLAGS] |= LOADED
        _replace_words(p, s, user, parent, words[i])
        if (row[FLAGS] & IN_SNAPSHOT) == 0:
            row[FLAGS] |= IN_SNAPSHOT
            if (row[FLAGS] & ALIVE) == 0:
                row[FLAGS] |= ALIVE
                s.scalars[S_ALIVE] += 1
                mark_parent(p, s, parent)
                mark_defaults(p, s, parent)
        if live:
            settle(p, s, user, now, CAUSE_TRAITS)
            touch(s, user)
    return slots.size


@kernel
def retire_missing(p: ProgramTable, s: StateTable, parent: int, start: int, now: int, live: bool) -> int:
    """Take the traits from users of the parent that the snapshot no longer has; ends the LOADED marks. Resumable."""
    for user in range(start, s.scalars[S_USERS]):
        if s.user_parent[user] != parent:
            continue
        row = s.users[user]
        if (row[FLAGS] & LOADED) != 0:
            row[FLAGS] &= ~LOADED
            continue
        if (row[FLAGS] & IN_SNAPSHOT) == 0:
            continue
        if live and not has_room(p, s, parent):
            return user
        begin(s)
        row[FLAGS] &= ~IN_SNAPSHOT
        _replace_words(p, s, user, parent, p.default_words[parent])
        if row[LAST_TS] == NEVER_BEFORE or row[LAST_TS] + p.parent_retention[parent] <= now:
            if (row[FLAGS] & ALIVE) != 0:
                row[FLAGS] &= ~ALIVE
                s.scalars[S_ALIVE] -= 1
                mark_parent(p, s, parent)
        elif live:
            arm_presence(p, s, user)
        if live:
            settle(p, s, user, now, CAUSE_TRAITS)
            touch(s, user)
    return s.scalars[S_USERS]


