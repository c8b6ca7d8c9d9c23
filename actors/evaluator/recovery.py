"""How an evaluator comes back: from the newest good checkpoint and the log after it, at last from the whole log.

Membership is a function of the set of accepted events, the traits and the clock (semantics.md §3), so nothing of
what was emitted has to be replayed; the stored transitions only say how many were already made at the clock's
present instant. What a checkpoint holds is in the log too: one that cannot be used costs time and nothing else.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.evaluator.checkpointing.header import Header
from actors.evaluator.checkpointing.restoring import header_of, restored
from actors.evaluator.difference import Numbers
from actors.evaluator.entries import (
    EntryReader,
    ahead,
    entries_since,
    logged_snapshot,
    own_rows,
    read_snapshot_file,
    retained_entries,
)
from actors.evaluator.instants import seed_instant
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.packing import LoggedTraits, unpack_published, unpack_traits
from actors.evaluator.results import TRANSITION_SCHEMA, Transitions, joined
from actors.evaluator.sizes import Sizes
from cluster.checkpoints.store import CheckpointStore, Stored
from cluster.definitions.model import Published
from cluster.errors import CheckpointError
from cluster.log.contract import Log
from cluster.log.records import Entry

_log = logging.getLogger("usher.evaluator")

#: The log's key of how far its transitions are.
PROGRESS: Final = "progress"
#: The log's key of the entry at which its newest checkpoint was taken.
CHECKPOINT: Final = "checkpoint"
#: What makes a transition the one that it is (semantics.md §3).
_IDENTITY: Final = ["audience_id", "audience_version", "user_id", "at", "n"]
#: Up to one event for so many users, a replay makes their changes as they were made. Above, it feeds their windows
#: alone and then works everybody's membership out: half the work an event, and 1.3 µs a user.
USERS_AN_EVENT: Final = 2


def stored_numbers(log: Log, clock_ms: int, after_seq: int) -> Numbers:
    """Give the latest `n` of each (user, audience) with a transition at this clock, stored above `after_seq`."""
    numbers: Numbers = {}
    for block in log.transitions_after(after_seq, log.last_transition_seq() - after_seq):
        rows = block.rows()
        for row in rows.filter(pc.equal(rows.column("at"), clock_ms)).to_pylist():
            pair = (row["user_id"], row["audience_id"])
            numbers[pair] = max(numbers.get(pair, 0), row["n"])
    return numbers


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """How far the transitions are, as of the last commit: its clock, and until when everybody's changes are made.

    Those made later than `settled_ms` have numbers above `settled_seq`; those made at the clock, above `clock_seq`.
    """

    clock_ms: int = 0
    settled_ms: int = 0
    settled_seq: int = 0
    clock_seq: int = 0


def progress_of(log: Log) -> Progress:
    """Read what the last commit noted."""
    noted = log.meta(PROGRESS)
    return msgspec.json.decode(noted, type=Progress) if noted else Progress()


#: The log's key of the hits so far, by outcome: committed with each group, so that no kill makes them wrong.
COUNTS: Final = "counts"
_NO_COUNTS: Final = {"accepted": 0, "duplicates": 0, "too_late": 0}


def counts_of(log: Log) -> dict[str, int]:
    """Read the hits since the log began, by outcome, as the last commit noted them."""
    return {**_NO_COUNTS, **msgspec.json.decode(log.meta(COUNTS) or b"{}", type=dict[str, int])}


def hits_of(log: Log) -> int:
    """Give the number of hits since the log began."""
    return sum(counts_of(log).values())


@dataclass(slots=True)
class Origin:
    """What a recovery began with, for status: a checkpoint's entry (0: the whole log), and what was replayed after it.

    `passed_over`: the checkpoints that could not be used, newest first, each with the reason's code and message.
    """

    checkpoint_seq: int = 0
    checkpoint_taken_at_ms: int = 0
    checkpoint_bytes: int = 0
    entries: int = 0
    events: int = 0
    log_bytes: int = 0
    passed_over: list[dict[str, Any]] = field(default_factory=list)

    def count(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries through."""
        for entry in entries:
            self.entries += 1
            self.events += entry.row_count
            self.log_bytes += len(entry.payload)
            yield entry


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the log holds: the definitions in force since `published_at_ms` and their machine, None before the first.

    `missing` are the transitions due at or before the log's end that were not made yet; `sizes` count them too.
    """

    machine: EvaluatorMachine | None = None
    published: Published | None = None
    published_at_ms: int = 0
    snapshot_versions: dict[str, int] = field(default_factory=dict)
    snapshot_paths: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, pa.Table] = field(default_factory=dict)
    missing: pa.RecordBatch = field(default_factory=lambda: pa.RecordBatch.from_pylist([], schema=TRANSITION_SCHEMA))
    origin: Origin = field(default_factory=Origin)
    sizes: Sizes = field(default_factory=Sizes)


def recover(
    log: Log, partitions: Sequence[int], *, seed: int, checkpoints: CheckpointStore | None = None
) -> Recovered:
    """Rebuild the machine. O(users, events after the checkpoint), without one O(retained events)."""
    published = log.newest("definitions")
    if not published:
        return Recovered()
    definitions = published[-1]
    recovery = _Recovery(log, partitions, definitions)
    for stored in recovery.stored(checkpoints):
        try:
            assert checkpoints is not None
            with checkpoints.open(stored) as contents:
                header = header_of(contents)
                machine = restored(contents, header, log, partitions, recovery.published, definitions.payload)
            return recovery.from_checkpoint(machine, header, stored.size_bytes)
        except CheckpointError as error:
            recovery.pass_over(stored.name, error)
    return recovery.from_log(seed)


class _Recovery:
    """One recovery: what the log says of its own end, and ways to get there."""

    def __init__(self, log: Log, partitions: Sequence[int], definitions: Entry) -> None:
        self._log = log
        self._partitions = partitions
        self._definitions = definitions
        self.published = unpack_published(definitions.payload)
        self._clock_ms = log.last_clock_ms() or 0
        self._snapshot_seqs: dict[str, int] = {}
        self._logged: dict[str, LoggedTraits] = {}
        self._tables: dict[str, pa.Table] = {}
        self._read_snapshots()
        self._progress = progress_of(log)
        # Without a wave under way all that is due up to the last entry is made, and only shown by it.
        self._behind = self._progress.settled_ms < self._progress.clock_ms
        self._settled_ms = self._progress.settled_ms if self._behind else self._clock_ms
        #: Of each parent whose newest snapshot is part of the wave under way, what held before it; None: nothing.
        self._held: dict[str, tuple[int, str] | None] = {}
        if self._behind:
            for entry in log.entries(kinds=("traits",), from_clock_ms=self._settled_ms + 1):
                self._held.setdefault(entry.subject, unpack_traits(entry.payload).before)
        self._settled_tables = {**self._tables, **self._read_held()}
        self._reader = EntryReader(self.published, partitions)
        self._passed_over: list[dict[str, Any]] = []

    def stored(self, checkpoints: CheckpointStore | None) -> list[Stored]:
        """Give the checkpoints that there are, newest first; none where their folder or bucket does not answer."""
        if checkpoints is None:
            return []
        try:
            found = checkpoints.stored()
        except CheckpointError as error:
            self.pass_over("", error)
            return []
        noted = int(self._log.meta(CHECKPOINT) or 0)
        if noted and all(stored.seq < noted for stored in found):
            message = f"The checkpoint of entry {noted} was written and is not there any more."
            self.pass_over(Stored(noted, 0).name, CheckpointError(message, reason="gone"))
        return found

    def pass_over(self, name: str, error: CheckpointError) -> None:
        """Note, loudly, a checkpoint that cannot be used."""
        self._passed_over.append({"checkpoint": name, "reason": error.reason, "message": str(error)})
        _log.warning("Checkpoint %s is passed over, recovery reaches further back. %s", name or "store", error)

    def _read_snapshots(self) -> None:
        count = self.published.definitions.settings.partitions
        for entry in self._log.newest("traits"):
            parent = entry.subject
            self._snapshot_seqs[parent], self._logged[parent] = entry.seq, unpack_traits(entry.payload)
            _, self._tables[parent] = logged_snapshot(entry, self._partitions, count)

    def _read_held(self) -> dict[str, pa.Table]:
        """Read what held where everybody's changes were made; no rows where there was nothing."""
        count = self.published.definitions.settings.partitions
        return {
            parent: self._tables[parent].slice(0, 0)
            if before is None
            else own_rows(read_snapshot_file(before[1]), self._partitions, count)
            for parent, before in self._held.items()
        }

    # --- the two ways ------------------------------------------------------------------------------

    def from_log(self, seed: int) -> Recovered:
        """Replay all that is retained into an empty machine."""
        origin = Origin(passed_over=self._passed_over)
        machine = EvaluatorMachine(self.published, seed=seed)
        # What mattered where everybody's changes were made: long before the log's end, where nobody came for long.
        entries = self._settled(origin.count(retained_entries(self._log, self.published, self._settled_ms)))
        hits = (each.hits for each in self._reader.bulk(entries))
        machine.load(hits, self._settled_tables, self._settled_ms, ahead=ahead)
        return self._finished(machine, origin, None)

    def from_checkpoint(self, machine: EvaluatorMachine, header: Header, size_bytes: int) -> Recovered:
        """Replay what came after a checkpoint into its machine. CheckpointError where the log lacks some of it."""
        origin = Origin(header.seq, header.taken_at_ms, size_bytes, passed_over=self._passed_over)
        entries = self._settled(origin.count(entries_since(self._log, header.seq)))
        if USERS_AN_EVENT * (hits_of(self._log) - header.hits) <= machine.user_count:
            sizes = Sizes.of_members(machine, header.sizes)
            self._make_changes(machine, entries, sizes)
            return self._finished(machine, origin, sizes)
        batches = (entry for entry in entries if entry.kind == "batch")
        newer = {
            parent: table
            for parent, table in self._settled_tables.items()
            if parent in self._held or self._snapshot_seqs[parent] > header.seq
        }
        hits = (each.hits for each in self._reader.bulk(batches))
        machine.load(hits, newer, self._settled_ms, hits_of(self._log) - header.hits, ahead)
        return self._finished(machine, origin, None)

    def _settled(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        return itertools.takewhile(lambda entry: entry.clock_ms <= self._settled_ms, entries)

    def _make_changes(self, machine: EvaluatorMachine, entries: Iterator[Entry], sizes: Sizes) -> None:
        """Take entries as they were taken; the log has the transitions."""
        for is_batch, group in itertools.groupby(entries, lambda entry: entry.kind == "batch"):
            if is_batch:
                for each in self._reader.slices(group):
                    sizes.add(machine.handle_batch(each.hits, each.clock_ms, each.clock_ms).transitions)
            else:
                for entry in group:
                    sizes.add(self._change(machine, entry))
        sizes.add(machine.tick(self._settled_ms))

    def _change(self, machine: EvaluatorMachine, entry: Entry) -> Transitions:
        # A later snapshot takes the place of all of an earlier one, whose copy may be gone already.
        parent = entry.subject
        if entry.kind == "traits" and parent in machine.program.parents and self._is_settled(entry):
            return machine.apply_traits(parent, self._settled_tables[parent], entry.clock_ms)
        return machine.tick(entry.clock_ms)

    def _is_settled(self, entry: Entry) -> bool:
        """Whether the snapshot of this entry holds where everybody's changes were made."""
        held = self._held.get(entry.subject)
        if held is not None:
            return unpack_traits(entry.payload).version == held[0]
        return self._snapshot_seqs[entry.subject] == entry.seq

    # --- the end -----------------------------------------------------------------------------------

    def _finished(self, machine: EvaluatorMachine, origin: Origin, sizes: Sizes | None) -> Recovered:
        missing = self._finish_wave(machine, sizes) if self._behind else None
        if missing is None:
            self._number(machine)
        if sizes is None:
            sizes = Sizes()
            sizes.count(machine)
        since_ms = self._definitions.clock_ms
        recovered = Recovered(
            machine,
            self.published,
            since_ms,
            {parent: logged.version for parent, logged in self._logged.items()},
            {parent: logged.path for parent, logged in self._logged.items()},
            self._tables,
            origin=origin,
            sizes=sizes,
        )
        return recovered if missing is None else replace(recovered, missing=missing)

    def _snapshot_changes(self, machine: EvaluatorMachine, entry: Entry) -> Transitions:
        if entry.subject not in machine.program.parents:
            return machine.tick(entry.clock_ms)
        return machine.apply_traits(entry.subject, self._tables[entry.subject], entry.clock_ms)

    def _number(self, machine: EvaluatorMachine) -> None:
        numbers = stored_numbers(self._log, self._clock_ms, self._progress.clock_seq)
        known = machine.program.audience_index
        counts = {(machine.parent_of(a), user, a): n for (user, a), n in numbers.items() if a in known}
        if machine.clock_ms == self._clock_ms:
            seed_instant(machine, counts)

    def _finish_wave(self, machine: EvaluatorMachine, sizes: Sizes | None) -> pa.RecordBatch:
        """Move a machine on from where everybody's changes were made; give those that the log has not.

        Nothing but batches, ticks and a snapshot was logged since (`worker.py` sees to that).
        """
        since_ms = machine.clock_ms
        later = self._log.entries(kinds=("batch", "traits"), from_clock_ms=since_ms + 1)
        made: list[Transitions] = []
        for is_batch, group in itertools.groupby(later, lambda entry: entry.kind == "batch"):
            if is_batch:
                slices = self._reader.slices(group)
                made += [machine.handle_batch(each.hits, since_ms, each.clock_ms).transitions for each in slices]
            else:
                made += [self._snapshot_changes(machine, entry) for entry in group]
        made.append(machine.tick(self._clock_ms))
        if sizes is not None:
            sizes.add(joined(made))
        table = machine.transitions_table(joined(made))
        made_now = pa.Table.from_batches([table]).append_column("place", pa.array(np.arange(table.num_rows)))
        after_seq = self._progress.settled_seq
        blocks = self._log.transitions_after(after_seq, self._log.last_transition_seq() - after_seq)
        stored = pa.Table.from_batches([block.rows() for block in blocks], TRANSITION_SCHEMA).select(_IDENTITY)
        missing = made_now.join(stored, keys=_IDENTITY, join_type="left anti").sort_by("place")
        if not missing.num_rows:
            return table[:0]
        return missing.select(TRANSITION_SCHEMA.names).combine_chunks().to_batches()[0]
