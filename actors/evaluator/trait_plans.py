"""How a machine takes a snapshot without a stop: look at it step by step, mark who changes, then let it hold at once.

Up to `take_planned` nothing that anybody can see has happened: a user who has no events and no traits is as good as
unknown, and whoever is due for nothing is due for nothing. From then on the users who are marked are behind, each for a
change that was due at one and the same ms: they are brought up to date as in any wave of due changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from actors.evaluator.kernels.trait_rows import arm_marked, mark_gone, mark_rows, unmark
from actors.evaluator.layout import I32, NEVER, S_CLOCK, S_KEY_TOP, S_TRAITS_AT, S_TRAITS_LEFT, S_TRAITS_ON, U64
from actors.evaluator.state import KeyRoom, key_room, with_fresh_rows, with_key_room, with_user_room
from actors.evaluator.steps import MachineSteps
from actors.evaluator.trait_rows import TraitPlan, TraitRows
from cluster.arrays import grows_in_place
from cluster.errors import InternalError

#: Room is made for so many times the users that a snapshot may bring: the next one brings some more.
_ROOM: Final = 1.25


class MachinePlans(MachineSteps):
    """A machine's one plan."""

    def room_for(self, users: int, pause: Callable[[], None]) -> KeyRoom | None:
        """Make what so many users take and is slow to make, if it is not there. On any thread; for `plan_traits`."""
        return key_room(self._state, int(_ROOM * users), pause)

    def plan_traits(self, rows: TraitRows, room: KeyRoom | None = None) -> None:
        """Begin to look at a snapshot that was prepared for this program; in place of one that was not taken yet."""
        self.drop_plan()
        if room is not None:
            self._state = with_key_room(self._state, room)
        self._state = with_fresh_rows(
            self._state, np.ascontiguousarray(rows.words), np.ascontiguousarray(rows.times)
        )
        more = max(0, int(len(rows) * _ROOM) - self.user_count)
        if more and not grows_in_place():
            # At once, while there is little to copy: each growth moves all there is. Users who are known have keys.
            key_bytes = int(_ROOM * (rows.offsets[-1] - rows.offsets[0])) - int(self._state.scalars[S_KEY_TOP])
            self._state = with_user_room(self._state, more, max(0, key_bytes))
        self.plan = TraitPlan(rows, _bits_by_time(rows))

    def drop_plan(self) -> None:
        """Give up a plan that was not taken; one that was is brought to its end."""
        plan = self.plan
        if plan is None:
            return
        if plan.taken:
            message = "A snapshot that holds cannot be given up."
            raise InternalError(message)
        for marked in plan.marked:
            unmark(self._table, marked)
        self._end_plan()

    def look_on(self, users: int) -> bool:
        """Look at about so many further rows or users of the plan; false once all that change are marked."""
        plan = self.plan
        assert plan is not None
        if plan.looked < len(plan.rows):
            self._look_at_rows(plan, users)
            return True
        if plan.gone_looked < self.user_count:
            stop = min(self.user_count, plan.gone_looked + 4 * users)
            self._see(plan)
            marked = np.zeros(stop - plan.gone_looked, np.int32)
            index = self.program.parents.index(plan.rows.parent)
            count = mark_gone(self._table, index, plan.gone_looked, stop, plan.seen, marked)
            plan.gone_looked = stop
            _note(plan, marked, count)
            return True
        return False

    def aim(self, at_ms: int) -> None:
        """Say when the snapshot is to hold: later than any input so far, and than any still to come before `ready`."""
        self._state.scalars[S_TRAITS_AT] = at_ms

    def arm_on(self, users: int) -> bool:
        """Have about so many marked users be due when the snapshot is to hold; false once all are: it is ready."""
        plan = self.plan
        assert plan is not None
        while plan.armed < len(plan.marked) and users > 0:
            arm_marked(self._table, plan.marked[plan.armed])
            users -= len(plan.marked[plan.armed])
            plan.armed += 1
        plan.ready = plan.armed == len(plan.marked)
        return not plan.ready

    @property
    def aimed_ms(self) -> int:
        """When a snapshot that is not taken yet is to hold, NEVER where that is not known or there is none."""
        return NEVER if self.plan is None or self.plan.taken else int(self._state.scalars[S_TRAITS_AT])

    def take_planned(self) -> int:
        """Let the snapshot hold from when it was aimed at, and give that ms; from then on the machine is behind."""
        plan = self.plan
        assert plan is not None
        assert plan.ready
        at_ms = self.aimed_ms
        plan.taken = True
        scalars = self._state.scalars
        scalars[S_TRAITS_ON] = 1
        scalars[S_CLOCK] = max(at_ms, self.clock_ms)
        if not scalars[S_TRAITS_LEFT]:
            self._end_plan()
        return at_ms

    def _look_at_rows(self, plan: TraitPlan, users: int) -> None:
        rows = plan.rows
        index = self.program.parents.index(rows.parent)
        stop = min(len(rows), plan.looked + users)
        offsets = rows.offsets[plan.looked : stop + 1]
        slots, _ = self._encode_keys(np.full(stop - plan.looked, index, np.int32), offsets, rows.data)
        self.know_partitions(self.user_count)
        self._see(plan)
        marked = np.zeros(len(slots), np.int32)
        count = mark_rows(
            self._program_table, self._table, index, slots, plan.looked, plan.by_time, plan.seen, marked
        )
        plan.looked = stop
        _note(plan, marked, count)

    def _see(self, plan: TraitPlan) -> None:
        """Have a byte for each user there is room for."""
        room = len(self._state.users)
        if len(plan.seen) < room:
            seen = np.zeros(max(room, 2 * len(plan.seen)), np.uint8)
            seen[: len(plan.seen)] = plan.seen
            plan.seen = seen


def _note(plan: TraitPlan, marked: I32, count: int) -> None:
    if count:
        plan.marked.append(marked[:count].copy())


def _bits_by_time(rows: TraitRows) -> U64:
    """Give the leaf bits that time decides, by leaf word."""
    program = rows.program
    bits = np.zeros(program.leaf_words, np.uint64)
    for leaf in program.arrays.time_leaf.tolist():
        bits[leaf >> 6] |= np.uint64(1 << (leaf & 63))
    return bits
