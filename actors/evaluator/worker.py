"""The evaluator's worker: takes stimuli in groups, moves the machine, commits once a group, then shows the result.

Synchronous and single-threaded (the shell runs it in a thread of its own). The order of one group is the law of the
house: evaluate, commit entries and transitions in one transaction, publish membership, answer. A commit that fails
is refused to all of the group and the machine is rebuilt from the log, so state and log never part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from actors.evaluator.arrivals import Arrivals
from actors.evaluator.backfill import Backfill, Pace
from actors.evaluator.checkpointing.checkpointer import Checkpointer
from actors.evaluator.difference import difference_by_slots
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.membership_files import MembershipWriter
from actors.evaluator.packing import pack_published
from actors.evaluator.questions import lookup, members_page
from actors.evaluator.recovery import COUNTS, PROGRESS, Progress, counts_of, progress_of, recover
from actors.evaluator.results import BLOCK_ROWS_MAX, Transitions, blocks_of, parts_of
from actors.evaluator.room import Room, storage_full
from actors.evaluator.shadow import Prepared, Shadow
from actors.evaluator.showing import Showing
from actors.evaluator.sizes import Sizes
from actors.evaluator.stimuli import (
    Append,
    Build,
    Finish,
    Handing,
    LookAtTraits,
    Lookup,
    MembersPage,
    PlanTraits,
    Prepare,
    Publish,
    Retire,
    Status,
    Stimulus,
    TakeCheckpoint,
    TakeTraits,
    Tick,
    Work,
)
from actors.evaluator.succession.tenure import Tenure
from actors.evaluator.trait_taking import TakesTraits
from cluster.definitions.model import Published
from cluster.definitions.versions import evaluates_alike
from cluster.errors import Refused
from cluster.limits import RETRY_AFTER_MS
from cluster.log.contract import Log
from cluster.log.records import Entry, EntryKind, TransitionBlock

Reply = dict[str, Any]
_log = logging.getLogger("usher.evaluator")

#: Users of a wave of due times that one group of inputs brings up to date beside its own: about 10 ms.
WAVE_USERS: Final = 8_192
def _not_ready(message: str, retry_after_ms: int = RETRY_AFTER_MS) -> Reply:
    return {"error": "not_ready", "message": message, "retry_after_ms": retry_after_ms}


class EvaluatorWorker(TakesTraits):
    """Owns the machine, the log and the membership files of one evaluator, and the publication on its way."""

    def __init__(
        self,
        log: Log,
        membership_dir: Path,
        partitions: Sequence[int],
        *,
        seed: int,
        now_ms: Callable[[], int],
        pace: Pace | None = None,
        checkpoints: Checkpointer | None = None,
        heir: bool = False,
    ) -> None:
        self.log = log
        self.tenure = Tenure(log, heir=heir)
        self.checkpoints = checkpoints
        self._files = MembershipWriter(membership_dir, salt=seed)
        self._showing = Showing(self._files)
        self._partitions = tuple(partitions)
        self._seed = seed
        self._now_ms = now_ms
        self.pace = pace or Pace()
        self.machine: EvaluatorMachine | None = None
        #: The definitions in force. The machine's own are older where what changed since does not concern it.
        self.published: Published | None = None
        #: The publication that was asked for last, until it is in force.
        self.backfill: Backfill | None = None
        #: When a machine last took another's place.
        self._switched_at_ms = 0
        self._snapshots: dict[str, pa.Table] = {}
        self._snapshot_versions: dict[str, int] = {}
        self._snapshot_paths: dict[str, str] = {}
        self._entries: list[Entry] = []
        self._tables: list[pa.RecordBatch] = []
        #: Further values of the commit at hand.
        self._meta: dict[str, bytes] = {}
        #: Users of a wave that the group at hand may still bring up to date.
        self._wave_left = WAVE_USERS
        self._progress = Progress()
        self.sizes = Sizes()
        #: Hits by outcome since the log began: committed with each group, so that no kill makes them wrong.
        self.counts: dict[str, int] = {}
        self.arrivals = Arrivals()
        self.room = Room(log, checkpoints)
        #: Why what a recovery made of a wave is not committed yet; None where it is: until then nothing goes on.
        self._no_room: Reply | None = None
        #: Committed transitions of the last group, for readers that have caught up.
        self.fresh: list[TransitionBlock] = []
        self.recover()

    # --- recovery ----------------------------------------------------------------------------------

    def recover(self) -> None:
        """Rebuild everything from the log, and from the newest checkpoint that can go on in it.

        An heir's machine is not made before it is asked for: there is more to come.
        """
        self._meta = {}
        self.tenure.read()
        if self.tenure.heir and self.machine is None:
            self._entries, self._tables = [], []
            return
        self._rebuild()

    def _rebuild(self) -> None:
        checkpoints = self.checkpoints
        store = checkpoints.store if checkpoints is not None else None
        recovered = recover(self.log, self._partitions, seed=self._seed, checkpoints=store)
        if checkpoints is not None:
            checkpoints.recovered(recovered.origin)
        self.machine, self.published = recovered.machine, recovered.published
        self.room.limit(self.published)
        replaced = recovered.published is not None and recovered.published.version > 1
        self._switched_at_ms = recovered.published_at_ms if replaced else 0
        self._snapshot_versions, self._snapshots = recovered.snapshot_versions, recovered.snapshots
        self._snapshot_paths = recovered.snapshot_paths
        self._entries, self._tables = [], []
        self.counts, self.sizes = counts_of(self.log), recovered.sizes
        if self.machine is not None:
            self.machine.compact()
        self._showing.moved()
        self._progress = progress_of(self.log)
        if self.machine is not None and recovered.missing.num_rows:
            # A wave was under way: what it had left is made now, under the ids that it would have had.
            self._log("tick", self.machine.clock_ms, b"")
            self._tables += [
                recovered.missing.slice(start, BLOCK_ROWS_MAX)
                for start in range(0, recovered.missing.num_rows, BLOCK_ROWS_MAX)
            ]
        self._commit_recovered()

    def _commit_recovered(self) -> None:
        """Commit what a recovery made, and show it; a log that has no room for it is asked again before all else."""
        try:
            self._commit()
        except Refused as refused:
            self.room.refused, self._no_room = True, storage_full(refused)
            return
        self._no_room = None
        self._show()

    @property
    def behind(self) -> bool:
        """Whether changes are due that are not made yet: more ticks are wanted, at once."""
        return self.machine is not None and self.machine.behind and not self._at_rest

    @property
    def version(self) -> int:
        """The definitions version in force, 0 before the first."""
        return self.published.version if self.published is not None else 0

    # --- a group -------------------------------------------------------------------------------------

    def process(self, group: Sequence[Stimulus]) -> list[Reply]:
        """Do a group of stimuli in order, one commit for all between two publications; give one reply each."""
        self.fresh = []
        self._wave_left = WAVE_USERS
        with self.pace.at_work():
            return [reply for part in _parts(group) for reply in self._process_part(part)]

    def _process_part(self, part: Sequence[Stimulus]) -> list[Reply]:
        """Evaluate, commit, show.

        A refusal of the log (no room, taken over) refuses the whole part and leaves nothing of it behind.
        """
        full = self.room.refusal(part)
        if self._no_room is not None and full is None:
            self._commit_recovered()
        if self._no_room is not None:
            return [self._status() if isinstance(stimulus, Status) else self._no_room for stimulus in part]
        try:
            replies = [
                full if full and self.room.concerns(stimulus, due=self._is_due()) else self._handle(stimulus)
                for stimulus in part
            ]
            self._commit()
        except Refused as refused:
            self.room.refused = True
            self.recover()
            return [storage_full(refused) for _ in part]
        # Not while another machine's slots are being brought together with these.
        preparing = self.backfill is not None and not self.backfill.ended
        if self.machine is not None and not preparing and self.machine.compact():
            self._showing.moved()
        self._show()
        return replies

    def _commit(self) -> None:
        if self._entries or self._tables or self._meta:
            blocks = blocks_of(self._tables, self.log.last_transition_seq() + 1)
            clock_ms = self._entries[-1].clock_ms if self._entries else self.log.last_clock_ms() or 0
            progress = self._progress_at(clock_ms)
            noted = {COUNTS: msgspec.json.encode(self.counts), PROGRESS: msgspec.json.encode(progress)}
            meta, self._meta = {**noted, **self._meta}, {}
            self.log.commit(self._entries, blocks, meta)
            self.room.refused = False
            if self.checkpoints is not None:
                events, size_bytes = sum(e.row_count for e in self._entries), sum(len(e.payload) for e in self._entries)
                self.checkpoints.plan.logged(len(self._entries), events, size_bytes)
            self.fresh += blocks
            self._progress = progress
            self._entries, self._tables = [], []

    def _progress_at(self, clock_ms: int) -> Progress:
        """Give what the commit at hand notes of how far the transitions are."""
        before, seq = self._progress, self.log.last_transition_seq()
        clock_seq = before.clock_seq if before.clock_ms == clock_ms else seq
        if self.machine is None or not self.machine.behind:
            return Progress(clock_ms, clock_ms, seq, clock_seq)
        was_behind = before.settled_ms < before.clock_ms
        return Progress(clock_ms, self.machine.settled_ms, before.settled_seq if was_behind else seq, clock_seq)

    def _is_due(self) -> bool:
        due_ms = self.next_due_ms()
        return self.behind or (due_ms is not None and due_ms <= self._clock())

    def _show(self) -> None:
        if self.machine is not None:
            self._showing.show(self.machine, self.version)

    def _handle(self, stimulus: Stimulus) -> Reply:
        if isinstance(stimulus, Work):
            refusal = self.tenure.refusal(self._now_ms())
            if refusal is not None:
                return refusal
        elif isinstance(stimulus, Handing):
            return self._hand(stimulus)
        match stimulus:
            case Append():
                return self._append(stimulus)
            case Tick():
                self._tick()
                return {}
            case TakeTraits() | LookAtTraits() | PlanTraits():
                return self._about_traits(stimulus)
            case Prepare():
                return self._prepare(stimulus.published)
            case Publish():
                return self._publish(stimulus.published)
            case Lookup():
                return self._lookup(stimulus)
            case MembersPage():
                return self._members_page(stimulus)
            case Status():
                return self._status()
            case TakeCheckpoint():
                return self._take_checkpoint()

    # --- what moves the machine ------------------------------------------------------------------------

    def _clock(self) -> int:
        """Stamp an input: now, but never before the evaluator's clock, nor at a switch between two machines.

        Whoever a switch made leave may be unknown to the new machine, and with them how many transitions they had then.
        """
        clock = max(self._now_ms(), self._reached(), self._switched_at_ms + 1)
        self._take_planned(clock)
        return clock

    def _log(self, kind: EntryKind, clock_ms: int, payload: bytes, rows: int = 0, subject: str = "") -> None:
        seq = self.log.last_seq() + len(self._entries) + 1
        self._entries.append(Entry(seq, clock_ms, kind, self.version, rows, payload, subject))

    def _append(self, batch: Append) -> Reply:
        if batch.version != self.version:
            return {
                "error": "stale",
                "message": f"decoded under definitions {batch.version}, {self.version} are in force",
                "current_version": self.version,
                "retry_after_ms": 0,
            }
        clock = self._clock()
        self._log("batch", clock, batch.envelope, batch.rows, subject=batch.partitions)
        if self.machine is None or not batch.hits:
            self._pass(clock, self._wave_left)
            return {"clock_ms": clock, "outcomes": b""}
        with pa.ipc.open_stream(batch.hits) as reader:
            hits = reader.read_next_batch()
        result = self.machine.handle_batch(hits, clock, wave_users=self._wave_left)
        self._wave_worked(self.machine)
        self._emit(self.machine, result.transitions)
        self.counts["accepted"] += int((result.outcomes == 0).sum())
        self.counts["duplicates"] += int((result.outcomes == 1).sum())
        self.counts["too_late"] += int((result.outcomes == 2).sum())
        assert self.published is not None, "the machine has its definitions"
        self.arrivals.take(self.published, hits, result.outcomes)
        return {"clock_ms": clock, "outcomes": result.outcomes.tobytes()}

    def _emit(self, machine: EvaluatorMachine, transitions: Transitions) -> None:
        if len(transitions):
            self.sizes.add(transitions)
            self._tables += [machine.transitions_table(part) for part in parts_of(transitions, BLOCK_ROWS_MAX)]

    def _wave_worked(self, machine: EvaluatorMachine) -> None:
        self._wave_left = max(1, self._wave_left - machine.wave_work)

    def _tick(self) -> None:
        """Work off what is due, a slice of it where it is a wave.

        A tick that changes nobody's membership is no entry: the log says it all without.
        """
        if self.machine is None or self._at_rest:
            return
        clock = self._clock()
        self._changed_by_time(self.machine, clock, self.machine.tick(clock, self._wave_left))
        self._wave_worked(self.machine)

    def _changed_by_time(self, machine: EvaluatorMachine, clock: int, transitions: Transitions) -> None:
        if len(transitions):
            self._log("tick", clock, b"")
            self._emit(machine, transitions)

    # --- publications ----------------------------------------------------------------------------------

    def _prepare(self, published: Published) -> Reply:
        """Begin a backfill, in place of any older one; the shell has it built and kept up on a thread of its own."""
        if published.version <= self.version:
            return {"version": published.version}
        before, self.backfill = self.backfill, None
        if before is not None and not before.ended:
            if before.published.version >= published.version:
                self.backfill = before
                return {"version": before.published.version}
            before.cancel(f"version {published.version} took the place of version {before.published.version}")
        if self._is_alike(published):
            return {"version": published.version}
        self.backfill = Backfill(
            published,
            self.log,
            lambda: Shadow(published, self.log, self._files, self._partitions, seed=self._seed),
            self._snapshots,
            self.pace,
        )
        return {"version": published.version}

    def _is_alike(self, published: Published) -> bool:
        """Whether the machine in force is the right one for these definitions too: then nothing is to be built."""
        return self.published is not None and evaluates_alike(self.published, published)

    def _publish(self, published: Published) -> Reply:
        """Switch: what was due under the old definitions, then the difference, in one entry with the new ones."""
        if published.version <= self.version:
            return {"clock_ms": self._clock(), "seq": self.log.last_seq()}
        clock = self._clock()
        if self.behind:
            return _not_ready("a wave of due changes goes first", 200)
        if not self._is_alike(published):
            backfill = self.backfill
            if backfill is None or not backfill.ready or backfill.published.version != published.version:
                return _not_ready(f"version {published.version} is not prepared")
            self.backfill = None
            prepared = backfill.finish(clock)
            if prepared is None:
                return _not_ready(f"the backfill of version {published.version} failed: {backfill.ended}")
            self._switch(prepared, clock)
        else:
            self._pass(clock, None)
        self.published = published
        self.room.limit(published)
        self._log("definitions", clock, pack_published(published))
        return {"clock_ms": clock, "seq": self.log.last_seq() + len(self._entries)}

    def _switch(self, prepared: Prepared, clock: int) -> None:
        old, fresh = self.machine, prepared.machine
        if old is not None:
            self._emit(old, old.tick(clock))
            self._switched_at_ms = clock
        change = difference_by_slots(old, fresh, prepared.slots)
        self._tables += change.tables
        self.sizes.change(fresh, change.ended, change.gains)
        self.machine = fresh
        self._showing.switch(prepared)
        if self.checkpoints is not None and old is not None:
            # Those before are of a machine that nobody goes on with.
            self.checkpoints.plan.ask()

    # --- checkpoints -----------------------------------------------------------------------------------

    def _take_checkpoint(self) -> Reply:
        """Copy the state; all before is committed. Not while a wave is worked off: then it is no state at an entry."""
        machine, published = self.machine, self.published
        if self.tenure.heir or self.checkpoints is None or machine is None or not self.log.last_seq():
            return _not_ready("nothing to checkpoint yet")
        if published is None:
            return _not_ready("nothing to checkpoint yet")
        if not machine.at_rest:
            return _not_ready("a wave of due changes goes first", 200)
        if self.checkpoints.outgrown(machine):
            return {"error": "outgrown", "message": "more memory is to be made for the copy", "retry_after_ms": 0}
        return {"taken": self.checkpoints.take(machine, published, self.sizes.all(), self._now_ms())}

    # --- questions -------------------------------------------------------------------------------------

    def _lookup(self, question: Lookup) -> Reply:
        if self.tenure.heir:
            return self.tenure.refusal(self._now_ms()) or {}
        self._tick()
        machine = self.machine
        if machine is None:
            return _not_ready("no definitions yet", 200)
        unknown = [a for a in question.audiences if a not in machine.program.audience_index]
        if unknown:
            return {"error": "stale", "message": f"unknown audiences {unknown}", "current_version": self.version,
                    "retry_after_ms": 50}
        if machine.behind and not self._at_rest:
            # Others may wait; those asked for are brought up to date: an answer is right to the ms.
            clock = machine.clock_ms
            self._changed_by_time(machine, clock, machine.settle_users(question.parent, question.users, clock))
        uncommitted = sum(table.num_rows for table in self._tables)
        return lookup(machine, question, self.log.last_transition_seq() + uncommitted)

    def _members_page(self, question: MembersPage) -> Reply:
        self._tick()
        machine = self.machine
        if machine is None or question.audience not in machine.program.audience_index:
            return {"members": [], "cursor": None, "as_of": self._clock()}
        return members_page(machine, question)

    def _status(self) -> Reply:
        machine = self.machine
        versions = {}
        if machine is not None:
            program = machine.program
            versions = dict(zip(program.audiences, program.audience_versions, strict=True))
        return {
            "clock_ms": machine.clock_ms if machine is not None else 0,
            "settled_ms": machine.settled_ms if machine is not None else 0,
            "state": self._state(),
            "live_from_seq": self._live_from_seq(),
            "version": self.version,
            "backfill": self._backfill_status(),
            "partitions": len(self._partitions),
            "events": dict(self.counts),
            "arrivals": self.arrivals.shown(self.published.definitions if self.published is not None else None),
            "audiences": {a: {"size": self.sizes.of(a), "version": v} for a, v in versions.items()},
            "users": machine.counters()["alive"] if machine is not None else 0,
            "counters": machine.counters() if machine is not None else {},
            "dedup_horizon_ms": machine.dedup_horizon_ms() if machine is not None else 0,
            "traits": dict(self._snapshot_versions),
            "log_bytes": self.log.size_bytes(),
            "history_from_ms": self.log.first_clock_ms(),
            "seq": self.log.last_transition_seq(),
            "checkpoints": self.checkpoints.status() if self.checkpoints is not None else None,
        }

    def _backfill_status(self) -> Reply | None:
        backfill = self.backfill
        if backfill is None or backfill.ended:
            return None
        return {"version": backfill.published.version, "percent": backfill.percent(), "ready": backfill.ready}


def _parts(group: Sequence[Stimulus]) -> Iterator[Sequence[Stimulus]]:
    """Cut a group at publications and checkpoints: what is before one must be in the log."""
    start = 0
    for place, stimulus in enumerate(group):
        if isinstance(stimulus, Prepare | Publish | TakeCheckpoint | Retire | Build | Finish):
            if place > start:
                yield group[start:place]
            yield group[place : place + 1]
            start = place + 1
    if start < len(group):
        yield group[start:]
