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
import numpy as np
import pyarrow as pa

from actors.evaluator.changes import next_change_ms
from actors.evaluator.layout import NEVER
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.membership_files import MembershipWriter
from actors.evaluator.recovery import (
    own_rows,
    pack_published,
    pack_traits,
    read_snapshot_file,
    recover,
    retained_hits,
)
from actors.evaluator.results import BLOCK_ROWS_MAX, Transitions, blocks_of, parts_of
from actors.evaluator.sizes import Sizes
from actors.evaluator.stimuli import (
    Append,
    Lookup,
    MembersPage,
    Publish,
    Status,
    Stimulus,
    TakeTraits,
    Tick,
)
from cluster.errors import DataDirError, Refused, StorageFull
from cluster.limits import RETRY_AFTER_MS
from cluster.log.contract import Log
from cluster.log.records import Entry, EntryKind, TransitionBlock

Reply = dict[str, Any]
_log = logging.getLogger("usher.evaluator")

#: The log's key of the counts.
_COUNTS: Final = "counts"
_NO_COUNTS: Final = {"accepted": 0, "duplicates": 0, "too_late": 0}


def _storage_full(refused: Refused) -> Reply:
    return {"error": "storage_full", "message": str(refused), "retry_after_ms": refused.retry_after_ms}


