"""From changes read to batches: what waits for a batch, in memory or on disk, and which cursors follow.

Laws: a cursor passes a change only when it is in a durable batch, waits on disk, or needs no sending; while the
audience is paused nothing is sealed, afterwards what the pause comes to, once per user.

Memory holds what can soon be sealed. What cannot, where only what changes come to counts, waits on disk (`room`), once
per user; so does everything under flap control. While anything waits there, all changes go that way, and batches are
made of what comes back: a user's changes never part.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.delivery.batching import Pending
from actors.delivery.bounds import (
    CURSOR_EVERY_MS,
    FETCHED_AT_ONCE,
    PARKED_AT_ONCE,
    PARKED_EVERY_MS,
    PENDING_BATCHES_MAX,
)
from actors.delivery.breaker import NEVER
from actors.delivery.changes import REPEATS, Change, Cursors
from actors.delivery.instructions import Fetch, Hold, Instruction, MoveCursors, Park
from actors.delivery.stimuli import Changes, Fetched, Parked, SyncConfig
from cluster.limits import SYNC_PENDING_MAX


class Intake:
    """What a sync has read and not sealed. `held`: a pause's changes are not all in batches yet."""

    def __init__(self, config: SyncConfig, *, held: bool, room_count: int = 0, room_due_ms: int = NEVER) -> None:
        self._config = config
        self._held = held
        #: Evaluators of which everything that there was has been read.
        self._at_head: set[int] = set()
        #: While held and not paused: evaluators whose changes made during the pause are not all read yet.
        self._behind: set[int] = set(config.evaluators if held and not config.paused else ())
        self._pending = Pending(net=held or config.deliver == "state" or bool(room_count))
        self._cursors_written: Cursors = {}
        self._cursors_written_ms = 0
        #: Changes that wait on disk, and when the first is due; both as of the last answer of the store.
        self._room_count = room_count
        self._room_due_ms = room_due_ms
        #: Parks without an answer, and whether a fetch has none: meanwhile nothing is parked, lest it meet what is
        #: being taken.
        self._parks = 0
        self._fetching = False

    def __len__(self) -> int:
        return len(self._pending) + self._room_count

    @property
    def pending(self) -> int:
        """Changes in memory."""
        return len(self._pending)

    @property
    def oldest_at_ms(self) -> int | None:
        """When the oldest change in memory happened; what only repeats membership does not count."""
        return min((change.at_ms for change in self._pending if change.cause not in REPEATS), default=None)

    @property
    def has_room(self) -> bool:
        """True up to half of SYNC_PENDING_MAX (the other half takes reads under way) and a sane number of batches."""
        return len(self._pending) <= min(SYNC_PENDING_MAX // 2, PENDING_BATCHES_MAX * self._config.batch_records)

    @property
    def since_ms(self) -> int | None:
        """When the oldest change in memory was read; None where there is none."""
        return self._pending.since_ms if len(self._pending) else None

    def open(self, source: int, cursor: int) -> None:
        """Start a source after `cursor`."""
        self._pending.open(source, cursor)
        self._cursors_written = {**self._cursors_written, source: cursor}

    def read(self, stimulus: Changes, now_ms: int) -> None:
        """Take in what was read."""
        self._pending.add(stimulus.evaluator, stimulus.changes, stimulus.position, now_ms)
        if stimulus.at_head:
            self._behind.discard(stimulus.evaluator)
            self._at_head.add(stimulus.evaluator)
        else:
            self._at_head.discard(stimulus.evaluator)

    def configure(self, config: SyncConfig, room_due_ms: int | None = None) -> None:
        """Take changed definitions, and when what waits on disk is due if that changed with them."""
        if room_due_ms is not None:
            self._room_due_ms = room_due_ms
        was_paused = self._config.paused
        self._config = config
        if was_paused and not config.paused:
            self._behind = set(config.evaluators) - self._at_head
        self._behind &= set(config.evaluators)

    def parked(self, stimulus: Parked) -> None:
        """Learn what became of a `Park`."""
        self._parks -= 1
        self._room_count += stimulus.grown
        self._room_due_ms = stimulus.due_ms

    def fetched(self, stimulus: Fetched) -> Sequence[Change]:
        """Take what a `Fetch` gave: it is sealed now, and leaves the disk with that."""
        self._fetching = False
        self._room_count -= len(stimulus.changes) + stimulus.undone
        self._room_due_ms = stimulus.due_ms
        return self._sent(stimulus.changes)

    # --- holding -----------------------------------------------------------------------------------

    def begin_hold(self, out: list[Instruction]) -> None:
        """Net from now on where the audience is paused, or where only what changes come to counts."""
        if self._config.paused and not self._held:
            self._held = True
            out.append(Hold(True))
        if self._nets:
            self._pending.go_net()

    def end_hold(self, out: list[Instruction]) -> None:
        """Once the pause's changes are all in batches (or came to nothing), every change counts again."""
        empty = not len(self._pending) and not self._uses_room
        if self._held and not self._config.paused and not self._behind and empty:
            self._held = False
            out.append(Hold(False))
        if self._pending.net and not self._nets and empty:
            self._pending.go_in_order()

    @property
    def _nets(self) -> bool:
        return self._held or self._config.deliver == "state" or self._config.flaps is not None

    @property
    def _holds(self) -> bool:
        """Whether a pause keeps everything back, or what it comes to is not all read."""
        return self._config.paused or (self._held and bool(self._behind))

    # --- the waiting room --------------------------------------------------------------------------

    @property
    def _uses_room(self) -> bool:
        return bool(self._room_count or self._parks or self._fetching)

    def park(self, now_ms: int, out: list[Instruction], *, may_seal: bool) -> None:
        """Let what is in memory wait on disk: always under flap control, else where it fills memory and cannot go."""
        if not self._pending.net or self._fetching or not len(self._pending):
            return
        if self._config.flaps is not None or self._uses_room:
            # Before something is fetched, so that what undoes it is there.
            fetches = may_seal and self._fetch_due_ms() <= now_ms
            if self._park_due_ms(now_ms, may_seal=may_seal) > now_ms and not fetches:
                return
        elif self.has_room or (may_seal and not self._holds):
            return
        changes = self._pending.take(len(self._pending), now_ms)
        self._cursors_written = self._pending.cursors()
        self._cursors_written_ms = now_ms
        self._parks += 1
        out.append(Park(changes, self._cursors_written, self._config.flaps))

    def _park_due_ms(self, now_ms: int, *, may_seal: bool) -> int:
        """Give from when what is in memory is to follow to disk: when it is many changes, or old.

        It may be older while nothing can be fetched: many small parks would make slow fetches.
        """
        if len(self._pending) >= PARKED_AT_ONCE or not self.has_room:
            return now_ms
        due_ms = self._age_due_ms(now_ms)
        if may_seal or self._config.flaps is not None or due_ms == NEVER or now_ms < self._pending.since_ms:
            return due_ms
        return max(due_ms, self._pending.since_ms + PARKED_EVERY_MS)

    def fetch(self, now_ms: int, out: list[Instruction], *, may_seal: bool) -> None:
        """Ask for what waits on disk and is due, while batches may be made of it."""
        if may_seal and not self._fetching and self._fetch_due_ms() <= now_ms:
            self._fetching = True
            out.append(Fetch(min(FETCHED_AT_ONCE, 8 * self._config.batch_records)))

    def _fetch_due_ms(self) -> int:
        if not self._room_count or self._fetching or self._room_due_ms == NEVER or self._holds:
            return NEVER
        return self._room_due_ms + self._config.batch_age_ms

    # --- batches -----------------------------------------------------------------------------------

    def due_ms(self, now_ms: int, *, may_seal: bool) -> int:
        """Give from when something may be parked, fetched or sealed; it may be past. NEVER where nothing waits."""
        if self._config.flaps is not None or self._uses_room:
            parks = bool(len(self._pending)) and not self._fetching
            park_ms = self._park_due_ms(now_ms, may_seal=may_seal) if parks else NEVER
            return min(park_ms, self._fetch_due_ms() if may_seal else NEVER)
        if not may_seal or (self._holds and self.has_room):
            return NEVER
        return self._age_due_ms(now_ms)

    def seals(self, now_ms: int) -> bool:
        """Whether a batch is to be made of what is in memory now."""
        if self._config.flaps is not None or self._uses_room or self._holds:
            return False
        return self._age_due_ms(now_ms) <= now_ms

    def _age_due_ms(self, now_ms: int) -> int:
        count = len(self._pending)
        if not count:
            return NEVER
        # A clock that was set back must not make anybody wait.
        if count >= self._config.batch_records or now_ms < self._pending.since_ms:
            return now_ms
        return self._pending.since_ms + self._config.batch_age_ms

    def take(self, now_ms: int) -> tuple[Sequence[Change], Cursors]:
        """Take what the next batch (net: the next batches) holds, and the cursors that hold once it is durable.

        Nothing where exits alone were taken and are not sent: the cursors then move by themselves.
        """
        changes = self._sent(self._pending.take(self._config.batch_records, now_ms))
        if changes:
            self._cursors_written = self._pending.cursors()
            self._cursors_written_ms = now_ms
        return changes, self._cursors_written

    def _sent(self, changes: Sequence[Change]) -> Sequence[Change]:
        if self._config.on_exit == "nothing":
            return [change for change in changes if change.kind == "entered"]
        return changes

    def move_cursors(self, now_ms: int, out: list[Instruction]) -> None:
        """Write cursors that moved past what needs no sending, now and then."""
        if 0 <= now_ms - self._cursors_written_ms < CURSOR_EVERY_MS:
            return
        cursors = self._pending.cursors()
        moved = {source: seq for source, seq in cursors.items() if self._cursors_written.get(source) != seq}
        if moved:
            self._cursors_written = {**self._cursors_written, **moved}
            self._cursors_written_ms = now_ms
            out.append(MoveCursors(moved))
