"""The syncs that run: started, changed and stopped until they are what the definitions say."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from actors.delivery.bounds import SYNC_LOG_BYTES_MAX, SYNC_LOG_KEEP_MS
from actors.delivery.concurrency import ConcurrencyScopes
from actors.delivery.desk import Desk
from actors.delivery.endings import from_ending, takes_an_end, to_ending
from actors.delivery.figures import Figures
from actors.delivery.machine import Recovered, SyncMachine
from actors.delivery.plans import SyncPlan, plan_syncs
from actors.delivery.rate_limit import RateScopes
from actors.delivery.rows import SyncRow
from actors.delivery.runner import SyncRunner
from actors.delivery.stimuli import Shares
from actors.delivery.store import DeliveryStore
from actors.delivery.sync_log import SyncLog
from actors.delivery.tokens import Tokens
from actors.delivery.transport import HttpTransport
from actors.delivery.upkeep import TraitChanges
from actors.delivery.writer import TraitLookup
from cluster.clock import Clock
from cluster.definitions.model import Definitions
from cluster.runtime.protocols import ClusterState, Evaluator, EvaluatorInfo
from destinations.contract import Kinds

#: How often it is looked whether the traits have another version.
_TRAITS_EVERY_S: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every sync works with."""

    store: DeliveryStore
    log: SyncLog
    transport: HttpTransport
    traits: TraitLookup
    trait_changes: TraitChanges
    clock: Clock
    chance: random.Random
    kinds: Kinds
    evaluator_of: Callable[[EvaluatorInfo], Evaluator]


