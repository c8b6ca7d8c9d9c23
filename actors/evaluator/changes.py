"""When a user's membership changes next if nothing happens: for `?detail=1`, one user at a time."""

from __future__ import annotations

import numpy as np

from actors.evaluator.compacting import moved
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.users import next_flip
from actors.evaluator.layout import NEVER, S_NEED
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.state import with_arena_room

#: Instants looked at. A sum over a window of more events than this may say None for a change that lies behind them.
INSTANTS_MAX = 100_000


def next_change_ms(machine: EvaluatorMachine, audience: str, key: str) -> int | None:
    """Give the exact ms at which the user enters or leaves by time alone, None if never.

    The user alone is moved into a machine's arrays of its own, where time is let run: O(the user's state and due
    times). The machine must have worked off what is due for the user.
    """
    slot = machine.slot_of(machine.parent_of(audience), key)
    if slot < 0:
        return None
    program = machine.program
    alone = moved(program.arrays, machine.state, np.array([slot], np.int32))
    table, index = ProgramTable(program.arrays), program.audience_index[audience]
    while (at := next_flip(table, StateTable(alone), index, machine.clock_ms, INSTANTS_MAX)) < 0:
        alone = with_arena_room(alone, int(alone.scalars[S_NEED]))
    return None if at == NEVER else int(at)
