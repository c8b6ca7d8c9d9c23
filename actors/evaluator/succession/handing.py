"""What a worker does when users are handed over: as one that has them, and as one that gets them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
import pyarrow as pa

from actors.evaluator.layout import NEVER
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import Transitions
from actors.evaluator.room import Room
from actors.evaluator.sizes import Sizes
from actors.evaluator.stimuli import Bound, Build, Finish, Handing, Hold, Inherit, Release, Retire
from actors.evaluator.succession.following import take_silently
from actors.evaluator.succession.tenure import (
    INHERITED,
    KEPT,
    MOVED_RETRY_MS,
    POSITIONS,
    RETIRED,
    Inherited,
    Kept,
    Tenure,
    inherited_of,
)
from cluster.definitions.model import Published
from cluster.log.contract import Log
from cluster.log.records import Entry, EntryKind

Reply = dict[str, Any]

#: How far a bound that is given may be behind the clock.
BOUND_EVERY_MS: Final = 200


def _not_ready(message: str) -> Reply:
    return {"error": "not_ready", "message": message, "retry_after_ms": MOVED_RETRY_MS}


class HandsOver:
    """A part of `EvaluatorWorker`: everything here happens within one of its groups, and is committed with it."""

    log: Log
    tenure: Tenure
    machine: EvaluatorMachine | None
    published: Published | None
    room: Room
    sizes: Sizes
    counts: dict[str, int]
    _partitions: tuple[int, ...]
    _now_ms: Callable[[], int]
    _entries: list[Entry]
    _tables: list[pa.RecordBatch]
    _meta: dict[str, bytes]
    _snapshots: dict[str, pa.Table]
    _snapshot_versions: dict[str, int]
    _wave_left: int
    _snapshot_paths: dict[str, str]

    @property
    @abstractmethod
    def version(self) -> int:
        """The definitions version in force."""

    @abstractmethod
    def _clock(self) -> int: ...

    @abstractmethod
    def _rebuild(self) -> None: ...

    @abstractmethod
    def _log(self, kind: EntryKind, clock_ms: int, payload: bytes, rows: int = 0, subject: str = "") -> None: ...

    @abstractmethod
    def _wave_worked(self, machine: EvaluatorMachine) -> None: ...

    @abstractmethod
    def _emit(self, machine: EvaluatorMachine, transitions: Transitions) -> None: ...

    def _state(self) -> str:
        if self.tenure.heir:
            return "taking over"
        if self.tenure.retired_ms:
            return "retired"
        return "live" if self.machine is not None else "empty"

    def _live_from_seq(self) -> int:
        """Give the last transition that other evaluators made, 0 where there is none."""
        inherited = inherited_of(self.log)
        return inherited.through_seq if inherited is not None else 0

    def next_due_ms(self) -> int | None:
        """Give when a tick is wanted next, None if nothing is armed."""
        now = self._now_ms()
        if self.machine is None or self.tenure.at_rest(now):
            return self.tenure.held_until_ms(now) or None
        due = self.machine.next_due_ms()
        return None if due >= NEVER else due

    @property
    def _at_rest(self) -> bool:
        return self.tenure.at_rest(self._now_ms())

    def _reached(self) -> int:
        """Give the clock that no later input may be below."""
        logged = self._entries[-1].clock_ms if self._entries else self.log.last_clock_ms() or 0
        return max(logged, self.machine.clock_ms if self.machine is not None else 0)

    def _pass(self, clock_ms: int, users_max: int | None) -> None:
        """Make what is due with an entry that moves nobody: a recovery takes all up to an entry's clock for made."""
        if self.machine is not None:
            self._emit(self.machine, self.machine.tick(clock_ms, users_max))
            self._wave_worked(self.machine)

    def _hand(self, stimulus: Handing) -> Reply:
        match stimulus:
            case Bound():
                return {"clock_ms": self._bound()}
            case Hold():
                return self._hold(stimulus.kept)
            case Release():
                self.tenure.release()
                return {}
            case Retire():
                return self._retire(stimulus)
            case Inherit():
                return self._inherit(stimulus)
            case Build():
                return self._build(stimulus.version)
            case Finish():
                return self._finish(stimulus)

    def _hold(self, kept: Kept) -> Reply:
        """Let nothing move, and take no snapshot but those kept; an attempt that was overtaken is refused."""
        tenure = self.tenure
        if kept.attempt < tenure.kept.attempt:
            return _not_ready("it was held for a later attempt since")
        if kept.attempt > tenure.kept.attempt:
            self._meta[KEPT] = msgspec.json.encode(kept)
            tenure.kept = kept
            self._drop_unwanted_plan()
        tenure.hold(self._now_ms())
        return {
            "clock_ms": self._clock(), "seq": self._last_entry(), "version": self.version,
            "traits": dict(self._snapshot_versions),
        }  # fmt: skip

    def _drop_unwanted_plan(self) -> None:
        machine = self.machine
        plan = machine.plan if machine is not None else None
        if machine is None or plan is None or plan.taken:
            return
        if not self.tenure.may_take(plan.rows.parent, plan.rows.version):
            machine.drop_plan()

    def _bound(self) -> int:
        """Give the clock of the newest entry: nothing is logged below it any more, whatever becomes of this process.

        A clock that no entry has may be forgotten in a crash, and the machine's be set back. Where the newest entry is
        some time ago, another is made: what others logged since waits for it.
        """
        logged = self._entries[-1].clock_ms if self._entries else self.log.last_clock_ms() or 0
        clock_ms = self._clock()
        if clock_ms < logged + BOUND_EVERY_MS or self._at_rest or self.machine is None or self.room.refused:
            return logged
        self._log("tick", clock_ms, b"")
        self._pass(clock_ms, self._wave_left)
        return clock_ms

    def _last_entry(self) -> int:
        return self.log.last_seq() + len(self._entries)

    def _retire(self, asked: Retire) -> Reply:
        """Make the last changes, at a clock that all evaluators end at. A later one asks to go on to there.

        Each is an entry, so that none is taken twice, nor one that was overtaken by another hold.
        """
        tenure, machine, clock_ms = self.tenure, self.machine, asked.clock_ms
        if tenure.heir or machine is None:
            return _not_ready("it has no users to hand over yet")
        if not tenure.at_rest(self._now_ms()) or clock_ms < self._reached():
            return _not_ready("it is not held, or was held later than that clock")
        if asked.seq != self._last_entry():
            return _not_ready("it has gone on since it was held")
        self._log("tick", clock_ms, b"")
        self._emit(machine, machine.tick(clock_ms))
        self._meta[RETIRED] = str(clock_ms).encode()
        tenure.retired_ms = clock_ms
        made = sum(table.num_rows for table in self._tables)
        return {
            "seq": self._last_entry(),
            "transition_seq": self.log.last_transition_seq() + made,
            "counts": dict(self.counts),
        }

    def _inherit(self, chunk: Inherit) -> Reply:
        """Log what others logged, and move a machine that is there by it; its transitions were made by others."""
        if not self.tenure.heir:
            return _not_ready("it is no heir, or not any more")
        first = self.log.last_seq() + len(self._entries) + 1
        entries = [replace(entry, seq=first + place) for place, entry in enumerate(chunk.entries)]
        self._entries += entries
        self._tables += chunk.transitions
        self._meta[POSITIONS] = msgspec.json.encode(chunk.positions)
        if self.machine is not None and self.published is not None:
            for taken in take_silently(self.machine, self.published, self._partitions, entries):
                self._snapshot_versions[taken.parent], self._snapshots[taken.parent] = taken.version, taken.table
                self._snapshot_paths[taken.parent] = taken.path
        return {}

    def _build(self, version: int) -> Reply:
        """Make an heir's machine from what it has; not before the definitions that it shall have."""
        defined = self.log.newest("definitions")
        if self.tenure.heir and self.machine is None and defined and defined[-1].definitions_version >= version:
            self._rebuild()
        return {"built": self.machine is not None}

    def _finish(self, asked: Finish) -> Reply:
        """Begin to work: what is due up to the clock was made by others, all later is made here."""
        machine, clock_ms = self.machine, asked.clock_ms
        inherited = inherited_of(self.log)
        if inherited is not None:
            return {"clock_ms": inherited.clock_ms, "seq": inherited.through_seq}
        if machine is None or not self.tenure.heir:
            return _not_ready("it is no heir, or its machine is not made")
        machine.tick(clock_ms)
        self.sizes.count(machine)
        self.counts = {**self.counts, **asked.counts}
        through_seq = self.log.last_transition_seq() + sum(table.num_rows for table in self._tables)
        self._meta[INHERITED] = msgspec.json.encode(Inherited(clock_ms, through_seq))
        # One ms on: from here the numbering at an instant is this evaluator's alone.
        self._log("tick", clock_ms + 1, b"")
        self._emit(machine, machine.tick(clock_ms + 1))
        self.tenure.heir = False
        self.room.limit(self.published)
        return {"clock_ms": clock_ms, "seq": through_seq}
