"""The transitions already made at a machine's present instant: what the numbering `n` goes on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from actors.evaluator.layout import LAST_AT, LAST_TR, NEVER_BEFORE, S_INSTANT_AT, S_INSTANT_LEN
from actors.evaluator.state import with_instant_room

if TYPE_CHECKING:
    from actors.evaluator.machine import EvaluatorMachine

#: (parent, user key, audience id) -> the latest `n`.
InstantCounts: TypeAlias = dict[tuple[str, str, str], int]


def instant_counts(machine: EvaluatorMachine) -> InstantCounts:
    """Give the latest `n` of every user and audience with a transition at the machine's clock."""
    s = machine.state
    if int(s.scalars[S_INSTANT_AT]) != machine.clock_ms:
        return {}
    users = np.flatnonzero(s.users[: machine.user_count, LAST_AT] == machine.clock_ms).astype(np.int32)
    result: InstantCounts = {}
    for slot, key in zip(users.tolist(), machine.user_keys(users).to_pylist(), strict=True):
        parent = machine.program.parents[int(s.user_parent[slot])]
        place = int(s.users[slot, LAST_TR])
        while place >= 0:
            audience = machine.program.audiences[int(s.instant_audience[place])]
            result.setdefault((parent, key, audience), int(s.instant_n[place]))
            place = int(s.instant_previous[place])
    return result


def seed_instant(machine: EvaluatorMachine, counts: InstantCounts) -> None:
    """Tell an otherwise filled machine which transitions were already made at its present instant: these, no others."""
    # Who left at this instant may be in nothing that is retained, and come back within it.
    for parent in machine.program.parents:
        machine.know_keys(parent, sorted({key for of, key, _ in counts if of == parent}))
    room = len(counts) + len(machine.program.audiences) + 1
    s = machine.with_state(with_instant_room(machine.state, room))
    rows = s.users[: machine.user_count]
    rows[rows[:, LAST_AT] == machine.clock_ms, LAST_AT] = NEVER_BEFORE
    s.scalars[S_INSTANT_AT] = machine.clock_ms
    s.scalars[S_INSTANT_LEN] = 0
    index = machine.program.audience_index
    for (parent, key, audience), n in counts.items():
        slot = machine.slot_of(parent, key) if parent in machine.program.parents else -1
        if slot < 0 or audience not in index:
            continue
        place = int(s.scalars[S_INSTANT_LEN])
        s.instant_audience[place] = index[audience]
        s.instant_n[place] = n
        s.instant_previous[place] = s.users[slot, LAST_TR] if s.users[slot, LAST_AT] == machine.clock_ms else -1
        s.users[slot, LAST_AT] = machine.clock_ms
        s.users[slot, LAST_TR] = place
        s.scalars[S_INSTANT_LEN] = place + 1
