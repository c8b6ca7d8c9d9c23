"""When a user's membership changes next if nothing happens: for `?detail=1`, plain and exact, one user at a time."""

from __future__ import annotations

from actors.evaluator.compiling import run_code
from actors.evaluator.kernels.rings import ring_nth
from actors.evaluator.layout import ALIVE, FIRST_WORD, FLAGS, IN_SNAPSHOT, LAST_TS
from actors.evaluator.machine import EvaluatorMachine


def next_change_ms(machine: EvaluatorMachine, audience: str, key: str) -> int | None:
    """Give the exact ms at which the user enters or leaves by time alone, None if never.

    O(leaves of the audience squared); the machine must have worked off what is due.
    """
    program, state, arrays = machine.program, machine.state, machine.program.arrays
    index = program.audience_index[audience]
    slot = machine.slot_of(machine.parent_of(audience), key)
    if slot < 0 or not state.users[slot, FLAGS] & ALIVE:
        return None
    code = arrays.code[arrays.audience_code[index] : arrays.audience_code[index + 1]].tolist()
    truth = [
        bool(int(state.words[slot, FIRST_WORD + (leaf >> 6)]) >> (leaf & 63) & 1)
        for leaf in range(program.leaf_words * 64)
    ]
    now = run_code(code, truth)
    gone = None
    if not state.users[slot, FLAGS] & IN_SNAPSHOT:
        gone = int(state.users[slot, LAST_TS] + arrays.parent_retention[state.user_parent[slot]])
    until = {leaf: _lapses_at(machine, slot, leaf) for leaf in code if leaf >= 0 and truth[leaf]}
    for at in sorted({time for time in until.values() if time is not None}):
        if gone is not None and at >= gone:
            break
        for leaf, time in until.items():
            if time is not None and time <= at:
                truth[leaf] = False
        if run_code(code, truth) != now:
            return at
    return gone if now else None


def _lapses_at(machine: EvaluatorMachine, slot: int, leaf: int) -> int | None:
    """Give when a true leaf becomes false by time alone; None: a trait leaf never does."""
    state, arrays = machine.state, machine.program.arrays
    if leaf >= len(arrays.leaf_n):
        return None
    ring = next(r for r in range(len(arrays.ring_offset)) if arrays.ring_leaves[r + 1] > leaf)
    model = machine.program.rings[ring].model
    block = int(state.users[slot, int(arrays.shape[4]) + model])
    at = block + int(arrays.ring_offset[ring])
    nth = ring_nth(state.arena, at, int(arrays.ring_capacity[ring]), int(arrays.leaf_n[leaf]))
    return int(nth + arrays.leaf_duration[leaf])
