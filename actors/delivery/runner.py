"""One sync at work: performs its machine's instructions and tells it what came of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from actors.delivery.attempts import Attempts
from actors.delivery.breaker import NEVER
from actors.delivery.desk import Desk
from actors.delivery.followups import FollowUps
from actors.delivery.instructions import (
    Defer,
    Fetch,
    Halt,
    Hold,
    Instruction,
    MoveCursors,
    Park,
    Revive,
    Seal,
    Send,
    Settle,
    Split,
)
from actors.delivery.machine import SyncMachine
from actors.delivery.plans import SyncPlan
from actors.delivery.reader import Reader
from actors.delivery.rows import Later
from actors.delivery.stimuli import Configured, Draining, RetryAsked, Shares, Stimulus, Suspended, Tick
from actors.delivery.store import DeliveryStore
from actors.delivery.strays import Strays
from actors.delivery.sync_log import SyncLog
from actors.delivery.tokens import Tokens
from actors.delivery.transport import HttpTransport
from actors.delivery.upkeep import TraitChanges, Upkeep
from actors.delivery.writer import TraitLookup, Writer
from cluster.clock import Clock
from cluster.runtime.protocols import Evaluator

#: The longest a timer is set for; a clock that is set back is noticed after so long.
_TIMER_MAX_S: Final = 60.0

_log = logging.getLogger(__name__)


class SyncRunner:
    """Everything here runs in one event loop; the machine is only touched by `feed`."""

    def __init__(
        self,
        desk: Desk,
        machine: SyncMachine,
        *,
        store: DeliveryStore,
        log: SyncLog,
        transport: HttpTransport,
        tokens: Tokens,
        traits: TraitLookup,
        clock: Clock,
        trait_changes: TraitChanges,
        evaluators: Mapping[int, Evaluator],
        jitter: Callable[[], float],
        later: Later,
        began_ms: int,
    ) -> None:
        self.desk = desk
        self.machine = machine
        #: Why the sync cannot go on at all (a bug, or its file is damaged), empty while it can.
        self.broken = ""
        self._store = store
        self._log = log
        self._clock = clock
        self._evaluators = evaluators
        self._writer = Writer(
            desk, store=store, log=log, traits=traits, clock=clock, feed=self.feed, broke=self._break
        )
        self._attempts = Attempts(
            desk, store=store, log=log, tokens=tokens, transport=transport, clock=clock
        )
        self._follow_ups = FollowUps(desk, self._attempts, store=store, log=log, clock=clock, jitter=jitter)
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers: dict[int, tuple[Reader, asyncio.Task[None]]] = {}
        #: How far each evaluator was read.
        self._reached: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._may_read = asyncio.Event()
        self._available = asyncio.Event()
        self._stopped = False
        self._ending = False
        #: What runs as long as the sync does, beside its readers.
        self._standing: list[asyncio.Task[None]] = []
        strays = Strays(desk, self._attempts, store=store, log=log, clock=clock, jitter=jitter)
        self.upkeep = Upkeep(
            desk, machine, self._attempts, strays, later, store=store, clock=clock, traits=traits,
            changes=trait_changes, may_read=self._may_read, feed=self.feed, read_members=self._read_members,
            jitter=jitter, began_ms=began_ms,
        )  # fmt: skip

    @property
    def ending(self) -> bool:
        """Whether definitions have the sync no more."""
        return self._ending

    @property
    def sweeps(self) -> bool:
        """Whether its members' identifiers come from columns, which change."""
        return bool(self.plan.identifier_columns) and not self._ending

    @property
    def plan(self) -> SyncPlan:
        """The definitions that it works under."""
        return self.desk.plan

    # --- from outside ------------------------------------------------------------------------------

    def start(self, shares: Shares, *, ending: bool = False) -> None:
        """Begin reading and sending; what is `ending` reads no more, see `end`."""
        self._ending = ending
        self._attempts.aside, self._attempts.listing = shares.aside, shares.listing
        self._follow_plan()
        for work in (self._follow_ups.run(), self.upkeep.run()):
            self._standing.append(self._guarded(work))
        self.feed(Tick())

    async def configure(self, plan: SyncPlan, shares: Shares, *, mended: bool) -> None:
        """Take changed definitions; the sync's identity is the same."""
        room_due_ms = None
        if self.plan.config.flaps is not None and plan.config.flaps is None:
            # Nothing holds back any more what flap control held.
            room_due_ms = await self._store.room.release(plan.sync.id, self._clock.now_ms())
        self.desk.plan = plan
        self._attempts.aside, self._attempts.listing = shares.aside, shares.listing
        self.feed(Configured(plan.config, shares, mended, room_due_ms))
        self._follow_plan()

    async def suspend(self, suspended: bool) -> None:
        """Pause the sync, or let it go on, also over restarts."""
        await self._store.set_suspended(self.plan.sync.id, suspended)
        self.feed(Suspended(suspended))

    def _read_members(self, resync_ms: int) -> None:
        for reader, _ in self._readers.values():
            reader.resync(resync_ms)

    def end(self, done: Callable[[], None]) -> None:
        """Read no more, do what the end takes, then say so. It goes on after a restart where it was."""
        for _, task in self._readers.values():
            task.cancel()
        self._ending = True
        self.feed(Suspended(False))

        async def work() -> None:
            await self.upkeep.end()
            done()

        self._standing.append(self._guarded(work()))

    async def retry(self) -> int:
        """Send every dead letter again, as there is room; gives how many records."""
        count = await self._store.letters.want(self.plan.sync.id)
        self.feed(RetryAsked(dead_letters=count > 0))
        return count

    def wake(self) -> None:
        """Look soon whether something may be done: something that is shared with other syncs is free."""
        asyncio.get_running_loop().call_soon(self.feed, Tick())

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
        pending = [task for task in (*self._tasks, self._writer.task) if task is not None]
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
        tasks += self._standing if self._writer.task is None else [*self._standing, self._writer.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.machine.close()

    def status(self) -> dict[str, Any]:
        """Give the sync's row of `usher status`."""
        spooled = sum(reader.spooled for reader, _ in self._readers.values())
        unread = "; ".join(reader.failure for reader, _ in self._readers.values() if reader.failure)
        return {
            "id": self.plan.sync.id,
            "backlog": self.machine.backlog + spooled,
            "delivered": self.desk.delivered,
            "failed": self.desk.failed,
            "state": "broken" if self.broken else self.machine.state,
            "reason": self.broken or self.machine.reason or unread,
            "in_flight": self.machine.in_flight,
            "concurrency": self.machine.concurrency,
            "resyncing": bool(self.upkeep.later.resync_ms),
            "ending": self._ending,
        }

    async def oldest_unsent_ms(self) -> int | None:
        """Give the age of the oldest change that is not sent; None where there is none."""
        figures = self.desk.figures
        waiting = [self.desk.batched_since_ms(), figures.floor(self.machine.oldest_at_ms)]
        waiting.append(figures.floor(await self._store.room.first_at_ms(self.plan.sync.id, self.plan.sync.audience)))
        since_ms = min((at_ms for at_ms in waiting if at_ms is not None), default=None)
        return None if since_ms is None else max(0, self._clock.now_ms() - since_ms)

    async def metrics(self) -> dict[str, Any]:
        """Give what /metrics says of the sync."""
        return {
            **self.status(),
            **self.desk.figures.shown(),
            "oldest_unsent_ms": await self.oldest_unsent_ms(),
            "dead_letters": await self._store.letters.count(self.plan.sync.id),
        }

    # --- performing --------------------------------------------------------------------------------

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Seal() | Park() | Fetch() | MoveCursors() | Hold() | Split() | Revive():
                self._writer.put(instruction)
            case Send():
                self._spawn(self._attempt(instruction))
            case Settle():
                self._settle(instruction)
            case Defer():
                self._defer(instruction)
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
        answered, asked = await self._attempts.attempt(self.desk.rows[send.batch_id])
        if asked is not None:
            # Before the batch is forgotten: its result is asked for also after a crash.
            await self._follow_ups.add(asked)
        self.feed(answered)

    def _settle(self, settle: Settle) -> None:
        desk, now_ms = self.desk, self._clock.now_ms()
        row = desk.rows.pop(settle.batch_id)
        attempted = desk.attempted.pop(settle.batch_id)
        dead_count = len(settle.dead.indexes)
        desk.delivered += settle.delivered
        desk.failed += dead_count
        dead = desk.dead_letter(row, settle.dead, settle.attempt, attempted, now_ms)
        lines = desk.lines(row.id, settle.attempt, attempted, now_ms)
        arrived = lines.add_outcomes(row.records, attempted.outcomes, settle.dead, (), settle.dead.reason)
        desk.figures.delivered(arrived, now_ms)
        well = settle.delivered == len(row.records)
        self._log.append(self.plan.sync.id, lines.rows, desk.exchange(attempted, row.records, now_ms, well=well))
        self._watch(self._store.settle(self.plan.sync.id, row.order, settle.delivered, dead))

    def _defer(self, defer: Defer) -> None:
        desk, now_ms = self.desk, self._clock.now_ms()
        row = desk.rows[defer.batch_id]
        attempted = desk.attempted.pop(defer.batch_id)
        lines = desk.lines(row.id, defer.attempt, attempted, now_ms)
        desk.figures.retried += len(row.records) if defer.outcome == "retry" else 0
        lines.add_all(defer.outcome, row.records, attempted.outcomes, defer.reason)
        self._log.append(self.plan.sync.id, lines.rows, desk.exchange(attempted, row.records, now_ms, well=False))
        self._watch(
            self._store.defer(
                self.plan.sync.id, row.order, defer.attempt, defer.first_attempt_ms, defer.next_attempt_ms
            )
        )

    # --- tasks -------------------------------------------------------------------------------------

    def _follow_plan(self) -> None:
        """Have one reader per evaluator, and let new ones start where the audience is ready."""
        if self.plan.available:
            self._available.set()
        else:
            self._available.clear()
        for index in [index for index in self._readers if index not in self.plan.config.evaluators]:
            _, task = self._readers.pop(index)
            task.cancel()
            # It is gone since its end is durably passed, also where it was never read: nobody waits for it.
            self._reached[index] = NEVER
        for index, evaluator in self._evaluators.items() if not self._ending else ():
            if index in self.plan.config.evaluators and index not in self._readers:
                reader = Reader(
                    self.plan, index, evaluator, self._store, self.feed, self._may_read, self._available,
                    self._reached,
                )
                if self.upkeep.later.resync_ms:
                    reader.resync(self.upkeep.later.resync_ms)
                self._readers[index] = (reader, self._guarded(reader.run()))

    def _stop_reading(self) -> None:
        for task in (*(task for _, task in self._readers.values()), *self._standing):
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._guarded(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _guarded(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`; its failure breaks the sync.

        The work is the task itself: what is cancelled before its first step is closed by its task, where a
        coroutine that waits for another would leave that one never awaited.
        """
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
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
        self.machine.close()
