"""What a worker does with trait snapshots: a small one at once, a large one by a plan, step by step between its events.

Either way a snapshot is one entry of the log and one instant. A plan is nothing that anybody sees until its entry, and
after it a wave of changes due at the entry's clock: what a crash, a checkpoint, a publication or a look-up does in
the middle of one is what it does in the middle of any wave.
"""

from __future__ import annotations

from typing import Any, Final

from actors.evaluator.backfill import Pace
from actors.evaluator.entries import own_rows, read_snapshot_file
from actors.evaluator.layout import NEVER
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.packing import pack_traits
from actors.evaluator.showing import Showing
from actors.evaluator.stimuli import AboutTraits, GoOnWithTraits, LookAtTraits, PlanTraits, TakeTraits
from actors.evaluator.succession.handing import HandsOver
from actors.evaluator.trait_rows import TraitPlan, TraitRows, UserRoom
from cluster.errors import DataDirError, StorageFull
from cluster.limits import RETRY_AFTER_MS

Reply = dict[str, Any]

#: Users of a plan that a step looks at: some ms. So many times as many are made due in one.
STEP_USERS: Final = 4_096
ARMED_TIMES: Final = 4
#: How long a step takes at most, with what comes between two of them: when a plan is aimed at is an estimate.
_STEP_MS: Final = 20
#: Steps after which that is known better, and how much longer than by then all of them may take.
_TRIAL_STEPS: Final = 8
_SPARE: Final = 1.5
#: When to ask again whoever is refused because of a wave.
_WAVE_WAIT_MS: Final = 20


def _not_ready(message: str, retry_after_ms: int = RETRY_AFTER_MS) -> Reply:
    return {"error": "not_ready", "message": message, "retry_after_ms": retry_after_ms}


class TakesTraits(HandsOver):
    """A part of `EvaluatorWorker`: everything here happens within one of its groups, and is committed with it."""

    _showing: Showing
    pace: Pace

    def make_room(self, users: int) -> UserRoom:
        """Make what so many users take and is not there. From any thread; for `PlanTraits`."""
        machine, pause = self.machine, self.pace.pause
        if machine is None:
            return UserRoom()
        try:
            files = self._showing.larger_files(users, machine.membership_width, pause)
        except StorageFull:
            files = None  # as when they grow while users come: readers ask until there is room
        return UserRoom(files, machine.room_for(users, pause))

    def _about_traits(self, stimulus: AboutTraits) -> Reply:
        machine, parent = self.machine, stimulus.parent
        clock = self._clock()
        if machine is None or parent not in machine.program.parents:
            return _not_ready("no such parent model yet", 200)
        plan = machine.plan
        if self._snapshot_versions.get(parent, 0) >= stimulus.version:
            given = plan is None or not plan.taken or plan.rows.parent != parent
            return {"clock_ms": clock} if given else {"wait_ms": _WAVE_WAIT_MS}
        if not self.tenure.may_take(parent, stimulus.version):
            return _not_ready("its users move to other evaluators, with the snapshots that there are")
        if isinstance(stimulus, GoOnWithTraits):
            return self._go_on(machine, stimulus.rows, clock)
        if machine.behind:
            return {**_not_ready("a wave of due changes goes first", _WAVE_WAIT_MS), "again": True}
        match stimulus:
            case TakeTraits():
                return self._take_whole(machine, stimulus, clock)
            case LookAtTraits():
                return {"program": machine.program, "users": machine.user_count}
            case PlanTraits():
                room = stimulus.room or UserRoom()
                if stimulus.rows.program is not machine.program:
                    self._showing.discard(room.files)
                    return _stale()
                machine.plan_traits(stimulus.rows, room.keys)
                self._showing.move_to(room.files)
                return {"planned": True}

    def _take_whole(self, machine: EvaluatorMachine, snapshot: TakeTraits, clock: int) -> Reply:
        count = machine.program.published.definitions.settings.partitions
        try:
            whole = snapshot.table if snapshot.table is not None else read_snapshot_file(snapshot.path)
        except DataDirError as error:
            return _not_ready(str(error))
        table = own_rows(whole, self._partitions, count)
        self._note_snapshot(snapshot.parent, snapshot.version, snapshot.path, clock)
        self._emit(machine, machine.apply_traits(snapshot.parent, table, clock))
        self._snapshots[snapshot.parent] = table
        return {"clock_ms": clock}

    def _note_snapshot(self, parent: str, version: int, path: str, clock: int) -> None:
        """Log that a snapshot holds, and which one held before: a recovery in the middle of the wave begins there."""
        before = None
        if parent in self._snapshot_paths:
            before = (self._snapshot_versions[parent], self._snapshot_paths[parent])
        self._log("traits", clock, pack_traits(parent, version, path, before), subject=parent)
        self._snapshot_versions[parent], self._snapshot_paths[parent] = version, path

    # --- by a plan -----------------------------------------------------------------------------------

    def _go_on(self, machine: EvaluatorMachine, rows: TraitRows, clock: int) -> Reply:
        """Do a step of a plan; the reply says in how many ms the next one is wanted."""
        plan = machine.plan
        if plan is None or plan.rows is not rows:
            return _stale()
        if machine.look_on(STEP_USERS):
            return {"wait_ms": 0}
        if machine.aimed_ms == NEVER:
            machine.aim(clock + 1 + plan.changed // _arm_users() * _STEP_MS)
            plan.aimed_from_ms, plan.aimed_anew = clock, False
        elif not plan.aimed_anew and plan.armed_users >= _TRIAL_STEPS * _arm_users():
            self._aim_anew(machine, plan, clock)
        if machine.arm_on(_arm_users()):
            return {"wait_ms": 0}
        return {"wait_ms": max(1, machine.aimed_ms - clock)}

    def _aim_anew(self, machine: EvaluatorMachine, plan: TraitPlan, clock: int) -> None:
        """Aim nearer if the first steps took less time than they might have; what they made due is made so again."""
        plan.aimed_anew = True
        step_ms = _SPARE * (clock - plan.aimed_from_ms) / _TRIAL_STEPS
        at_ms = clock + 1 + round(step_ms * (1 + plan.changed // _arm_users()))
        if at_ms < machine.aimed_ms:
            machine.aim(at_ms)
            plan.armed = 0

    def _take_planned(self, clock: int) -> None:
        """Before anything happens at `clock`: let the snapshot that was aimed at an earlier one hold from there."""
        machine = self.machine
        if machine is None or machine.aimed_ms > clock or self._at_rest:
            return
        plan = machine.plan
        assert plan is not None
        if not plan.ready:
            left = plan.changed - plan.armed_users
            machine.aim(clock + 1 + 2 * _STEP_MS * (1 + left // _arm_users()))
            return
        rows = plan.rows
        self._note_snapshot(rows.parent, rows.version, rows.path, machine.take_planned())
        self._snapshots[rows.parent] = rows.table


def _arm_users() -> int:
    return STEP_USERS * ARMED_TIMES


def _stale() -> Reply:
    message = "What the traits were prepared for is not in force any more."
    return {"error": "stale", "message": message, "retry_after_ms": 0}
