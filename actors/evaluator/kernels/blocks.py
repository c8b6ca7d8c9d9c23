"""Blocks: the rings of one (user, event model) side by side, and the timers over them.

A block has one armed timer: at the earliest time when one of its true leaves may lapse, or, with no true leaf,
when its last timestamp stops mattering and the block is given back. It is re-armed lazily: an event that prolongs
a leaf costs the timer nothing.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.membership import (
    begin,
    has_room,
    mark_leaf,
    mark_parent,
    refresh_due,
    settle,
    touch,
)
from actors.evaluator.kernels.rings import ring_clear, ring_nth
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.wheel import arm, next_instant, release, take_slot
from actors.evaluator.layout import (
    ALIVE,
    BLOCK_DUE,
    BLOCK_OWNER,
    CAUSE_TIME,
    DONE,
    DUE,
    FIRST_WORD,
    FLAGS,
    I64,
    IN_SNAPSHOT,
    LAST_TS,
    NEED_ROOM,
    NEVER,
    NEVER_BEFORE,
    PRESENCE_DUE,
    S_ALIVE,
    S_ARENA_TOP,
    S_BLOCKS,
    S_DUE_AT,
    S_DUE_LEN,
    S_DUE_NEXT,
)

_ONE = np.uint64(1)


@inner
def new_block(p: ProgramTable, s: StateTable, user: int, model: int) -> int:
    """Give the user a block for the model; the caller made room in the arena."""
    block = s.block_free[model]
    if block != 0:
        s.block_free[model] = s.arena[block + BLOCK_DUE]
    else:
        block = s.scalars[S_ARENA_TOP]
        s.scalars[S_ARENA_TOP] = block + p.model_block[model]
    s.arena[block + BLOCK_OWNER] = (np.int64(user) << 16) | model
    s.arena[block + BLOCK_DUE] = NEVER
    for ring in range(p.model_rings[model], p.model_rings[model + 1]):
        ring_clear(s.arena, block + p.ring_offset[ring], p.ring_capacity[ring])
    s.users[user, p.shape[4] + model] = block
    s.scalars[S_BLOCKS] += 1
    return block


@inner
def free_block(p: ProgramTable, s: StateTable, user: int, model: int, block: int) -> None:
    """Give a block back; a timer still armed for it will be seen to be stale."""
    s.users[user, p.shape[4] + model] = 0
    s.arena[block + BLOCK_OWNER] = -1
    s.arena[block + BLOCK_DUE] = s.block_free[model]
    s.block_free[model] = block
    s.scalars[S_BLOCKS] -= 1


@inner
def arm_block(s: StateTable, user: int, block: int, due: int) -> None:
    """Arm a block at `due` if it is not armed at or before it already."""
    if due < s.arena[block + BLOCK_DUE]:
        s.arena[block + BLOCK_DUE] = due
        arm(s, block, due)
        if due < s.users[user, DUE]:
            s.users[user, DUE] = due


@inner
def arm_presence(p: ProgramTable, s: StateTable, user: int) -> None:
    """Arm the user's universe timer, unless it is armed or a trait row keeps the user in."""
    row = s.users[user]
    if (row[FLAGS] & IN_SNAPSHOT) != 0 or row[PRESENCE_DUE] != NEVER or row[LAST_TS] == NEVER_BEFORE:
        return
    due = row[LAST_TS] + p.parent_retention[s.user_parent[user]]
    row[PRESENCE_DUE] = due
    arm(s, -(user + 1), due)
    if due < row[DUE]:
        row[DUE] = due


@inner
def _lapse_block(p: ProgramTable, s: StateTable, user: int, model: int, block: int, t: int) -> None:
    """Make the block's leaves false whose time is over at t, mark their audiences, and arm or free the block."""
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
            word = FIRST_WORD + (leaf >> 6)
            bit = np.uint64(leaf & 63)
            if ((words[word] >> bit) & _ONE) == _ONE:
                until = ring_nth(s.arena, at, capacity, p.leaf_n[leaf]) + p.leaf_duration[leaf]
                if until <= t:
                    words[word] ^= _ONE << bit
                    mark_leaf(p, s, leaf)
                else:
                    soonest = min(soonest, until)
    if soonest == NEVER:
        if last_needed <= t:
            free_block(p, s, user, model, block)
            return
        soonest = last_needed
    s.arena[block + BLOCK_DUE] = soonest
    arm(s, block, soonest)


