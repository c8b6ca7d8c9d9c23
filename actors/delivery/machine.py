"""One sync, as a deterministic machine: stimuli and a time in, instructions out.

Laws (interfaces.md "Syncs", semantics.md §3):

- A batch is sent only after it is durable, and every attempt is of the same durable batch.
- A user's later change is never in flight while an earlier one of theirs is unanswered.
- A cursor passes a change only when it is in a durable batch or needs no sending.
- While the audience is paused nothing is sent; afterwards, what the pause comes to, once per user.

No clock, no randomness, no files: `now_ms` is UTC ms and given, jitter is injected, time that goes back is harmless.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Literal

from actors.delivery.batching import Pending, cut
from actors.delivery.changes import Change, Cursors
from actors.delivery.instructions import (
    Defer,
    Halt,
    HaltState,
    Hold,
    Instruction,
    MoveCursors,
    NewBatch,
    Seal,
    Send,
    Settle,
    Split,
)
from actors.delivery.outbox import Outbox, OutboxBatch
from actors.delivery.rate_limit import TokenBucket
from actors.delivery.retries import next_attempt_ms
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Configured,
    Draining,
    Opened,
    Persisted,
    Revived,
    Stimulus,
    StoredBatch,
    SyncConfig,
)
from cluster.limits import SYNC_BATCHES_MAX, SYNC_CONCURRENCY_MAX, SYNC_PENDING_MAX
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Outcome, Permanent, Retry, Skipped

#: "Nothing will happen by time alone."
NEVER: Final = 2**63 - 1
#: Batches on their first way beyond those in flight: the next ones become durable while these travel.
_SEALED_AHEAD: Final = 2
#: Batches that what is pending may make: net changes are sealed all at once.
_PENDING_BATCHES_MAX: Final = 500
#: How often a cursor that moves past nothing but other audiences' changes is written.
_CURSOR_EVERY_MS: Final = 1_000


def batch_id(sync: str, incarnation: int, order: int) -> str:
    """Give a batch's `webhook-id`: the same after every crash, another for every batch of every sync ever."""
    return _message_id(f"{sync}\0{incarnation}\0{order}")


def part_id(whole_id: str, part: Literal["rest", "dead"]) -> str:
    """Give the id of a part of a batch: other contents never travel under the same id."""
    return _message_id(f"{whole_id}\0{part}")


