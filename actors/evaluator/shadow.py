"""The machine of a publication that is on its way: filled from the log, then kept up with it, behind the one in force.

What it would have emitted is thrown away: only the difference at the switch is. With the machine it prepares what the
switch would otherwise wait for: the membership files' table of its users, their partitions, and which of them is which
user of the machine in force.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from actors.evaluator.entries import EntryReader, logged_snapshot, retained_entries
from actors.evaluator.key_table import I32, KEYS_A_STEP, Correspondence, Generation, KeyTable
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.membership_files import MembershipWriter
from cluster.definitions.model import Published
from cluster.errors import StorageFull
from cluster.log.contract import Log
from cluster.log.records import Entry

#: Called between two slices of work: makes way for others, and raises where the work is not wanted any more.
Pause: TypeAlias = Callable[[], None]

_ALL: Final = 2**62
#: New users of either machine that are not brought together before the switch.
_USERS_LEFT_MAX: Final = 2 * KEYS_A_STEP
_NO_SLOTS: Final = np.zeros(0, np.int32)


def go_on() -> None:
    """Pause for nobody."""


class Prepared(NamedTuple):
    """What a switch takes: the machine, its slot of each user of the machine in force (-1 none), and its files."""

    machine: EvaluatorMachine
    slots: I32
    keys: KeyTable
    generation: Generation | None


class Shadow:
    """One machine behind the one in force. One thread at a time.

    It reads the log by itself; of the evaluator it needs no more than `files`, for the users of the machine in force.
    """

    def __init__(
        self, published: Published, log: Log, files: MembershipWriter, partitions: Sequence[int], *, seed: int
    ) -> None:
        self._published = published
        self._log = log
        self._files = files
        self._partitions = partitions
        self._reader = EntryReader(published, partitions)
        self._machine = EvaluatorMachine(published, seed=seed)
        self._keys = KeyTable(files.seeds(self._machine.program.parents))
        self._generation: Generation | None = None
        #: Users that the generation (or the table in memory) has room for.
        self._room = 0
        self._together = Correspondence()
        self._together_users = 0
        #: The entry up to which the machine has everything.
        self._position = 0

    # --- the log -----------------------------------------------------------------------------------

    def load(
        self,
        snapshots: Mapping[str, pa.Table],
        through_seq: int,
        clock_ms: int,
        pause: Pause,
        seen: Callable[[int], None],
    ) -> None:
        """Replay what is retained up to an entry, at whose end these snapshots held and the clock was this.

        `seen` is told each entry that is worked off. 2 to 3 µs an event, 0.4 µs a user.
        """
        entries = retained_entries(self._log, self._published, clock_ms)
        before = itertools.takewhile(lambda entry: entry.seq <= through_seq, entries)

        def hits() -> Iterator[pa.RecordBatch]:
            for each in self._reader.slices(before):
                yield each.hits
                seen(each.seq)
                pause()

        self._machine.load(hits(), dict(snapshots), clock_ms)
        self._machine.compact()
        self._position = through_seq
        self.know_users(pause)

    def entries_left(self) -> int:
        """Give how many entries the log has that the machine has not."""
        return self._log.last_seq() - self._position

    def entries(self, through_seq: int) -> Iterator[int]:
        """Take the entries that are left up to one, a slice of one or of some at a time; gives each one's number.

        Run it to its end before another one is begun.
        """
        left = itertools.takewhile(lambda entry: entry.seq <= through_seq, self._log.entries(after_seq=self._position))
        for batches, group in itertools.groupby(left, lambda entry: entry.kind == "batch"):
            if batches:
                for each in self._reader.slices(group):
                    self._machine.handle_batch(each.hits, each.clock_ms, each.clock_ms)
                    yield each.seq
                    self._position = each.seq
            else:
                for entry in group:
                    self._take(entry)
                    yield entry.seq
                    self._position = entry.seq

    def _take(self, entry: Entry) -> None:
        """Move the machine by an entry that is no batch."""
        if entry.kind != "traits":
            self._machine.tick(entry.clock_ms)
            return
        replaced = any(later.subject == entry.subject and later.seq > entry.seq for later in self._log.newest("traits"))
        if entry.subject not in self._machine.program.parents or replaced:
            # A later snapshot takes the place of all of this one, and its copy may be gone already.
            return
        count = self._published.definitions.settings.partitions
        _, table = logged_snapshot(entry, self._partitions, count)
        self._machine.apply_traits(entry.subject, table, entry.clock_ms)

    # --- what the switch would wait for --------------------------------------------------------------

    def know_users(self, pause: Pause, users_max: int = _ALL) -> bool:
        """Enter new users in the membership files' table, and know their partitions; False where there are none."""
        first = self._keys.users
        users = min(self._machine.user_count, first + users_max)
        if users > self._room or not self._room:
            self._make_room(self._machine.user_count)
        self._keys.add(self._machine, users, pause)
        for start in range(first, users, KEYS_A_STEP):
            self._machine.know_partitions(min(users, start + KEYS_A_STEP))
            pause()
        return users > first

    def _make_room(self, users: int) -> None:
        before, self._generation = self._generation, None
        try:
            self._generation = self._files.lay_out(users, self._machine.membership_rows(_NO_SLOTS).shape[1])
            self._room = len(self._generation.rows)
            self._keys.move_to(self._generation.table)
        except StorageFull:
            # As when the machine in force has no room for its files: readers ask until there is some.
            self._room = users + users // 2 + 1
            self._keys.keep_in_memory(self._room)
        if before is not None:
            self._files.discard(before)

    def bring_together(self, least: int = 0) -> I32:
        """Give the machine's slot of each user of the one in force; skips the work for fewer than `least` new users."""
        if self._keys.users + self._files.keys.users - self._together_users < least:
            return self._together.slots
        slots = self._together.extend(self._files.keys, self._keys)
        self._together_users = len(slots) + self._keys.users
        return slots

    def keep_up(self) -> bool:
        """Do a step of what else may be prepared; False where there is nothing."""
        more = self.know_users(go_on, KEYS_A_STEP)
        self.bring_together(_USERS_LEFT_MAX)
        return more

    def prepared(self, clock_ms: int) -> Prepared:
        """Move on to `clock_ms`, with all entries taken, and give what the switch takes."""
        self._machine.tick(clock_ms)
        self.know_users(go_on)
        return Prepared(self._machine, self.bring_together(), self._keys, self._generation)

    def discard(self) -> None:
        """Give back the files."""
        if self._generation is not None:
            self._files.discard(self._generation)
            self._generation = None
