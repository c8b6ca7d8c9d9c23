"""One sync at work: performs its machine's instructions and tells it what came of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from actors.delivery.changes import Change
from actors.delivery.dead_letters import dead_letter
from actors.delivery.instructions import (
    Defer,
    Halt,
    Hold,
    Instruction,
    MoveCursors,
    Seal,
    Send,
    Settle,
    Split,
)
from actors.delivery.machine import NEVER, SyncMachine, part_id
from actors.delivery.plans import SyncPlan, to_records
from actors.delivery.rate_limit import TokenBucket
from actors.delivery.reader import Reader
from actors.delivery.rows import DeadLetter, LogRow, StoredRow
from actors.delivery.stimuli import Answered, Configured, Draining, Persisted, Revived, Stimulus, Tick
from actors.delivery.store import DeliveryStore
from actors.delivery.transport import HttpTransport
from cluster.clock import Clock
from cluster.limits import SYNC_REVIVE_BATCHES_MAX
from cluster.runtime.protocols import Evaluator
from destinations.records import Attempt, Batch, SealedBatch
from destinations.requests import Answer, Request, Response

#: `(parent, keys, columns) -> {column: values}`: each column's values in the order of the keys, None where missing.
TraitLookup: TypeAlias = Callable[[str, list[str], list[str]], Awaitable[Mapping[str, Sequence[Any]]]]

#: The longest a timer is set for; a clock that is set back is noticed after so long.
_TIMER_MAX_S: Final = 60.0
#: Pause before traits are asked for again after the look-up failed.
_LOOKUP_PAUSE_S: Final = 0.5

_log = logging.getLogger(__name__)
_Durable: TypeAlias = Seal | MoveCursors | Hold | Split


class SyncRunner:
    """Everything here runs in one event loop; the machine is only touched by `feed`."""

    def __init__(
        self,
        plan: SyncPlan,
        machine: SyncMachine,
        rows: Sequence[StoredRow],
        *,
        store: DeliveryStore,
        transport: HttpTransport,
        traits: TraitLookup,
        clock: Clock,
        evaluators: Mapping[int, Evaluator],
        counts: tuple[int, int],
    ) -> None:
        self.plan = plan
        self.machine = machine
        self.delivered, self.failed = counts
        #: Why the sync cannot go on at all (a bug, or its file is damaged), empty while it can.
        self.broken = ""
        self._store = store
        self._transport = transport
        self._traits = traits
        self._clock = clock
        self._evaluators = evaluators
        #: Unfinished batches by id: what every attempt sends, and what a dead letter keeps.
        self._rows = {row.id: row for row in rows}
        self._answers: dict[str, tuple[Request, Answer, float]] = {}
        self._to_store: list[_Durable] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sealer: asyncio.Task[None] | None = None
        self._readers: dict[int, tuple[Reader, asyncio.Task[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._may_read = asyncio.Event()
        self._available = asyncio.Event()
        self._stopped = False

    # --- from outside ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin reading and sending."""
        self._follow_plan()
        self.feed(Tick())

    def configure(self, plan: SyncPlan, bucket: TokenBucket, *, mended: bool) -> None:
        """Take changed definitions; the sync's identity is the same."""
        self.plan = plan
        self.feed(Configured(plan.config, bucket, mended))
        self._follow_plan()

    async def retry(self) -> int:
        """Send dead letters again, at most SYNC_REVIVE_BATCHES_MAX batches; gives how many records."""
        # Orders beyond any that the machine may give meanwhile: it goes on behind them.
        order = self.machine.reserve_orders(SYNC_REVIVE_BATCHES_MAX)
        revived = await self._store.revive(self.plan.sync.id, order)
        self._rows.update({row.id: row for row in revived})
        self.feed(Revived(tuple(row.as_batch() for row in revived)))
        return sum(len(row.records) for row in revived)

    def feed(self, stimulus: Stimulus) -> None:
        """Give the machine a stimulus and perform what it says."""
        if self._stopped:
            return
        try:
            for instruction in self.machine.handle(stimulus, self._clock.now_ms()):
                self._perform(instruction)
            self._arm()
        except Exception as error:
            self._break(error)

    async def drain(self, timeout_s: float) -> None:
        """Start nothing more, let what is in flight end within `timeout_s`, then stop."""
        self.feed(Draining())
        self._stop_reading()
        pending = [task for task in (*self._tasks, self._sealer) if task is not None]
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)
        await self.stop()

    async def stop(self) -> None:
        """Stop at once; what was in flight will be sent again under the same id."""
        self._stopped = True
        self._stop_reading()
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._tasks, *(task for _, task in self._readers.values())]
        if self._sealer is not None:
            tasks.append(self._sealer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> dict[str, Any]:
        """Give the sync's row of `usher status`."""
        spooled = sum(reader.spooled for reader, _ in self._readers.values())
        unread = "; ".join(reader.failure for reader, _ in self._readers.values() if reader.failure)
        return {
            "id": self.plan.sync.id,
            "backlog": self.machine.backlog + spooled,
            "delivered": self.delivered,
            "failed": self.failed,
            "state": "broken" if self.broken else self.machine.state,
            "reason": self.broken or self.machine.reason or unread,
            "in_flight": self.machine.in_flight,
        }

    # --- performing --------------------------------------------------------------------------------

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Seal() | MoveCursors() | Hold():
                self._store_next(instruction)
            case Send():
                self._spawn(self._attempt(instruction))
            case Settle():
                self._settle(instruction)
            case Defer():
                self._defer(instruction)
            case Split():
                self._store_next(instruction)
            case Halt():
                self._watch(
                    self._store.set_halt(self.plan.sync.id, instruction.state, instruction.reason)
                )

    def _arm(self) -> None:
        """Set the timer for the machine's next wake, and let readers read where there is room."""
        if self.machine.may_read:
            self._may_read.set()
        else:
            self._may_read.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_ms = self._clock.now_ms()
        wake_ms = self.machine.next_wake_ms(now_ms)
        if wake_ms != NEVER and not self._stopped:
            delay_s = min(max(0.0, (wake_ms - now_ms) / 1000), _TIMER_MAX_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.feed, Tick())

    async def _attempt(self, send: Send) -> None:
        row = self._rows[send.batch_id]
        plan = self.plan
        sealed = SealedBatch(row.id, plan.sync.id, row.body, row.records)
        request = plan.kind.build(plan.settings, sealed, Attempt(self._clock.now_ms(), plan.shape))
        started_ms = self._clock.monotonic_ms()
        answer = await self._transport.send(request)
        self._answers[row.id] = (request, answer, self._clock.monotonic_ms() - started_ms)
        self.feed(Answered(row.id, plan.kind.judge(plan.settings, sealed, request, answer).outcomes))

    def _settle(self, settle: Settle) -> None:
        row = self._rows.pop(settle.batch_id)
        request, answer, latency_ms = self._answers.pop(settle.batch_id)
        self.delivered += settle.delivered
        self.failed += len(settle.dead)
        dead = self._dead_letter(row, settle.dead, settle.attempt, request, answer, settle.reason)
        log = self._log_rows(row.id, settle.attempt, settle.delivered, len(settle.dead), answer, latency_ms,
                             settle.reason)  # fmt: skip
        self._watch(self._store.settle(self.plan.sync.id, row.order, settle.delivered, dead, log))

    def _defer(self, defer: Defer) -> None:
        row = self._rows[defer.batch_id]
        _, answer, latency_ms = self._answers.pop(defer.batch_id)
        log = LogRow(
            self._clock.now_ms(), row.id, len(row.records), defer.outcome, _status(answer), defer.attempt,
            latency_ms, defer.reason,
        )  # fmt: skip
        self._watch(
            self._store.defer(
                self.plan.sync.id, row.id, defer.attempt, defer.first_attempt_ms, defer.next_attempt_ms, log
            )
        )

    def _dead_letter(
        self, row: StoredRow, dead: tuple[int, ...], attempt: int, request: Request, answer: Answer, reason: str
    ) -> DeadLetter | None:
        """Give the dead letter of some of a batch's records; a part of a batch gets bytes and an id of its own."""
        if not dead:
            return None
        plan = self.plan
        lost = replace(row, attempts=attempt)
        if len(dead) < len(row.records):
            records = tuple(row.records[index] for index in dead)
            id_ = part_id(row.id, "dead")
            body = plan.kind.encode(plan.settings, Batch(id_, plan.sync.id, records))
            lost = replace(lost, id=id_, records=records, body=body)
        hidden = (*plan.kind.secrets(plan.settings), *plan.kind.personal(plan.settings, row.records))
        return dead_letter(lost, request, answer, reason, self._clock.now_ms(), hidden)

    def _log_rows(
        self, batch_id: str, attempt: int, delivered: int, dead: int, answer: Answer, latency_ms: float,
        reason: str,
    ) -> list[LogRow]:  # fmt: skip
        now_ms, status = self._clock.now_ms(), _status(answer)
        rows = []
        if delivered:
            rows.append(LogRow(now_ms, batch_id, delivered, "delivered", status, attempt, latency_ms, ""))
        if dead:
            rows.append(LogRow(now_ms, batch_id, dead, "dead", status, attempt, latency_ms, reason))
        return rows

    # --- what must be durable, one after another ---------------------------------------------------

    def _store_next(self, instruction: _Durable) -> None:
        self._to_store.append(instruction)
        if self._sealer is None or self._sealer.done():
            self._sealer = asyncio.get_running_loop().create_task(self._store_all())

    async def _store_all(self) -> None:
        """Store what waits. In order, because a cursor must not pass a batch that is not stored yet.

        The store keeps the order in which it was asked, so what waits together shares a commit.
        """
        try:
            while self._to_store:
                waiting, self._to_store = self._to_store, []
                stored: list[tuple[Awaitable[None], Sequence[Persisted]]] = []
                for instruction in waiting:
                    match instruction:
                        case Seal():
                            stored.append(await self._seal(instruction))
                        case Split():
                            stored.append(self._split(instruction))
                        case MoveCursors():
                            self._watch(self._store.move_cursors(self.plan.sync.id, instruction.cursors))
                        case Hold():
                            self._watch(self._store.set_held(self.plan.sync.id, instruction.held))
                for durable, told in stored:
                    await durable
                    for persisted in told:
                        self.feed(persisted)
        except Exception as error:
            self._break(error)

    async def _seal(self, seal: Seal) -> tuple[Awaitable[None], Sequence[Persisted]]:
        plan = self.plan
        rows: list[StoredRow] = []
        log: list[LogRow] = []
        told: list[Persisted] = []
        for new in seal.batches:
            records, dropped = to_records(plan, new.changes, await self._columns(plan, new.changes))
            told.append(Persisted(new.id, frozenset(dropped)))
            log += self._dropped(new.id, dropped.values())
            if records:
                body = plan.kind.encode(plan.settings, Batch(new.id, plan.sync.id, records))
                rows.append(StoredRow(new.order, new.id, records, body))
        next_order = seal.batches[-1].order + 1
        self.failed += sum(row.count for row in log)
        self._rows.update({row.id: row for row in rows})
        return self._store.seal(plan.sync.id, rows, seal.cursors, next_order, log), told

    def _split(self, split: Split) -> tuple[Awaitable[None], Sequence[Persisted]]:
        plan = self.plan
        row = self._rows.pop(split.batch_id)
        request, answer, latency_ms = self._answers.pop(split.batch_id)
        records = tuple(row.records[index] for index in split.kept)
        body = plan.kind.encode(plan.settings, Batch(split.new_id, plan.sync.id, records))
        rest = StoredRow(
            row.order, split.new_id, records, body, split.attempt, split.first_attempt_ms, split.next_attempt_ms
        )
        dead = self._dead_letter(row, split.dead, split.attempt, request, answer, split.reason)
        log = self._log_rows(row.id, split.attempt, split.delivered, len(split.dead), answer, latency_ms,
                             split.reason)  # fmt: skip
        log.append(
            LogRow(self._clock.now_ms(), rest.id, len(records), "retry", _status(answer), split.attempt,
                   latency_ms, split.reason)
        )  # fmt: skip
        self.delivered += split.delivered
        self.failed += len(split.dead)
        self._rows[rest.id] = rest
        durable = self._store.settle(plan.sync.id, row.order, split.delivered, dead, log, rest)
        return durable, [Persisted(rest.id)]

    def _dropped(self, batch_id: str, reasons: Iterable[str]) -> list[LogRow]:
        now_ms = self._clock.now_ms()
        counts = Counter(reasons)
        return [LogRow(now_ms, batch_id, count, "dropped", None, 0, None, why) for why, count in counts.items()]

    async def _columns(self, plan: SyncPlan, changes: Sequence[Change]) -> Mapping[str, Sequence[Any]]:
        """Look the traits up; a look-up that fails is tried until it works, for a guess would be delivered."""
        if not plan.columns:
            return {}
        while True:
            try:
                return await self._traits(
                    plan.parent.id, [change.user_id for change in changes], list(plan.columns)
                )
            except Exception as error:
                # Whatever ails the trait side (a file being replaced, an actor restarting) passes or is seen there.
                _log.warning("sync %s cannot look up traits of %s: %s", plan.sync.id, plan.parent.id, error)
                await asyncio.sleep(_LOOKUP_PAUSE_S)

    # --- tasks -------------------------------------------------------------------------------------

    def _follow_plan(self) -> None:
        """Have one reader per evaluator, and let new ones start where the audience is ready."""
        if self.plan.available:
            self._available.set()
        else:
            self._available.clear()
        for index, evaluator in self._evaluators.items():
            if index in self.plan.config.evaluators and index not in self._readers:
                reader = Reader(
                    self.plan, index, evaluator, self._store, self.feed, self._may_read, self._available
                )
                task = asyncio.get_running_loop().create_task(self._read(reader))
                self._readers[index] = (reader, task)

    async def _read(self, reader: Reader) -> None:
        try:
            await reader.run()
        except Exception as error:
            self._break(error)

    def _stop_reading(self) -> None:
        for _, task in self._readers.values():
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self._break(error)

    def _watch(self, write: Awaitable[None]) -> None:
        """Let a write become durable later; nothing waits for it, but its failure stops the sync."""

        async def wait() -> None:
            await write

        self._spawn(wait())

    def _break(self, error: Exception) -> None:
        """Stop this sync alone: nothing more is sent that might be wrong, and status says why."""
        if not self.broken:
            _log.exception("sync %s stops", self.plan.sync.id, exc_info=error)
        self.broken = f"{type(error).__name__}: {error}"
        self._stopped = True
        self._stop_reading()


def _status(answer: Answer) -> int | None:
    return answer.status if isinstance(answer, Response) else None
