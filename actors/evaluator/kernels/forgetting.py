"""Taking a user's events from it: those of an anonymous id, when they join another user."""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import kernel
from actors.evaluator.kernels.membership import begin, has_room, mark_parent, settle, touch
from actors.evaluator.kernels.pages import direct_place, directory_count, free_page
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.users import advance_user, user_due
from actors.evaluator.kernels.wheel import arm
from actors.evaluator.layout import (
    ALIVE,
    CAUSE_EVENT,
    DIRECT,
    DIRECTORY,
    DONE,
    DUE,
    FIRST_WORD,
    FLAGS,
    IN_SNAPSHOT,
    LAST_TS,
    NEED_ROOM,
    NEVER_BEFORE,
    PAGES,
    PLACE_BITS,
    PLACE_MASK,
    S_ALIVE,
    S_NEED,
)

_ONE = np.uint64(1)


@kernel
def forget_events(p: ProgramTable, s: StateTable, user: int, now: int, live: bool) -> int:
    """Make a user, brought up to `now`, one that no event was ever of; NEED_ROOM asks to be called again.

    Whom no snapshot has leaves the universe. Not `live` (loading): no due times and no transitions, as in `apply_hits`.
    """
    parent = np.int64(s.user_parent[user])
    if live:
        s.scalars[S_NEED] = 0
        if s.users[user, DUE] <= now and advance_user(p, s, user, now) == NEED_ROOM:
            return NEED_ROOM
        if not has_room(p, s, parent):
            return NEED_ROOM
    begin(s)
    for page in range(p.shape[DIRECT]):
        place = direct_place(p, s, user, page)
        if place != 0:
            free_page(p, s, user, page, place)
    while directory_count(s, user) > 0:
        entry = s.arena[s.users[user, DIRECTORY] + 2]
        free_page(p, s, user, entry >> PLACE_BITS, entry & PLACE_MASK)
    # Without a page its leaves are false.
    for page in range(p.shape[PAGES]):
        for leaf in range(p.page_leaves[page], p.page_leaves[page + 1]):
            s.words[user, FIRST_WORD + (leaf >> 6)] &= ~(_ONE << np.uint64(leaf & 63))
    s.users[user, LAST_TS] = NEVER_BEFORE
    if (s.users[user, FLAGS] & IN_SNAPSHOT) == 0 and (s.users[user, FLAGS] & ALIVE) != 0:
        s.users[user, FLAGS] &= ~ALIVE
        s.scalars[S_ALIVE] -= 1
    mark_parent(p, s, parent)
    if live:
        settle(p, s, user, now, CAUSE_EVENT)
        arm(s, user, user_due(p, s, user, now))
        touch(s, user)
    return DONE