class Roster:
    """Every sync's runner. What syncs share (limits, tokens) is here."""

    def __init__(self, tools: Tools) -> None:
        self.runners: dict[str, SyncRunner] = {}
        self._tools = tools
        self._tokens = Tokens(tools.transport, tools.clock)
        self._rates = RateScopes()
        self._slots = ConcurrencyScopes()
        #: Evaluators that own users now.
        self.present: tuple[int, ...] = ()
        #: Whether there is a runner for every sync of the definitions: not at a start, nor while they change.
        self.settled = False
        self._evaluators: dict[int, Evaluator] = {}
        #: By sync: what stands for how its identifiers are made.
        self._keys: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def evaluators(self) -> list[Evaluator]:
        """Those that own users now."""
        return [self._evaluators[index] for index in self.present]

    def start(self) -> None:
        """Begin to watch the traits."""
        self._tasks.add(asyncio.get_running_loop().create_task(self._watch_traits(), name="delivery-traits"))

    async def stop(self) -> None:
        """Stop what is done beside the runners, which stop by themselves."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def follow(self, state: ClusterState) -> None:
        """Start, change and stop syncs until they are what the definitions say."""
        if state.published is None:
            return
        self.settled = False
        retired = {one.info.index: one.last_seq for one in state.retired}
        for info in (*state.evaluators, *(one.info for one in state.retired)):
            if info.index not in self._evaluators:
                self._evaluators[info.index] = self._tools.evaluator_of(info)
        self.present = tuple(info.index for info in state.evaluators)
        indexes = (*self.present, *retired)
        settings = state.published.definitions.settings
        self._tools.log.keep_ms = settings.sync_log_keep_ms or SYNC_LOG_KEEP_MS
        self._tools.log.bytes_max = settings.sync_log_bytes_max or SYNC_LOG_BYTES_MAX
        plans = plan_syncs(state.published.definitions, indexes, state.preparing, self._tools.kinds, retired)
        for sync in sorted(set(await self._tools.store.sync_names()) - plans.keys()):
            await self._remove(sync, state.published.definitions)
        for plan in plans.values():
            await self._take(plan)
        self.settled = True

    async def _remove(self, sync: str, definitions: Definitions) -> None:
        """End a sync that definitions no longer have: at once, or once its members are removed or its list archived."""
        runner, row = self.runners.get(sync), await self._tools.store.sync(sync)
        if row is None or (runner is not None and runner.ending):
            return
        text, plan = row.later.ending, None
        if runner is not None and takes_an_end(runner.plan) and not text:
            text = to_ending(runner.plan)
            await runner.upkeep.set_ending(text)
        if text:
            # Settings that this process knows are as good as those that definitions had a moment ago.
            known = None if runner is None else (runner.plan.kind.kind, runner.plan.settings)
            plan = from_ending(text, definitions, self._tools.kinds, known)
        if runner is not None:
            await runner.stop()  # it is seen until its successor is there
        if plan is None:
            if text:
                _log.warning("sync %s cannot be ended: its destination is gone too; its members stay there", sync)
            await self._forget(sync)
            return
        # What waited to be sent is moot: everybody is to leave.
        await self._tools.store.room.clear(sync)
        row = await self._tools.store.sync(sync)
        assert row is not None, "its runner has stopped, and nobody else forgets it"
        runner = self.runners[sync] = await self._run(plan, row, self._shares(plan), ending=True)
        runner.end(lambda: self._forget_soon(sync))

    def _forget_soon(self, sync: str) -> None:
        task = asyncio.get_running_loop().create_task(self._forget(sync))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forget(self, sync: str) -> None:
        runner = self.runners.pop(sync, None)
        if runner is not None:
            await runner.stop()
        for owner in (sync, f"{sync} aside", f"{sync} listing"):
            self._rates.forget(owner)
        await self._tools.store.forget(sync)
        await self._tools.log.forget(sync)

    async def _take(self, plan: SyncPlan) -> None:
        sync = plan.sync.id
        fingerprint = plan.fingerprint(self._tools.store.salt)
        row = await self._tools.store.sync(sync)
        if row is not None and row.identity != plan.identity:
            row = None
        comes_back = row is not None and bool(row.later.ending)
        if row is None or comes_back:
            runner = self.runners.pop(sync, None)
            if runner is not None:
                await runner.stop()
        if row is None:
            await self._tools.store.create(sync, self._tools.clock.now_ms(), plan.identity, fingerprint)
            row = await self._tools.store.sync(sync)
            assert row is not None, "it was just made"
            if plan.remembers:
                # From its first change on, so that nobody has to be told again.
                row = replace(row, later=replace(row.later, remembers=True))
                await self._tools.store.set_later(sync, row.later)
        mended = row.fingerprint != fingerprint
        if mended:
            await self._tools.store.set_fingerprint(sync, fingerprint)
        shares = self._shares(plan)
        if sync in self.runners:
            await self.runners[sync].configure(plan, shares, mended=mended)
        else:
            if comes_back:
                row = replace(row, later=replace(row.later, ending=""))
            self.runners[sync] = await self._run(plan, row, shares)
            if mended:
                await self.runners[sync].configure(plan, shares, mended=True)
        self._keys[sync] = plan.sweep_key(fingerprint)
        await self.runners[sync].upkeep.follow(plan, comes_back=comes_back)

    async def _run(self, plan: SyncPlan, row: SyncRow, shares: Shares, *, ending: bool = False) -> SyncRunner:
        rows = await self._tools.store.batches(plan.sync.id)
        recovered = Recovered(
            row.incarnation, row.next_order, row.held, row.suspended, row.halted, row.halt_reason,
            await self._tools.store.letters.wanted(plan.sync.id), [stored.as_batch() for stored in rows],
            *await self._tools.store.room.count(plan.sync.id),
        )  # fmt: skip
        runner = SyncRunner(
            Desk(
                plan, Figures(row.incarnation), row.delivered, row.failed, dict(row.learned),
                {stored.id: stored for stored in rows}, resync_ms=row.later.resync_ms,
            ),
            SyncMachine(plan.config, shares, recovered, jitter=self._tools.chance.random),
            store=self._tools.store,
            log=self._tools.log,
            transport=self._tools.transport,
            tokens=self._tokens,
            traits=self._tools.traits,
            trait_changes=self._tools.trait_changes,
            clock=self._tools.clock,
            evaluators=self._evaluators,
            jitter=self._tools.chance.random,
            later=row.later,
            began_ms=row.incarnation,
        )
        runner.start(shares, ending=ending)
        return runner

    async def _watch_traits(self) -> None:
        """Tell syncs which version of the traits is current: their members' identifiers may be others by then."""
        while True:
            await asyncio.sleep(_TRAITS_EVERY_S)
            for parent in {runner.plan.parent.id for runner in self.runners.values() if runner.sweeps}:
                try:
                    version, _ = await self._tools.trait_changes(parent, 0, [])
                except Exception as error:
                    # Whatever ails the trait side passes, or is seen there.
                    _log.warning("the traits of %s cannot be asked for their version: %s", parent, error)
                    continue
                for sync, runner in self.runners.items():
                    if runner.plan.parent.id == parent and runner.sweeps:
                        runner.upkeep.traits_are(version, self._keys[sync])

    def _shares(self, plan: SyncPlan) -> Shares:
        """Give what a sync shares with every other one of the same scopes: all syncs run in this process."""
        sync = plan.sync.id
        rates = plan.kind.rate_limits(plan.settings, plan.shape)
        concurrency = plan.kind.concurrency_limits(plan.settings, plan.shape)
        slots = self._slots.shared(sync, concurrency, lambda: self._wake(sync))
        listing = () if plan.listing is None else plan.listing.rate_limits()
        return Shares(
            self._rates.limiter(sync, rates), slots, self._rates.limiter(f"{sync} aside", rates),
            self._rates.limiter(f"{sync} listing", (*rates, *listing)),
        )  # fmt: skip

    def _wake(self, sync: str) -> None:
        runner = self.runners.get(sync)
        if runner is not None:
            runner.wake()
