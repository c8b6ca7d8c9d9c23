"""From changes read to batches: what waits for a batch, what a pause holds back, and which cursors follow.

Laws: a cursor passes a change only when it is in a durable batch or needs no sending; while the audience is paused
nothing is sealed, afterwards what the pause comes to, once per user.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.delivery.batching import Pending
from actors.delivery.bounds import CURSOR_EVERY_MS, PENDING_BATCHES_MAX
from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change, Cursors
from actors.delivery.instructions import Hold, Instruction, MoveCursors
from actors.delivery.stimuli import Changes, SyncConfig
from cluster.limits import SYNC_PENDING_MAX


class Intake:
    """What a sync has read and not sealed. `held`: a pause's changes are not all in batches yet."""

    def __init__(self, config: SyncConfig, *, held: bool) -> None:
        self._config = config
        self._held = held
        #: Evaluators of which everything that there was has been read.
        self._at_head: set[int] = set()
        #: While held and not paused: evaluators whose changes made during the pause are not all read yet.
        self._behind: set[int] = set(config.evaluators if held and not config.paused else ())
        self._pending = Pending(net=held or config.deliver == "state")
        self._cursors_written: Cursors = {}
        self._cursors_written_ms = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def has_room(self) -> bool:
        """True up to half of SYNC_PENDING_MAX (the other half takes reads under way) and a sane number of batches."""
        return len(self._pending) <= min(SYNC_PENDING_MAX // 2, PENDING_BATCHES_MAX * self._config.batch_records)

    @property
    def since_ms(self) -> int | None:
        """When the oldest change that waits was read; None where none waits."""
        return self._pending.since_ms if len(self._pending) else None

    def open(self, evaluator: int, cursor: int) -> None:
        """Start an evaluator's log after `cursor`."""
        self._pending.open(evaluator, cursor)
        self._cursors_written = {**self._cursors_written, evaluator: cursor}

    def read(self, stimulus: Changes, now_ms: int) -> None:
        """Take in what was read."""
        self._pending.add(stimulus.evaluator, stimulus.changes, stimulus.position, now_ms)
        if stimulus.at_head:
            self._behind.discard(stimulus.evaluator)
            self._at_head.add(stimulus.evaluator)
        else:
            self._at_head.discard(stimulus.evaluator)

    def configure(self, config: SyncConfig) -> None:
        """Take changed definitions."""
        was_paused = self._config.paused
        self._config = config
        if was_paused and not config.paused:
            self._behind = set(config.evaluators) - self._at_head
        self._behind &= set(config.evaluators)

    def begin_hold(self, out: list[Instruction]) -> None:
        """Net from now on where the audience is paused, or where the sync delivers the state."""
        if self._config.paused and not self._held:
            self._held = True
            out.append(Hold(True))
        if self._held or self._config.deliver == "state":
            self._pending.go_net()

    def end_hold(self, out: list[Instruction]) -> None:
        """Once the pause's changes are all in batches (or came to nothing), every change counts again."""
        if self._held and not self._config.paused and not self._behind and not len(self._pending):
            self._held = False
            out.append(Hold(False))
        if not self._held and self._config.deliver == "changes" and self._pending.net and not len(self._pending):
            self._pending.go_in_order()

    def due_ms(self, now_ms: int) -> int:
        """Give from when a batch may be sealed; it may be past. NEVER where nothing waits or a pause holds it."""
        count = len(self._pending)
        if not count or self._config.paused or (self._held and self._behind and self.has_room):
            return NEVER
        # A clock that was set back must not make anybody wait.
        if count >= self._config.batch_records or now_ms < self._pending.since_ms:
            return now_ms
        return self._pending.since_ms + self._config.batch_age_ms

    def take(self, now_ms: int) -> tuple[Sequence[Change], Cursors]:
        """Take what the next batch (net: the next batches) holds, and the cursors that hold once it is durable.

        Nothing where exits alone were taken and are not sent: the cursors then move by themselves.
        """
        changes = self._pending.take(self._config.batch_records, now_ms)
        if self._config.on_exit == "nothing":
            changes = [change for change in changes if change.kind == "entered"]
        if changes:
            self._cursors_written = self._pending.cursors()
            self._cursors_written_ms = now_ms
        return changes, self._cursors_written

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