class SyncMachine:
    """The only place where a sync's state changes.

    `incarnation` tells a sync from an earlier one of the same id; `next_order`, `held`, `halted` and `batches` are
    what the store had. `jitter` gives numbers in [0, 1).
    """

    def __init__(
        self,
        config: SyncConfig,
        *,
        bucket: TokenBucket,
        jitter: Callable[[], float],
        incarnation: int,
        next_order: int = 0,
        held: bool = False,
        halted: HaltState = "",
        halt_reason: str = "",
        batches: Sequence[StoredBatch] = (),
    ) -> None:
        self._config = config
        self._bucket = bucket
        self._jitter = jitter
        self._incarnation = incarnation
        self._next_order = next_order
        self._held = held
        self._halted: HaltState = halted
        self._reason = halt_reason
        self._failing = False
        self._draining = False
        #: Evaluators of which everything that there was has been read.
        self._at_head: set[int] = set()
        #: While held and not paused: evaluators whose changes made during the pause are not all read yet.
        self._behind: set[int] = set(config.evaluators if held and not config.paused else ())
        self._throttled_until_ms = 0
        self._outbox = Outbox()
        self._pending = Pending(net=held or config.deliver == "state")
        self._cursors_written: Cursors = {}
        self._cursors_written_ms = 0
        for stored in sorted(batches, key=lambda batch: batch.order):
            self._restore(stored)

    # --- what others may ask -----------------------------------------------------------------------

    @property
    def state(self) -> str:
        """`running`, `failing` (the last attempt did), `paused`, `credentials` or `disabled`."""
        if self._halted:
            return self._halted
        if self._config.paused:
            return "paused"
        return "failing" if self._failing else "running"

    @property
    def reason(self) -> str:
        """Why the last attempt failed, empty where it did not."""
        return self._reason

    @property
    def backlog(self) -> int:
        """Changes read and not finished; what is still in the evaluators' logs is not counted."""
        return len(self._pending) + self._outbox.record_count

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return self._outbox.in_flight

    @property
    def may_read(self) -> bool:
        """Whether more changes may be read now."""
        return not self._draining and not self._halted and self._has_room()

    def next_wake_ms(self, now_ms: int) -> int:
        """Give the earliest time at which a `Tick` may do something, or NEVER. It may be in the past."""
        if self._draining or self._halted or self._config.paused:
            return NEVER
        wakes = [NEVER]
        if len(self._pending) and self._may_seal():
            wakes.append(now_ms if self._due(now_ms) else self._pending.since_ms + self._config.batch_age_ms)
        if self._outbox.in_flight < SYNC_CONCURRENCY_MAX:
            ready = [batch.next_attempt_ms for batch in self._outbox if _can_go(batch)]
            if ready:
                wakes.append(max(min(ready), self._throttled_until_ms, now_ms + self._bucket.wait_ms(now_ms)))
        return min(wakes)

    def reserve_orders(self, count: int) -> int:
        """Keep `count` orders free for batches that will come as `Revived`; gives the first."""
        first = self._next_order
        self._next_order += count
        return first

    # --- what happens ------------------------------------------------------------------------------

    def handle(self, stimulus: Stimulus, now_ms: int) -> list[Instruction]:
        """Take one stimulus and give what is to be done, in order."""
        out: list[Instruction] = []
        match stimulus:
            case Opened():
                self._pending.open(stimulus.evaluator, stimulus.cursor)
                self._cursors_written = {**self._cursors_written, stimulus.evaluator: stimulus.cursor}
            case Changes():
                self._changes(stimulus, now_ms)
            case Persisted():
                self._persisted(stimulus)
            case Answered():
                self._answered(stimulus, now_ms, out)
            case Configured():
                self._configured(stimulus, out)
            case Revived():
                self._revived(stimulus, out)
            case Draining():
                self._draining = True
        if not self._draining:
            self._begin_hold(out)
            self._seal(now_ms, out)
            self._end_hold(out)
            self._move_cursors(now_ms, out)
            self._send(now_ms, out)
        return out

    def _changes(self, stimulus: Changes, now_ms: int) -> None:
        self._pending.add(stimulus.evaluator, stimulus.changes, stimulus.position, now_ms)
        if stimulus.at_head:
            self._behind.discard(stimulus.evaluator)
            self._at_head.add(stimulus.evaluator)
        else:
            self._at_head.discard(stimulus.evaluator)

    def _persisted(self, stimulus: Persisted) -> None:
        batch = self._outbox[stimulus.batch_id]
        batch.phase = "waiting"
        if stimulus.dropped:
            self._outbox.keep_only(
                batch, [index for index in range(len(batch.users)) if index not in stimulus.dropped]
            )

    def _configured(self, stimulus: Configured, out: list[Instruction]) -> None:
        was_paused = self._config.paused
        self._config = stimulus.config
        self._bucket = stimulus.bucket
        if was_paused and not stimulus.config.paused:
            self._behind = set(stimulus.config.evaluators) - self._at_head
        self._behind &= set(stimulus.config.evaluators)
        if stimulus.mended:
            self._mend(out)

    def _revived(self, stimulus: Revived, out: list[Instruction]) -> None:
        self._mend(out)
        for stored in stimulus.batches:
            self._restore(stored)

    def _mend(self, out: list[Instruction]) -> None:
        self._throttled_until_ms = 0
        for batch in self._outbox:
            # A halt may have lasted longer than a batch is tried: its time starts anew.
            if batch.phase != "in_flight":
                batch.attempts, batch.first_attempt_ms, batch.next_attempt_ms = 0, 0, 0
        if self._halted:
            self._halted, self._reason = "", ""
            out.append(Halt("", ""))

    def _restore(self, stored: StoredBatch) -> None:
        batch = OutboxBatch(
            stored.id, stored.order, stored.users, "waiting", stored.attempts, stored.first_attempt_ms,
            stored.next_attempt_ms,
        )  # fmt: skip
        self._outbox.add(batch)
        self._next_order = max(self._next_order, stored.order + 1)

    # --- holding -----------------------------------------------------------------------------------

    def _begin_hold(self, out: list[Instruction]) -> None:
        if self._config.paused and not self._held:
            self._held = True
            out.append(Hold(True))
        if self._held or self._config.deliver == "state":
            self._pending.go_net()

    def _end_hold(self, out: list[Instruction]) -> None:
        """Once the pause's changes are all in batches (or came to nothing), every change counts again."""
        if self._held and not self._config.paused and not self._behind and not len(self._pending):
            self._held = False
            out.append(Hold(False))
        if not self._held and self._config.deliver == "changes" and self._pending.net and not len(self._pending):
            self._pending.go_in_order()

    # --- sealing -----------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """True up to half of SYNC_PENDING_MAX (the other half takes reads under way) and a sane number of batches."""
        return len(self._pending) <= min(SYNC_PENDING_MAX // 2, _PENDING_BATCHES_MAX * self._config.batch_records)

    def _may_seal(self) -> bool:
        if self._halted or self._config.paused or len(self._outbox) >= SYNC_BATCHES_MAX:
            return False
        if self._held and self._behind and self._has_room():
            return False
        return sum(batch.fresh for batch in self._outbox) < SYNC_CONCURRENCY_MAX + _SEALED_AHEAD

    def _due(self, now_ms: int) -> bool:
        count = len(self._pending)
        if not count or count >= self._config.batch_records:
            return count > 0
        # A clock that was set back must not make anybody wait.
        return not 0 <= now_ms - self._pending.since_ms < self._config.batch_age_ms

    def _seal(self, now_ms: int, out: list[Instruction]) -> None:
        while self._due(now_ms) and self._may_seal():
            changes = self._pending.take(self._config.batch_records, now_ms)
            if self._config.on_exit == "nothing":
                changes = [change for change in changes if change.kind == "entered"]
            if changes:
                self._cursors_written = self._pending.cursors()
                self._cursors_written_ms = now_ms
                batches = tuple(self._new_batch(part) for part in cut(changes, self._config.batch_records))
                out.append(Seal(batches, self._cursors_written))

    def _new_batch(self, changes: Sequence[Change]) -> NewBatch:
        order = self._next_order
        self._next_order += 1
        new = NewBatch(batch_id(self._config.sync, self._incarnation, order), order, changes)
        self._outbox.add(OutboxBatch(new.id, order, tuple(change.user_id for change in changes), "sealing"))
        return new

    def _move_cursors(self, now_ms: int, out: list[Instruction]) -> None:
        if 0 <= now_ms - self._cursors_written_ms < _CURSOR_EVERY_MS:
            return
        cursors = self._pending.cursors()
        moved = {ev: seq for ev, seq in cursors.items() if self._cursors_written.get(ev) != seq}
        if moved:
            self._cursors_written = {**self._cursors_written, **moved}
            self._cursors_written_ms = now_ms
            out.append(MoveCursors(moved))

    # --- sending -----------------------------------------------------------------------------------

    def _send(self, now_ms: int, out: list[Instruction]) -> None:
        if self._halted or self._config.paused or now_ms < self._throttled_until_ms:
            return
        for batch in list(self._outbox):
            if self._outbox.in_flight >= SYNC_CONCURRENCY_MAX:
                return
            if not batch.users and _can_go(batch):
                self._outbox.finish(batch)
                continue
            if not _can_go(batch) or batch.next_attempt_ms > now_ms:
                continue
            if not self._bucket.take(now_ms):
                return
            batch.phase = "in_flight"
            batch.attempts += 1
            batch.first_attempt_ms = batch.first_attempt_ms or now_ms
            self._outbox.in_flight += 1
            out.append(Send(batch.id, batch.attempts, batch.first_attempt_ms))

    def _answered(self, stimulus: Answered, now_ms: int, out: list[Instruction]) -> None:
        batch = self._outbox[stimulus.batch_id]
        outcomes = stimulus.outcomes
        assert len(outcomes) == len(batch.users), "one outcome per record"
        batch.phase = "waiting"
        self._outbox.in_flight -= 1
        reason = next((outcome.reason for outcome in outcomes if not isinstance(outcome, Delivered | Skipped)), "")
        self._failing = bool(reason)
        self._reason = reason or (self._reason if self._halted else "")
        stop = _first_stop(outcomes)
        if stop is not None:
            self._halt(stop, out)
        self._divide(batch, outcomes, reason, now_ms, out)

    def _halt(self, stop: Credentials | Gone, out: list[Instruction]) -> None:
        # Gone outweighs credentials: a disabled sync stays disabled whatever late answers say.
        state: HaltState = "disabled" if isinstance(stop, Gone) or self._halted == "disabled" else "credentials"
        if state != self._halted:
            self._halted = state
            self._reason = stop.reason
            out.append(Halt(state, stop.reason))

    def _divide(
        self, batch: OutboxBatch, outcomes: Sequence[Outcome], reason: str, now_ms: int, out: list[Instruction]
    ) -> None:
        """Sort the records into delivered, dead and kept, and say what becomes of the batch."""
        again_ms = self._again_ms(batch, outcomes, now_ms)
        kept: list[int] = []
        dead: list[int] = []
        kept_users: set[str] = set()
        for index, (user, outcome) in enumerate(zip(batch.users, outcomes, strict=True)):
            if isinstance(outcome, Permanent | Divide) or (isinstance(outcome, Retry) and again_ms is None):
                dead.append(index)
            elif not isinstance(outcome, Delivered | Skipped) or user in kept_users:
                # What was taken out of a user's order goes again behind the earlier change: the last one counts.
                kept.append(index)
                kept_users.add(user)
        delivered = len(outcomes) - len(kept) - len(dead)
        if not kept:
            out.append(Settle(batch.id, batch.attempts, delivered, tuple(dead), reason))
            self._outbox.finish(batch)
            return
        batch.next_attempt_ms = now_ms if again_ms is None else again_ms
        if len(kept) == len(outcomes):
            out.append(
                Defer(
                    batch.id, batch.attempts, batch.first_attempt_ms, batch.next_attempt_ms,
                    _failure_word(_first_stop(outcomes)), reason,
                )
            )  # fmt: skip
            return
        self._split(batch, kept, dead, delivered, reason, out)

    def _again_ms(self, batch: OutboxBatch, outcomes: Sequence[Outcome], now_ms: int) -> int | None:
        """When the records to be tried again are; None: their attempts are used up (or there are none)."""
        retry = next((outcome for outcome in outcomes if isinstance(outcome, Retry)), None)
        if retry is None:
            return None
        if retry.after_ms:
            self._throttled_until_ms = max(self._throttled_until_ms, now_ms + retry.after_ms)
        return next_attempt_ms(retry, batch.attempts, batch.first_attempt_ms, now_ms, self._jitter())

    def _split(
        self,
        batch: OutboxBatch,
        kept: list[int],
        dead: list[int],
        delivered: int,
        reason: str,
        out: list[Instruction],
    ) -> None:
        old_id = batch.id
        new_id = part_id(old_id, "rest")
        self._outbox.rename(batch, new_id)
        self._outbox.keep_only(batch, kept)
        batch.phase = "sealing"
        out.append(
            Split(
                old_id, new_id, batch.attempts, tuple(kept), delivered, tuple(dead), batch.first_attempt_ms,
                batch.next_attempt_ms, reason,
            )
        )  # fmt: skip


def _message_id(name: str) -> str:
    return "msg_" + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def _first_stop(outcomes: Sequence[Outcome]) -> Credentials | Gone | None:
    return next((outcome for outcome in outcomes if isinstance(outcome, Credentials | Gone)), None)


def _failure_word(stop: Credentials | Gone | None) -> str:
    if stop is None:
        return "retry"
    return "disabled" if isinstance(stop, Gone) else "credentials"


def _can_go(batch: OutboxBatch) -> bool:
    return batch.phase == "waiting" and batch.waits_on == 0
