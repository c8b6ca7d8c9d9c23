"""One sync's shell in virtual time: the real machine, a disk that takes its time, a reader, timers that come late.

The disk is never lost here, and the waiting room is a mapping: what a crash leaves is tested elsewhere
(tests/actors/delivery/test_histories.py, test_actor.py).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change
from actors.delivery.instructions import Defer, Fetch, Instruction, Park, Seal, Send, Settle, Split
from actors.delivery.machine import Recovered, SyncMachine
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Fetched,
    Opened,
    Parked,
    Persisted,
    Shares,
    Stimulus,
    SyncConfig,
    Tick,
)
from cluster.limits import SYNC_READ_ROWS_MAX
from cluster.model.durations import parse_duration
from destinations.outcomes import Outcome, Retry
from destinations.requests import Answer
from tests.links.destination import START_MS, SimulatedDestination
from tests.links.link import Link
from tests.links.timeline import Timeline

#: How long a commit and an answer of an evaluator take, drawn from these, in ms.
_COMMIT_MS, _READ_MS = (2, 8), (1, 4)


class SyncInTime:
    """A sync at work. `sent` has `(when, changes, attempt)` of every request."""

    def __init__(
        self, config: SyncConfig, shares: Shares, link: Link, there: SimulatedDestination, time: Timeline, seed: int
    ) -> None:  # fmt: skip
        self._traffic = link.traffic
        self._late_ms = link.late_ms
        self._every_ms = parse_duration(link.traffic.every)
        self._there = there
        self._time = time
        self._chance = random.Random(seed)
        self._config = config
        self.machine = SyncMachine(config, shares, Recovered(1), jitter=self._chance.random)
        self._rows: dict[str, tuple[Change, ...]] = {}
        self._room: dict[str, Change] = {}
        self._writes: deque[Callable[[], list[Stimulus]]] = deque()
        self._reading = False
        self._alarm = 0
        self.read = 0
        self.sent: list[tuple[int, int, int]] = []
        self.delivered = 0
        self.dead = 0
        self.deferred = 0
        #: Most changes in memory that are in no batch.
        self.most_pending = 0
        self.idle_since_ms: int | None = None
        #: Until when the destination asked this sync to send nothing, and how often it did all the same.
        self._asked_to_wait_ms = 0
        self.impatient = 0
        self.feed(Opened(0, 0))

    def feed(self, stimulus: Stimulus) -> None:
        """Give the machine a stimulus and perform what it says."""
        now_ms = START_MS + self._time.now_ms
        for instruction in self.machine.handle(stimulus, now_ms):
            self._perform(instruction)
        self.most_pending = max(self.most_pending, self.machine.pending)
        done = not self.machine.backlog and self.read == self._logged()
        if not done:
            self.idle_since_ms = None
        elif self.idle_since_ms is None:
            self.idle_since_ms = self._time.now_ms
        self._arm(now_ms)

    def wake(self) -> None:
        """Something that is shared with other syncs is free."""
        self.feed(Tick())

    @property
    def left(self) -> int:
        """What is read and not finished, and what is not read yet."""
        return self.machine.backlog + self._logged() - self.read

    def busy_until_ms(self, end_ms: int) -> int:
        """Give since when it has nothing to do; the end where it still has."""
        return end_ms if self.idle_since_ms is None else self.idle_since_ms

    def _arm(self, now_ms: int) -> None:
        if self.machine.may_read and not self._reading:
            self._reading = True
            self._time.after(self._chance.randint(*_READ_MS), self._read)
        self._alarm += 1
        wake_ms = self.machine.next_wake_ms(now_ms)
        if wake_ms != NEVER:
            number = self._alarm

            def ring() -> None:
                if number == self._alarm:
                    self.feed(Tick())

            self._time.after(max(0, wake_ms - now_ms) + self._chance.randint(*self._late_ms), ring)

    # --- the log -----------------------------------------------------------------------------------

    def _logged(self) -> int:
        came_ms = self._time.now_ms // self._every_ms * self._every_ms
        return self._traffic.backlog + int(self._traffic.per_s * came_ms / 1000)

    def _read(self) -> None:
        count = min(SYNC_READ_ROWS_MAX, self._logged() - self.read)
        if not count:
            if self._traffic.per_s:
                self._time.after(self._every_ms - self._time.now_ms % self._every_ms, self._read)
            return
        changes = [self._change(seq) for seq in range(self.read + 1, self.read + count + 1)]
        self.read += count
        self._reading = False
        self.feed(Changes(0, changes, self.read, count < SYNC_READ_ROWS_MAX))

    def _change(self, seq: int) -> Change:
        round_, user = divmod(seq - 1, self._traffic.users)
        kind = "exited" if round_ % 2 else "entered"
        return Change(0, seq, "aud", 1, f"user_{user}", kind, seq, 0, "event")  # type: ignore[arg-type]

    # --- what the machine wants --------------------------------------------------------------------

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Seal():
                self._rows.update({batch.id: tuple(batch.changes) for batch in instruction.batches})
                self._write(lambda: self._sealed(instruction))
            case Split():
                whole = self._rows.pop(instruction.batch_id)
                self.delivered += instruction.delivered
                self.dead += len(instruction.dead.indexes)
                for part in instruction.parts:
                    self._rows[part.id] = tuple(whole[index] for index in part.kept)
                self._write(lambda: [Persisted(part.id) for part in instruction.parts])
            case Park():
                self._write(lambda: self._parked(instruction))
            case Fetch():
                self._write(lambda: self._fetched(instruction.limit))
            case Settle():
                del self._rows[instruction.batch_id]
                self.delivered += instruction.delivered
                self.dead += len(instruction.dead.indexes)
            case Defer():
                self.deferred += 1
            case Send():
                self._send(instruction)

    def _write(self, write: Callable[[], list[Stimulus]]) -> None:
        """Make it durable, after all that was asked before."""
        self._writes.append(write)
        if len(self._writes) == 1:
            self._time.after(self._chance.randint(*_COMMIT_MS), self._commit)

    def _commit(self) -> None:
        told = [stimulus for write in self._writes for stimulus in write()]
        self._writes.clear()
        for stimulus in told:
            self.feed(stimulus)

    def _sealed(self, seal: Seal) -> list[Stimulus]:
        for change in seal.left:
            if self._room.get(change.user_id) is change:
                del self._room[change.user_id]
        return [Persisted(batch.id) for batch in seal.batches]

    def _parked(self, park: Park) -> list[Stimulus]:
        before = len(self._room)
        for change in park.changes:
            if self._room.pop(change.user_id, None) is None:
                self._room[change.user_id] = change
        return [Parked(len(self._room) - before, self._due_ms())]

    def _fetched(self, limit: int) -> list[Stimulus]:
        found = tuple(change for change, _ in zip(self._room.values(), range(limit), strict=False))
        return [Fetched(found, self._due_ms() if len(self._room) > len(found) else NEVER)]

    def _due_ms(self) -> int:
        return START_MS if self._room else NEVER

    def _send(self, send: Send) -> None:
        changes = self._rows[send.batch_id]
        began_ms = self._time.now_ms
        self.impatient += began_ms < self._asked_to_wait_ms
        self.sent.append((began_ms, len(changes), send.attempt))

        def answered(outcomes: tuple[Outcome, ...], answer: Answer) -> None:
            now_ms = self._time.now_ms
            waits_ms = [outcome.after_ms or 0 for outcome in outcomes if isinstance(outcome, Retry)]
            self._asked_to_wait_ms = max(self._asked_to_wait_ms, now_ms + max(waits_ms, default=0))
            self.feed(Answered(send.batch_id, outcomes, float(now_ms - began_ms)))

        self._there.send(self._config.sync, changes, answered)
