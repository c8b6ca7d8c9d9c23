"""Moving an evaluator's state into smaller arrays: departed users and lapsed windows give their room back.

A user who is not in the universe and has no page is what an unknown key is (semantics.md, end of §1), so nothing
can be seen of the move but the memory. Slots change: nobody may hold one across it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from actors.evaluator.kernels.dedup import refill
from actors.evaluator.kernels.hashing import LENGTH_BITS, LENGTH_MASK, rebuild_table
from actors.evaluator.kernels.moving import move_pages
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    ALIVE,
    DIRECT,
    DIRECTORY,
    DUE,
    FIRST_PLACE,
    FLAGS,
    I32,
    I64,
    NEVER,
    NEVER_BEFORE,
    S_ALIVE,
    S_ARENA_TOP,
    S_ARENA_USED,
    S_CAPPED,
    S_CLOCK,
    S_DEDUP_COUNT,
    S_DEDUP_EVICTED,
    S_DEDUP_HEAD,
    S_DEDUP_HORIZON_FROM,
    S_DEDUP_LEN,
    S_INSTANT_AT,
    S_KEY_TOP,
    S_OUT,
    S_POSITION,
    S_USERS,
    S_WHEEL,
    ProgramArrays,
    StateArrays,
)
from actors.evaluator.state import (
    new_state,
    with_arena_room,
    with_boundaries,
    with_dedup_room,
    with_user_room,
)

#: Below this many departed users a move is not worth its copy; above, each move frees at least half of what it copies.
DEPARTED_USERS_MIN: Final = 65_536
#: Words of the arena below which its free part is not worth a move: 32 MB.
FREE_WORDS_MIN: Final = 1 << 22
#: Bytes gathered at once: bounds the index arrays.
_GATHERED_MAX: Final = 1 << 20


def worth_compacting(s: StateArrays) -> bool:
    """Say whether departed users are many, or little of the arena is in use.

    Not while something due waits, nor at an instant whose numbering still needs the users.
    """
    scalars = s.scalars
    settled = scalars[S_OUT] == 0 and scalars[S_INSTANT_AT] < scalars[S_CLOCK] < scalars[S_WHEEL]
    users = int(scalars[S_USERS])
    departed = users - int(scalars[S_ALIVE]) > max(DEPARTED_USERS_MIN, users // 2)
    # What lies beyond the top was never written, and takes no memory.
    top = int(scalars[S_ARENA_TOP])
    free = top - int(scalars[S_ARENA_USED]) > max(FREE_WORDS_MIN, top // 4 * 3)
    return bool(settled) and (departed or free)


def compacted(program: ProgramArrays, s: StateArrays, horizon_ms: int) -> tuple[StateArrays, I32]:
    """Give new arrays with the users worth keeping, and their old slots, ascending.

    All that was due must be worked off. No timer is armed: `finish_loading` arms them anew. Cost: O(what is kept), and
    a look at each user.
    """
    rows = s.users[: int(s.scalars[S_USERS])]
    first, direct = int(program.shape[FIRST_PLACE]), int(program.shape[DIRECT])
    places = s.halves[: len(rows), first : first + direct]
    busy = (places != 0).any(axis=1) | (rows[:, DIRECTORY] != 0)
    keep = np.flatnonzero(((rows[:, FLAGS] & ALIVE) != 0) | busy).astype(np.int32)
    fresh = moved(program, s, keep)
    for scalar in (S_ALIVE, S_DEDUP_EVICTED, S_DEDUP_HORIZON_FROM, S_CAPPED):
        fresh.scalars[scalar] = s.scalars[scalar]
    return _with_ids(fresh, s, int(s.scalars[S_CLOCK]) - horizon_ms), keep


def moved(program: ProgramArrays, s: StateArrays, keep: I32) -> StateArrays:
    """Give new arrays with some users and their pages alone, without timers and message ids."""
    fresh = new_state(program)
    for scalar in (S_CLOCK, S_WHEEL, S_POSITION):
        fresh.scalars[scalar] = s.scalars[scalar]
    fresh = with_boundaries(fresh, s.calendar_starts, s.calendar_bounds)
    fresh = _with_users(fresh, s, keep)
    fresh = with_arena_room(fresh, int(s.scalars[S_ARENA_USED]))
    move_pages(ProgramTable(program), StateTable(s), StateTable(fresh), keep)
    return fresh


def _with_users(fresh: StateArrays, s: StateArrays, keep: I32) -> StateArrays:
    count = len(keep)
    lengths = s.key_place[keep] & LENGTH_MASK
    starts = np.concatenate([[0], np.cumsum(lengths)])
    fresh = with_user_room(fresh, count, int(starts[-1]))
    fresh.users[:count] = s.users[keep]
    fresh.users[:count, DUE] = NEVER
    fresh.user_parent[:count] = s.user_parent[keep]
    fresh.user_hash[:count] = s.user_hash[keep]
    fresh.key_place[:count] = (starts[:-1] << LENGTH_BITS) | lengths
    _gather_bytes(fresh, s, keep, starts)
    fresh.scalars[S_USERS], fresh.scalars[S_KEY_TOP] = count, starts[-1]
    rebuild_table(fresh.user_hash, 0, count, fresh.key_table)
    return fresh


def _gather_bytes(fresh: StateArrays, s: StateArrays, keep: I32, starts: I64) -> None:
    first = 0
    while first < len(keep):
        stop = max(first + 1, int(np.searchsorted(starts, starts[first] + _GATHERED_MAX, side="right")) - 1)
        lengths = np.diff(starts[first : stop + 1])
        shift = np.repeat((s.key_place[keep[first:stop]] >> LENGTH_BITS) - starts[first:stop], lengths)
        places = np.arange(starts[first], starts[stop])
        fresh.key_bytes[starts[first] : starts[stop]] = s.key_bytes[places + shift]
        first = stop


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
