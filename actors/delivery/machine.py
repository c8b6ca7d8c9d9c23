"""One sync, as a deterministic machine: stimuli and a time in, instructions out.

Laws (interfaces.md "Syncs", semantics.md §3):

- A batch is sent only after it is durable, and every attempt is of the same durable batch.
- A user's later change is never in flight while an earlier one of theirs is unanswered.
- A cursor passes a change only when it is in a durable batch or needs no sending.
- While the audience is paused nothing is sent; afterwards, what the pause comes to, once per user.
- A dead letter that comes back stands behind every batch that was sealed before it.

No clock, no randomness, no files: `now_ms` is UTC ms and given, jitter is injected, time that goes back is harmless.

Parts: `intake` (what waits for a batch), `outbox` (batches and their order), `gate` (when a request may go),
`dividing` and `concluding` (what an answer makes of a batch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.delivery.batching import cut
from actors.delivery.bounds import REFUSED_ALONE_MAX, REVIVED_AT_ONCE, SEALED_AHEAD
from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change
from actors.delivery.concluding import conclude
from actors.delivery.dividing import distinct, divide, first_retry, first_stop, health, sound
from actors.delivery.gate import Gate
from actors.delivery.ids import batch_id
from actors.delivery.instructions import Halt, HaltState, Instruction, NewBatch, Revive, Seal, Send
from actors.delivery.intake import Intake
from actors.delivery.outbox import ORDER_SPAN, Outbox, OutboxBatch
from actors.delivery.retries import next_attempt_ms
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Configured,
    Draining,
    Fetched,
    Opened,
    Parked,
    Persisted,
    RetryAsked,
    Revived,
    Shares,
    Stimulus,
    StoredBatch,
    Suspended,
    SyncConfig,
)
from cluster.limits import SYNC_BATCHES_MAX
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Outcome, Skipped


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the store had of a sync; `incarnation` tells it from an earlier one of the same id.

    `next_order` is beyond every stored batch's. `reviving`: somebody asked for dead letters that are not back yet.
    """

    incarnation: int
    next_order: int = 0
    held: bool = False
    suspended: bool = False
    halted: HaltState = ""
    halt_reason: str = ""
    reviving: bool = False
    batches: Sequence[StoredBatch] = ()
    #: Changes that wait on disk, and when the first of them is due.
    room_count: int = 0
    room_due_ms: int = NEVER