@inner
def _lapse_presence(p: ProgramTable, s: StateTable, user: int, t: int) -> None:
    row = s.users[user]
    row[PRESENCE_DUE] = NEVER
    if (row[FLAGS] & IN_SNAPSHOT) != 0 or (row[FLAGS] & ALIVE) == 0:
        return
    if row[LAST_TS] + p.parent_retention[s.user_parent[user]] > t:
        arm_presence(p, s, user)
        return
    row[FLAGS] &= ~ALIVE
    s.scalars[S_ALIVE] -= 1
    mark_parent(p, s, s.user_parent[user])


@kernel
def _sort_due(keys: I64, targets: I64, count: int) -> None:
    """Bring the due list of one instant into order of users."""
    if count <= 24:
        for i in range(1, count):
            key = keys[i]
            target = targets[i]
            j = i - 1
            while j >= 0 and keys[j] > key:
                keys[j + 1] = keys[j]
                targets[j + 1] = targets[j]
                j -= 1
            keys[j + 1] = key
            targets[j + 1] = target
        return
    order = np.argsort(keys[:count])
    sorted_keys = keys[:count][order]
    sorted_targets = targets[:count][order]
    for i in range(count):
        keys[i] = sorted_keys[i]
        targets[i] = sorted_targets[i]


@inner
def _collect_due(s: StateTable, t: int) -> int:
    """Detach the timers of instant t and list the live ones as (user, target); give how many."""
    count = 0
    node = take_slot(s, t)
    while node >= 0:
        following = s.node_next[node]
        target = s.node_target[node]
        if s.node_due[node] <= t:
            if target < 0:
                user = -target - 1
                live = s.users[user, PRESENCE_DUE] == s.node_due[node]
            else:
                user = s.arena[target + BLOCK_OWNER] >> 16
                live = s.arena[target + BLOCK_OWNER] >= 0 and s.arena[target + BLOCK_DUE] == s.node_due[node]
            if live:
                s.due_keys[count] = user
                s.due_targets[count] = target
                count += 1
        release(s, node)
        node = following
    _sort_due(s.due_keys, s.due_targets, count)
    return count


@inner
def _work_off(p: ProgramTable, s: StateTable) -> int:
    """Go on with the due list at hand, user by user, each evaluated once; NEED_ROOM leaves the rest listed."""
    t = s.scalars[S_DUE_AT]
    while s.scalars[S_DUE_NEXT] < s.scalars[S_DUE_LEN]:
        i = s.scalars[S_DUE_NEXT]
        user = s.due_keys[i]
        if not has_room(p, s, s.user_parent[user]):
            return NEED_ROOM
        begin(s)
        while i < s.scalars[S_DUE_LEN] and s.due_keys[i] == user:
            target = s.due_targets[i]
            if target < 0:
                _lapse_presence(p, s, user, t)
            elif s.arena[target + BLOCK_OWNER] >> 16 == user and s.arena[target + BLOCK_DUE] <= t:
                _lapse_block(p, s, user, s.arena[target + BLOCK_OWNER] & 0xFFFF, target, t)
            i += 1
        settle(p, s, user, t, CAUSE_TIME)
        refresh_due(p, s, user)
        touch(s, user)
        s.scalars[S_DUE_NEXT] = i
    return DONE


@kernel
def advance(p: ProgramTable, s: StateTable, until: int) -> int:
    """Make every change that is due at or before `until`, at its exact ms; NEED_ROOM asks to be called again."""
    if s.scalars[S_DUE_NEXT] < s.scalars[S_DUE_LEN] and _work_off(p, s) == NEED_ROOM:
        return NEED_ROOM
    while True:
        t = next_instant(s, until)
        if t < 0:
            return DONE
        s.scalars[S_DUE_AT] = t
        s.scalars[S_DUE_NEXT] = 0
        s.scalars[S_DUE_LEN] = _collect_due(s, t)
        if _work_off(p, s) == NEED_ROOM:
            return NEED_ROOM
