"""Moving an evaluator's state into smaller arrays: users who left the universe with nothing kept give their room back.

A user who is not in the universe and has no block is what an unknown key is (semantics.md, end of §1), so nothing
can be seen of the move but the memory. Slots change: nobody may hold one across it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from actors.evaluator.kernels.dedup import refill
from actors.evaluator.kernels.hashing import rebuild_table
from actors.evaluator.layout import (
    ALIVE,
    BLOCK_OWNER,
    FLAGS,
    I32,
    I64,
    NEVER,
    NEVER_BEFORE,
    PRESENCE_DUE,
    S_ALIVE,
    S_ARENA_TOP,
    S_BLOCKS,
    S_CLOCK,
    S_DEDUP_COUNT,
    S_DEDUP_EVICTED,
    S_DEDUP_HEAD,
    S_DEDUP_HORIZON_FROM,
    S_DEDUP_LEN,
    S_INSTANT_AT,
    S_KEY_TOP,
    S_OUT,
    S_USERS,
    S_WHEEL,
    ProgramArrays,
    StateArrays,
)
from actors.evaluator.state import (
    new_state,
    with_block_room,
    with_dedup_room,
    with_timer_room,
    with_user_room,
)

#: Below this many departed users a move is not worth its copy; above, each move frees at least half of what it copies.
DEPARTED_USERS_MIN: Final = 65_536
#: Words and bytes gathered at once: bounds the index arrays.
_GATHERED_MAX: Final = 1 << 20


def worth_compacting(s: StateArrays) -> bool:
    """Say whether departed users are many; not at an instant whose numbering still needs them."""
    users = int(s.scalars[S_USERS])
    departed = users - int(s.scalars[S_ALIVE])
    settled = s.scalars[S_OUT] == 0 and s.scalars[S_INSTANT_AT] < s.scalars[S_CLOCK]
    return bool(settled) and departed > max(DEPARTED_USERS_MIN, users // 2)


def compacted(program: ProgramArrays, s: StateArrays, horizon_ms: int) -> tuple[StateArrays, I32]:
    """Give new arrays with the users worth keeping, and their old slots, ascending.

    All that was due must be worked off. The wheel is left empty and no universe timer armed: `finish_loading`
    arms both anew. Cost: O(what is kept), and a look at each user.
    """
    rows = s.users[: int(s.scalars[S_USERS])]
    busy = (rows[:, int(program.shape[4]) :] != 0).any(axis=1)
    keep = np.flatnonzero(((rows[:, FLAGS] & ALIVE) != 0) | busy).astype(np.int32)
    fresh = new_state(program)
    for scalar in (S_CLOCK, S_WHEEL, S_ALIVE, S_BLOCKS, S_DEDUP_EVICTED, S_DEDUP_HORIZON_FROM):
        fresh.scalars[scalar] = s.scalars[scalar]
    fresh = _with_users(fresh, s, keep)
    fresh = _with_blocks(fresh, s, program)
    fresh = _with_ids(fresh, s, int(s.scalars[S_CLOCK]) - horizon_ms)
    return with_timer_room(fresh, len(keep) + int(s.scalars[S_BLOCKS]) + 1), keep


def _with_users(fresh: StateArrays, s: StateArrays, keep: I32) -> StateArrays:
    count = len(keep)
    lengths = s.key_length[keep].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    fresh = with_user_room(fresh, count, int(starts[-1]))
    fresh.users[:count] = s.users[keep]
    fresh.users[:count, PRESENCE_DUE] = NEVER
    fresh.user_parent[:count] = s.user_parent[keep]
    fresh.user_hash[:count] = s.user_hash[keep]
    fresh.key_start[:count] = starts[:-1]
    fresh.key_length[:count] = lengths
    _gather_bytes(fresh, s, keep, starts)
    fresh.scalars[S_USERS], fresh.scalars[S_KEY_TOP] = count, starts[-1]
    rebuild_table(fresh.user_hash, count, fresh.key_table)
    return fresh


def _gather_bytes(fresh: StateArrays, s: StateArrays, keep: I32, starts: I64) -> None:
    first = 0
    while first < len(keep):
        stop = max(first + 1, int(np.searchsorted(starts, starts[first] + _GATHERED_MAX, side="right")) - 1)
        lengths = np.diff(starts[first : stop + 1])
        shift = np.repeat(s.key_start[keep[first:stop]] - starts[first:stop], lengths)
        places = np.arange(starts[first], starts[stop])
        fresh.key_bytes[starts[first] : starts[stop]] = s.key_bytes[places + shift]
        first = stop


def _with_blocks(fresh: StateArrays, s: StateArrays, program: ProgramArrays) -> StateArrays:
    """Move each model's blocks side by side; their free lists start empty."""
    first = int(program.shape[4])
    users = int(fresh.scalars[S_USERS])
    for model, width in enumerate(program.model_block.tolist()):
        owners = np.flatnonzero(fresh.users[:users, first + model])
        fresh = with_block_room(fresh, len(owners) * width)
        top = int(fresh.scalars[S_ARENA_TOP])
        step = max(1, _GATHERED_MAX // width)
        for start in range(0, len(owners), step):
            some = owners[start : start + step]
            old = fresh.users[some, first + model]
            place = top + start * width
            blocks = fresh.arena[place : place + len(some) * width].reshape(-1, width)
            blocks[:] = s.arena[old[:, None] + np.arange(width)]
            blocks[:, BLOCK_OWNER] = (some << 16) | model
            fresh.users[some, first + model] = place + np.arange(len(some)) * width
        fresh.scalars[S_ARENA_TOP] = top + len(owners) * width
    return fresh


def _with_ids(fresh: StateArrays, s: StateArrays, until_clock: int) -> StateArrays:
    """Move the message ids accepted above `until_clock`; no other is ever looked at again."""
    clock = np.where(s.dedup_clock > until_clock, s.dedup_clock, NEVER_BEFORE)
    length = int(s.scalars[S_DEDUP_LEN])
    order = (int(s.scalars[S_DEDUP_HEAD]) + np.arange(length)) & (len(s.dedup_queue_clock) - 1)
    order = order[s.dedup_queue_clock[order] > until_clock]
    count = int(np.count_nonzero(clock != NEVER_BEFORE))
    fresh = with_dedup_room(fresh, max(count, len(order)))
    refill(s.dedup_first, s.dedup_second, clock, fresh.dedup_first, fresh.dedup_second, fresh.dedup_clock)
    fresh.dedup_queue_first[: len(order)] = s.dedup_queue_first[order]
    fresh.dedup_queue_second[: len(order)] = s.dedup_queue_second[order]
    fresh.dedup_queue_clock[: len(order)] = s.dedup_queue_clock[order]
    fresh.scalars[S_DEDUP_COUNT] = count
    fresh.scalars[S_DEDUP_LEN] = len(order)
    return fresh