class SyncMachine:
    """The only place where a sync's state changes. `jitter` gives numbers in [0, 1)."""

    def __init__(
        self, config: SyncConfig, shares: Shares, recovered: Recovered, *, jitter: Callable[[], float]
    ) -> None:
        self._config = config
        self._jitter = jitter
        self._incarnation = recovered.incarnation
        self._next_order = recovered.next_order
        self._reason = recovered.halt_reason
        self._failing = False
        self._draining = False
        #: Users of whom a record was refused alone since one of anybody was accepted.
        self._refused_alone: set[str] = set()
        self._dead_letters_wanted = recovered.reviving
        self._reviving = False
        self._gate = Gate(shares, config.in_flight_max)
        self._gate.halted = recovered.halted
        self._gate.suspended = recovered.suspended
        self._gate.paused = config.paused
        self._intake = Intake(
            config, held=recovered.held, room_count=recovered.room_count, room_due_ms=recovered.room_due_ms
        )
        self._outbox = Outbox()
        for stored in sorted(recovered.batches, key=lambda batch: batch.order):
            self._restore(stored)

    # --- what others may ask -----------------------------------------------------------------------

    @property
    def state(self) -> str:
        """What `usher syncs` shows.

        `running`, `failing` (the last attempt did), `down` (the destination counts as down and is probed), `paused`
        (the audience or the sync is), `credentials`, `disabled` or `refused` (see REFUSED_ALONE_MAX).
        """
        if self._gate.halted:
            return self._gate.halted
        if self._gate.paused or self._gate.suspended:
            return "paused"
        if not self._gate.breaker.closed:
            return "down"
        return "failing" if self._failing else "running"

    @property
    def reason(self) -> str:
        """Why the last attempt failed, empty where it did not."""
        return self._reason

    @property
    def backlog(self) -> int:
        """Changes read and not finished; what is still in the evaluators' logs is not counted."""
        return len(self._intake) + self._outbox.record_count

    @property
    def pending(self) -> int:
        """Changes in memory and in no batch."""
        return self._intake.pending

    @property
    def oldest_at_ms(self) -> int | None:
        """When the oldest change in memory and in no batch happened, UTC ms; None where there is none. O(changes)."""
        return self._intake.oldest_at_ms

    @property
    def next_order(self) -> int:
        """Whatever is sealed from now on has this order or a later one."""
        return self._next_order

    @property
    def oldest_order(self) -> int:
        """The order of the oldest unfinished batch, NEVER where there is none."""
        return min((batch.order for batch in self._outbox), default=NEVER)

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return self._outbox.in_flight

    @property
    def concurrency(self) -> int:
        """Requests that may be without an answer now."""
        return self._gate.concurrency

    @property
    def may_read(self) -> bool:
        """Whether more changes may be read now."""
        return not self._draining and not self._gate.halted and self._intake.has_room

    def next_wake_ms(self, now_ms: int) -> int:
        """Give the earliest time at which a `Tick` may do something, or NEVER. It may be in the past."""
        if self._draining:
            return NEVER
        if self._gate.shut:
            return self._intake.due_ms(now_ms, may_seal=False)
        wake_ms = self._intake.due_ms(now_ms, may_seal=self._may_seal())
        if self._outbox.in_flight >= self._gate.concurrency:
            return wake_ms
        going = [(self._gate.ready_ms(batch), batch.order, batch) for batch in self._outbox if batch.may_go]
        if going:
            wake_ms = min(wake_ms, self._gate.go_ms(min(going)[2], now_ms))
        return wake_ms

    # --- what happens ------------------------------------------------------------------------------

    def handle(self, stimulus: Stimulus, now_ms: int) -> list[Instruction]:
        """Take one stimulus and give what is to be done, in order."""
        out: list[Instruction] = []
        match stimulus:
            case Opened():
                self._intake.open(stimulus.evaluator, stimulus.cursor)
            case Changes():
                self._intake.read(stimulus, now_ms)
            case Persisted():
                self._persisted(stimulus)
            case Parked():
                self._intake.parked(stimulus)
            case Fetched():
                self._fetched(stimulus, out)
            case Answered():
                self._answered(stimulus, now_ms, out)
            case Configured():
                self._configured(stimulus, out)
            case Suspended():
                self._gate.suspended = stimulus.suspended
            case RetryAsked():
                self._dead_letters_wanted = self._dead_letters_wanted or stimulus.dead_letters
                self._mend(out)
            case Revived():
                self._revived(stimulus)
            case Draining():
                self._draining = True
        if not self._draining:
            self._intake.begin_hold(out)
            self._intake.park(now_ms, out, may_seal=self._may_seal())
            self._seal(now_ms, out)
            self._intake.fetch(now_ms, out, may_seal=self._may_seal())
            self._intake.end_hold(out)
            self._intake.move_cursors(now_ms, out)
            self._revive(out)
            self._send(now_ms, out)
        if self._draining or self._gate.shut:
            self._gate.leave()
        return out

    def close(self) -> None:
        """Give back what the sync holds of shared limits: it is over."""
        self._gate.leave()
        for batch in self._outbox:
            if batch.slots is not None:
                batch.slots.give_back()
                batch.slots = None

    def _persisted(self, stimulus: Persisted) -> None:
        batch = self._outbox[stimulus.batch_id]
        batch.phase = "waiting"
        if stimulus.parts is None:
            return
        if not stimulus.parts:
            self._outbox.keep_only(batch, ())
            return
        self._outbox.replace(batch, [_outbox_batch(part) for part in stimulus.parts])

    def _configured(self, stimulus: Configured, out: list[Instruction]) -> None:
        self._config = stimulus.config
        self._intake.configure(stimulus.config, stimulus.room_due_ms)
        self._gate.paused = stimulus.config.paused
        self._gate.configure(stimulus.shares, stimulus.config.in_flight_max)
        if stimulus.mended:
            self._mend(out)

    def _revived(self, stimulus: Revived) -> None:
        self._reviving = False
        self._dead_letters_wanted = stimulus.more
        for stored in stimulus.batches:
            self._restore(stored)

    def _mend(self, out: list[Instruction]) -> None:
        self._gate.mend()
        self._refused_alone.clear()
        for batch in self._outbox:
            # A halt may have lasted longer than a batch is tried: its time starts anew.
            if batch.phase != "in_flight":
                batch.attempts, batch.first_attempt_ms, batch.next_attempt_ms = 0, 0, 0
        if self._gate.halted:
            self._gate.halted, self._reason = "", ""
            out.append(Halt("", ""))

    def _restore(self, stored: StoredBatch) -> None:
        self._outbox.insert(_outbox_batch(stored))
        self._next_order = max(self._next_order, -(-(stored.order + stored.span) // ORDER_SPAN) * ORDER_SPAN)

    # --- sealing -----------------------------------------------------------------------------------

    def _may_seal(self) -> bool:
        if self._gate.shut or len(self._outbox) >= SYNC_BATCHES_MAX:
            return False
        return sum(batch.fresh for batch in self._outbox) < self._config.in_flight_max + SEALED_AHEAD

    def _seal(self, now_ms: int, out: list[Instruction]) -> None:
        while self._intake.seals(now_ms) and self._may_seal():
            changes, cursors = self._intake.take(now_ms)
            if changes:
                batches = tuple(self._new_batch(part) for part in cut(changes, self._config.batch_records))
                out.append(Seal(batches, cursors))

    def _fetched(self, stimulus: Fetched, out: list[Instruction]) -> None:
        """Seal what came back from disk; what is not to be sent leaves it all the same."""
        changes = self._intake.fetched(stimulus)
        if stimulus.changes:
            batches = tuple(self._new_batch(part) for part in cut(changes, self._config.batch_records))
            out.append(Seal(batches, {}, stimulus.changes))

    def _new_batch(self, changes: Sequence[Change]) -> NewBatch:
        order = self._next_order
        self._next_order += ORDER_SPAN
        new = NewBatch(batch_id(self._config.sync, self._incarnation, order // ORDER_SPAN), order, changes)
        self._outbox.add(OutboxBatch(new.id, order, tuple(change.user_id for change in changes), "sealing"))
        return new

    def _revive(self, out: list[Instruction]) -> None:
        """Ask for dead letters while there is room; the orders are kept free, for what is sealed next goes behind."""
        if self._dead_letters_wanted and not self._reviving and self._may_seal():
            self._reviving = True
            out.append(Revive(self._next_order, REVIVED_AT_ONCE))
            self._next_order += REVIVED_AT_ONCE * ORDER_SPAN

    # --- sending -----------------------------------------------------------------------------------

    def _send(self, now_ms: int, out: list[Instruction]) -> None:
        if self._gate.shut:
            return
        for batch in list(self._outbox):
            if self._outbox.in_flight >= self._gate.concurrency:
                return
            if not batch.may_go:
                continue
            if not batch.users:
                self._outbox.finish(batch)
            elif self._gate.open_for(batch, self._outbox.in_flight, now_ms):
                batch.phase = "in_flight"
                batch.attempts += 1
                batch.first_attempt_ms = batch.first_attempt_ms or now_ms
                self._outbox.in_flight += 1
                out.append(Send(batch.id, batch.attempts, batch.first_attempt_ms))

    def _answered(self, stimulus: Answered, now_ms: int, out: list[Instruction]) -> None:
        batch = self._outbox[stimulus.batch_id]
        in_flight = self._outbox.in_flight
        batch.phase = "waiting"
        self._outbox.in_flight -= 1
        outcomes = sound(stimulus.outcomes, learned=stimulus.learned)
        kinds = distinct(outcomes)
        told = health(kinds)
        if self._gate.answered(batch, told, stimulus.latency_ms, in_flight, now_ms, self._jitter()):
            self._try_at_once(now_ms)
        if stimulus.quiet_ms:
            self._gate.quiet(now_ms + stimulus.quiet_ms)
        stop = first_stop(kinds)
        if stop is not None:
            self._halt(stop, out)
        again_ms = self._again_ms(batch, kinds, now_ms)
        verdict = divide(batch.users, outcomes, gives_up=again_ms is None)
        self._count_refused(batch.users, outcomes, out)
        self._failing = bool(verdict.reason)
        if not self._gate.halted:
            self._reason = verdict.reason
        next_ms = now_ms if again_ms is None else again_ms
        out.append(conclude(self._outbox, batch, verdict, stop, next_ms))

    def _try_at_once(self, now_ms: int) -> None:
        """The destination works again: what waited for its next attempt because it did not need not wait longer."""
        for batch in self._outbox:
            batch.next_attempt_ms = min(batch.next_attempt_ms, now_ms)

    def _halt(self, stop: Credentials | Gone, out: list[Instruction]) -> None:
        # Gone outweighs credentials: a disabled sync stays disabled whatever late answers say.
        state: HaltState = "disabled" if isinstance(stop, Gone) or self._gate.halted == "disabled" else "credentials"
        self._stop(state, stop.reason, out)

    def _count_refused(self, users: Sequence[str], outcomes: Sequence[Outcome], out: list[Instruction]) -> None:
        """Stop where user after user is refused alone: to divide on would cost a request for each, for nothing."""
        if any(isinstance(outcome, Delivered | Skipped) for outcome in outcomes):
            self._refused_alone.clear()
        elif len(outcomes) == 1 and isinstance(outcomes[0], Divide):
            self._refused_alone.add(users[0])
            if len(self._refused_alone) >= REFUSED_ALONE_MAX and not self._gate.halted:
                count = len(self._refused_alone)
                reason = f"{count} users in a row were refused alone, the last: {outcomes[0].reason}"
                self._stop("refused", reason, out)

    def _stop(self, state: HaltState, reason: str, out: list[Instruction]) -> None:
        if state != self._gate.halted:
            self._gate.halted = state
            self._reason = reason
            out.append(Halt(state, reason))

    def _again_ms(self, batch: OutboxBatch, outcomes: Sequence[Outcome], now_ms: int) -> int | None:
        """When the records to be tried again are; None: their attempts are used up (or there are none)."""
        retry = first_retry(outcomes)
        if retry is None:
            return None
        if retry.after_ms:
            self._gate.throttle(now_ms + retry.after_ms)
        return next_attempt_ms(retry, batch.attempts, batch.first_attempt_ms, now_ms, self._jitter())


def _outbox_batch(stored: StoredBatch) -> OutboxBatch:
    return OutboxBatch(
        stored.id, stored.order, stored.users, "waiting", stored.attempts, stored.first_attempt_ms,
        stored.next_attempt_ms, stored.span,
    )  # fmt: skip