class EvaluatorWorker:
    """Owns the machine, the log and the membership files of one evaluator."""

    def __init__(
        self, log: Log, membership_dir: Path, partitions: Sequence[int], *, seed: int, now_ms: Callable[[], int]
    ) -> None:
        self.log = log
        self._writer = MembershipWriter(membership_dir)
        self._partitions = tuple(partitions)
        self._seed = seed
        self._now_ms = now_ms
        self.machine: EvaluatorMachine | None = None
        self._snapshots: dict[str, pa.Table] = {}
        self._snapshot_versions: dict[str, int] = {}
        self._entries: list[Entry] = []
        self._tables: list[pa.RecordBatch] = []
        #: True when the group made a new machine: membership is published whole.
        self._renewed = False
        self.sizes = Sizes()
        #: Hits by outcome since the log began: committed with each group, so that no kill makes them wrong.
        self.counts: dict[str, int] = {}
        #: Committed transitions of the last group, for readers that have caught up.
        self.fresh: list[TransitionBlock] = []
        self.recover()

    # --- recovery ----------------------------------------------------------------------------------

    def recover(self) -> None:
        """Rebuild everything from the log."""
        self.machine, self._snapshot_versions, self._snapshots = recover(
            self.log, self._partitions, seed=self._seed
        )
        self._entries, self._tables, self._renewed = [], [], False
        self.counts = {**_NO_COUNTS, **msgspec.json.decode(self.log.meta(_COUNTS) or b"{}", type=dict[str, int])}
        self.sizes = Sizes()
        if self.machine is not None:
            self.sizes.count(self.machine)
            self.machine.compact()
            self._renewed = True
            self._show()

    @property
    def version(self) -> int:
        """The definitions version in force, 0 before the first."""
        return self.machine.program.published.version if self.machine is not None else 0

    def next_due_ms(self) -> int | None:
        """Give when a tick is wanted next, None if nothing is armed."""
        if self.machine is None:
            return None
        due = self.machine.next_due_ms()
        return None if due >= NEVER else due

    # --- a group -------------------------------------------------------------------------------------

    def process(self, group: Sequence[Stimulus]) -> list[Reply]:
        """Do a group of stimuli in order, one commit for all between two publications; give one reply each."""
        self.fresh = []
        return [reply for part in _parts(group) for reply in self._process_part(part)]

    def _process_part(self, part: Sequence[Stimulus]) -> list[Reply]:
        """Evaluate, commit, show.

        A refusal of the log (no room, taken over) refuses the whole part and leaves nothing of it behind.
        """
        full = self._full_for(part)
        try:
            replies = [full if full and isinstance(stimulus, Append) else self._handle(stimulus) for stimulus in part]
            self._commit()
        except Refused as refused:
            self.recover()
            return [_storage_full(refused) for _ in part]
        if self.machine is not None and self.machine.compact():
            self._renewed = True
        self._show()
        return replies

    def _commit(self) -> None:
        if self._entries:
            blocks = blocks_of(self._tables, self.log.last_transition_seq() + 1)
            self.log.commit(self._entries, blocks, {_COUNTS: msgspec.json.encode(self.counts)})
            self.fresh += blocks
            self._entries, self._tables = [], []

    def _full_for(self, group: Sequence[Stimulus]) -> Reply | None:
        """Refuse events before they are evaluated where the disk has no room for them.

        A refused commit costs a recovery, which a full disk must not have every sender cause.
        """
        batch_bytes = sum(len(stimulus.envelope) for stimulus in group if isinstance(stimulus, Append))
        try:
            if batch_bytes:
                self.log.require_room(batch_bytes)
        except Refused as refused:
            return _storage_full(refused)
        return None

    def _show(self) -> None:
        """Publish the membership that is committed now. Where there is no room for it, readers are told to ask."""
        machine = self.machine
        if machine is None:
            return
        touched = machine.take_touched()
        try:
            if self._renewed or not self._writer.publish(machine, touched, machine.user_count, machine.clock_ms):
                self._publish_whole(machine)
            self._renewed = False
        except StorageFull as full:
            # What is committed stays, and its senders are told so; the next group tries again.
            _log.warning("Look-ups are asked of the evaluator until membership can be mapped again. %s", full)
            self._renewed = True

    def _publish_whole(self, machine: EvaluatorMachine) -> None:
        machine.take_touched()
        arrays = machine.program.arrays
        names = {
            "definitions_version": machine.program.published.version,
            "parents": list(machine.program.parents),
            "audiences": {
                audience: (i, int(arrays.audience_parent[i]), machine.program.audience_versions[i])
                for i, audience in enumerate(machine.program.audiences)
            },
        }
        self._writer.publish_all(machine, names, machine.user_count, machine.clock_ms)

    def _handle(self, stimulus: Stimulus) -> Reply:
        match stimulus:
            case Append():
                return self._append(stimulus)
            case Tick():
                self._tick()
                return {}
            case TakeTraits():
                return self._take_traits(stimulus)
            case Publish():
                return self._publish(stimulus)
            case Lookup():
                return self._lookup(stimulus)
            case MembersPage():
                return self._members_page(stimulus)
            case Status():
                return self._status()

    # --- what moves the machine ------------------------------------------------------------------------

    def _clock(self) -> int:
        """Stamp an input: now, but never before the evaluator's clock."""
        logged = self._entries[-1].clock_ms if self._entries else self.log.last_clock_ms() or 0
        known = self.machine.clock_ms if self.machine is not None else 0
        return max(self._now_ms(), logged, known)

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
        self._log("batch", clock, batch.envelope, batch.rows)
        if self.machine is None or not batch.hits:
            return {"clock_ms": clock, "outcomes": b""}
        with pa.ipc.open_stream(batch.hits) as reader:
            hits = reader.read_next_batch()
        result = self.machine.handle_batch(hits, clock)
        self._emit(self.machine, result.transitions)
        self.counts["accepted"] += int((result.outcomes == 0).sum())
        self.counts["duplicates"] += int((result.outcomes == 1).sum())
        self.counts["too_late"] += int((result.outcomes == 2).sum())
        return {"clock_ms": clock, "outcomes": result.outcomes.tobytes()}

    def _emit(self, machine: EvaluatorMachine, transitions: Transitions) -> None:
        if len(transitions):
            self.sizes.add(transitions)
            self._tables += [machine.transitions_table(part) for part in parts_of(transitions, BLOCK_ROWS_MAX)]

    def _tick(self) -> None:
        """Work off what is due; a tick that changes nobody's membership is no entry: the log says it all without."""
        if self.machine is None:
            return
        clock = self._clock()
        transitions = self.machine.tick(clock)
        if len(transitions):
            self._log("tick", clock, b"")
            self._emit(self.machine, transitions)

    def _take_traits(self, snapshot: TakeTraits) -> Reply:
        clock = self._clock()
        if self._snapshot_versions.get(snapshot.parent, 0) >= snapshot.version:
            return {"clock_ms": clock}
        if self.machine is None or snapshot.parent not in self.machine.program.parents:
            return {"error": "not_ready", "message": "no such parent model yet", "retry_after_ms": 200}
        count = self.machine.program.published.definitions.settings.partitions
        try:
            whole = snapshot.table if snapshot.table is not None else read_snapshot_file(snapshot.path)
        except DataDirError as error:
            return {"error": "not_ready", "message": str(error), "retry_after_ms": RETRY_AFTER_MS}
        table = own_rows(whole, self._partitions, count)
        described = pack_traits(snapshot.parent, snapshot.version, snapshot.path)
        self._log("traits", clock, described, subject=snapshot.parent)
        transitions = self.machine.apply_traits(snapshot.parent, table, clock)
        self._emit(self.machine, transitions)
        self._snapshots[snapshot.parent] = table
        self._snapshot_versions[snapshot.parent] = snapshot.version
        return {"clock_ms": clock}

    def _publish(self, stimulus: Publish) -> Reply:
        published = stimulus.published
        if published.version <= self.version:
            return {"clock_ms": self._clock(), "seq": self.log.last_seq()}
        clock = self._clock()
        retained = retained_hits(self.log, published, self._partitions, clock)
        if self.machine is None:
            fresh = EvaluatorMachine(published, seed=self._seed)
            fresh.load(retained, self._snapshots, clock)
            tables = [fresh.difference_from(None)]
        else:
            fresh, before, after = self.machine.publish(published, retained, self._snapshots, clock)
            tables = [before, after]
        self.machine = fresh
        self._log("definitions", clock, pack_published(published))
        self._tables += [table for table in tables if table.num_rows]
        self._renewed = True
        self.sizes.count(fresh)
        return {"clock_ms": clock, "seq": self.log.last_seq() + len(self._entries)}

    # --- questions -------------------------------------------------------------------------------------

    def _lookup(self, question: Lookup) -> Reply:
        self._tick()
        machine = self.machine
        if machine is None:
            return {"error": "not_ready", "message": "no definitions yet", "retry_after_ms": 200}
        unknown = [a for a in question.audiences if a not in machine.program.audience_index]
        if unknown:
            return {"error": "stale", "message": f"unknown audiences {unknown}", "current_version": self.version,
                    "retry_after_ms": 50}
        reply: Reply = {
            "as_of": machine.clock_ms,
            "members": [[machine.is_member(a, user) for a in question.audiences] for user in question.users],
        }
        if question.detail:
            # `since` is in the log alone: the shell adds it (stored.with_since), as of what is committed with this.
            reply["through_seq"] = self.log.last_transition_seq() + sum(table.num_rows for table in self._tables)
            reply["details"] = [
                [self._detail(machine, audience, user) for audience in question.audiences]
                for user in question.users
            ]
        return reply

    def _detail(self, machine: EvaluatorMachine, audience: str, user: str) -> Reply:
        index = machine.program.audience_index[audience]
        return {
            "since": None,
            "changes_at": next_change_ms(machine, audience, user),
            "version": machine.program.audience_versions[index],
        }

    def _members_page(self, question: MembersPage) -> Reply:
        self._tick()
        machine = self.machine
        if machine is None or question.audience not in machine.program.audience_index:
            return {"members": [], "cursor": None, "as_of": self._clock()}
        slots = machine.members(question.audience)
        start = int(np.searchsorted(slots, int(question.cursor or 0)))
        page = slots[start : start + question.limit]
        more = start + len(page) < len(slots)
        return {
            "members": machine.user_keys(page).to_pylist(),
            "cursor": str(int(page[-1]) + 1) if more and len(page) else None,
            "as_of": machine.clock_ms,
        }

    def _status(self) -> Reply:
        machine = self.machine
        versions = {}
        if machine is not None:
            program = machine.program
            versions = dict(zip(program.audiences, program.audience_versions, strict=True))
        return {
            "clock_ms": machine.clock_ms if machine is not None else 0,
            "state": "live" if machine is not None else "empty",
            "version": self.version,
            "partitions": len(self._partitions),
            "events": dict(self.counts),
            "audiences": {a: {"size": self.sizes.of(a), "version": v} for a, v in versions.items()},
            "users": machine.counters()["alive"] if machine is not None else 0,
            "counters": machine.counters() if machine is not None else {},
            "dedup_horizon_ms": machine.dedup_horizon_ms() if machine is not None else 0,
            "traits": dict(self._snapshot_versions),
            "log_bytes": self.log.size_bytes(),
            "history_from_ms": self.log.first_clock_ms("batch"),
            "seq": self.log.last_transition_seq(),
        }


def _parts(group: Sequence[Stimulus]) -> Iterator[Sequence[Stimulus]]:
    """Cut a group at publications: what is before one must be in the log to be replayed by it."""
    start = 0
    for place, stimulus in enumerate(group):
        if isinstance(stimulus, Publish):
            if place > start:
                yield group[start:place]
            yield group[place : place + 1]
            start = place + 1
    if start < len(group):
        yield group[start:]
