"""What one sync does beside delivering changes: resyncs, looking through its members' identifiers, ending.

All of it becomes changes for the machine (`REPEATS`), in pages, as there is room; so it is batched, limited and retried
like any other, and never overtakes or undoes a user's own change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from actors.delivery.attempts import Attempts, Failed
from actors.delivery.changes import IDENTIFIERS, RESYNC, SWEEP, Change, Told
from actors.delivery.desk import Desk
from actors.delivery.machine import SyncMachine
from actors.delivery.plans import SyncPlan
from actors.delivery.recording import identifiers_of
from actors.delivery.retries import backoff_ms
from actors.delivery.rows import Later
from actors.delivery.stimuli import Changes, Opened, Stimulus
from actors.delivery.store import DeliveryStore
from actors.delivery.strays import Strays
from actors.delivery.writer import TraitLookup
from cluster.clock import Clock
from destinations.contract import Purpose, Unusable

#: `(parent, since version, columns) -> (present version, users)` whose columns differ since then; None: not known.
TraitChanges: TypeAlias = Callable[[str, int, list[str]], Awaitable[tuple[int, Sequence[str] | None]]]


async def no_trait_changes(parent: str, since: int, columns: list[str]) -> tuple[int, None]:
    """Stands where there are no traits: their version never changes."""
    return 0, None


#: Members looked through at once: about 20 ms of identifying and hashing, which other syncs wait for.
_PAGE: Final = 1_000
#: How often it is looked whether what was asked for has been done.
_LOOK_S: Final = 0.25
#: How often it is looked whether something has become due by time alone.
_IDLE_S: Final = 30.0

_log = logging.getLogger(__name__)


class Upkeep:
    """One sync's. `run` works off what is wanted, one thing after another, for ever."""

    def __init__(
        self, desk: Desk, machine: SyncMachine, attempts: Attempts, strays: Strays, later: Later, *,
        store: DeliveryStore, clock: Clock, traits: TraitLookup, changes: TraitChanges, may_read: asyncio.Event,
        feed: Callable[[Stimulus], None], read_members: Callable[[int], None], jitter: Callable[[], float],
        began_ms: int,
    ) -> None:  # fmt: skip
        self.later = later
        self._desk = desk
        self._machine = machine
        self._attempts = attempts
        self._strays = strays
        self._store = store
        self._clock = clock
        self._traits = traits
        self._changes = changes
        self._may_read = may_read
        self._feed = feed
        #: Has every evaluator's members read again, for the resync that began then.
        self._read_members = read_members
        self._jitter = jitter
        self._began_ms = began_ms
        #: The version of the traits that is current, 0 while it is not known.
        self._version = 0
        self._key = ""
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Work for ever."""
        self._feed(Opened(SWEEP, self.later.swept))
        while True:
            self._news.clear()
            await self._once()
            try:
                async with asyncio.timeout(_IDLE_S):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _once(self) -> None:
        if not self.later.resync_ms and self._resend_due():
            await self.want_resync(asked=False)
        if self.later.resync_ms:
            await self._finish_resync()
        if self._version and (self._version, self._key) != (self.later.swept, self.later.swept_key):
            await self._sweep(self._version, self._key)
        plan = self._desk.plan
        if plan.sync.cooldown_ms:
            await self._store.ledger.prune(plan.sync.id, self._clock.now_ms() - plan.sync.cooldown_ms)
        if plan.archived and plan.sync.on_exit == "archive":
            await self._steps("archive")

    async def follow(self, plan: SyncPlan, *, comes_back: bool) -> None:
        """Take changed definitions. `comes_back`: the sync was ending, and is to go on."""
        began = plan.remembers and not self.later.remembers
        if plan.remembers != self.later.remembers:
            if not plan.remembers:
                await self._store.ledger.forget(plan.sync.id)
            await self._set(replace(self.later, remembers=plan.remembers))
        if comes_back:
            await self._set(replace(self.later, ending=""))
        if began or comes_back:
            # Who is there already is not in the ledger, or was removed on the way to the end.
            await self.want_resync(asked=False)
        self._news.set()

    # --- resync ------------------------------------------------------------------------------------

    async def want_resync(self, *, asked: bool = True) -> int:
        """Begin to tell every member again; one that is under way begins anew. Gives when it began, UTC ms.

        Where nobody asked for it, members are not listed: strays that only the destination knows stay.
        """
        resync_ms = max(self._clock.now_ms(), self.later.resync_ms + 1)
        listing = self._desk.plan.listing
        begins = listing.form if listing is not None and asked else None
        await self._set(replace(self.later, resync_ms=resync_ms), begins)
        self._read_members(resync_ms)
        self._news.set()
        return resync_ms

    def _resend_due(self) -> bool:
        every_ms = self._desk.plan.kind.resend_every_ms(self._desk.plan.settings)
        last_ms = self.later.resynced_ms or self._began_ms
        return every_ms is not None and self._clock.now_ms() - last_ms >= every_ms

    async def _finish_resync(self) -> None:
        """Once every member is in a batch: remove whom nobody told of, wait for the answers, let the kind clean up."""
        resync_ms, sync = self.later.resync_ms, self._desk.plan.sync.id
        self._read_members(resync_ms)
        while await self._store.resync_left(sync, self._desk.plan.present, resync_ms):
            await asyncio.sleep(_LOOK_S)
            if self.later.resync_ms != resync_ms:
                return
        if self._desk.plan.remembers:
            await self._leave_all(resync_ms, unseen_since_ms=resync_ms)
        await self._told()
        if not self._desk.plan.strays_stay:
            await self._steps("purge", resync_ms)
            await self._strays.remove(resync_ms)
        if self.later.resync_ms == resync_ms:
            await self._set(replace(self.later, resync_ms=0, resynced_ms=resync_ms))

    async def _leave_all(self, at_ms: int, *, unseen_since_ms: int | None) -> None:
        """Let everybody leave who is in the ledger (and was not told of since), until nobody is."""
        sync, audience = self._desk.plan.sync.id, self._desk.plan.sync.audience
        while True:
            after, found = "", False
            while page := await self._store.ledger.members(sync, after, _PAGE, unseen_since_ms=unseen_since_ms):
                after, found = page[-1][0], True
                await self._tell(
                    Change(SWEEP, self.later.swept, audience, told.version, user, "exited", at_ms, 0, RESYNC)
                    for user, told in page
                )
            if not found:
                return
            await self._told()

    async def _told(self) -> None:
        """Wait until every repeat that there is now is in a batch, and every batch answered for good.

        A pause or a halt may hold them for long.
        """
        sync = self._desk.plan.sync.id
        await asyncio.sleep(_LOOK_S)
        while self._machine.pending or await self._store.room.has_repeats(sync):
            await asyncio.sleep(_LOOK_S)
        mark = self._machine.next_order
        while self._machine.oldest_order < mark:
            await asyncio.sleep(_LOOK_S)

    async def _steps(self, purpose: Purpose, since_ms: int = 0) -> None:
        """Take the steps of a purpose, again until they work."""
        tries = 0
        while (failed := await self._attempts.step(purpose, since_ms)) is not None:
            tries += 1
            pause_ms = max(backoff_ms(tries, self._jitter()), _wish_ms(failed))
            _log.warning("sync %s cannot %s its list: %s", self._desk.plan.sync.id, purpose, failed.outcome.reason)
            await asyncio.sleep(pause_ms / 1000)

    # --- identifiers -------------------------------------------------------------------------------

    def traits_are(self, version: int, key: str) -> None:
        """Say which version of the traits is current; `key` stands for how identifiers are made of them."""
        if (version, key) != (self._version, self._key):
            self._version, self._key = version, key
            self._news.set()

    async def _sweep(self, version: int, key: str) -> None:
        """Find members whose identifiers are no longer what they were added with."""
        plan = self._desk.plan
        users: Sequence[str] | None = None
        if key != self.later.swept_key:
            # Durable first: whoever takes this up after a crash must look through everybody.
            await self._set(replace(self.later, swept=0, swept_key=key))
            self._feed(Opened(SWEEP, 0))
        elif self.later.swept:
            version, users = await self._changes(plan.parent.id, self.later.swept, list(plan.identifier_columns))
        if users is None:
            after = ""
            while page := await self._store.ledger.members(plan.sync.id, after, _PAGE):
                after = page[-1][0]
                await self._compare(page)
        else:
            for start in range(0, len(users), _PAGE):
                known = await self._store.ledger.get(plan.sync.id, users[start : start + _PAGE])
                await self._compare([(user, told) for user, told in known.items() if told.inside])
        self._feed(Changes(SWEEP, (), version, at_head=False))
        self.later = replace(self.later, swept=version)

    async def _compare(self, page: Sequence[tuple[str, Told]]) -> None:
        plan, columns = self._desk.plan, self._desk.plan.identifier_columns
        found = await self._traits(plan.parent.id, [user for user, _ in page], list(columns)) if columns else {}
        changed = []
        for index, (user, told) in enumerate(page):
            new = identifiers_of(plan, user, {column: values[index] for column, values in found.items()})
            if told.identifiers != ({} if isinstance(new, Unusable) else new):
                changed.append(
                    Change(SWEEP, self.later.swept, plan.sync.audience, told.version, user, "entered", told.at_ms,
                           told.n, IDENTIFIERS)
                )  # fmt: skip
        await self._tell(changed)

    # --- ending ------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Do what is left to do for a sync that definitions have no more: remove its members, archive its list."""
        plan = self._desk.plan
        if plan.sync.on_delete == "remove":
            await self._leave_all(self._clock.now_ms() + 1, unseen_since_ms=None)
        await self._told()
        if plan.sync.on_exit == "archive":
            await self._steps("archive")

    async def set_ending(self, text: str) -> None:
        """Remember that the sync is ending, and what that takes."""
        await self._set(replace(self.later, ending=text))

    # --- what all need -----------------------------------------------------------------------------

    async def _tell(self, changes: Iterable[Change]) -> None:
        await self._may_read.wait()
        some = tuple(changes)
        if some:
            self._feed(Changes(SWEEP, some, self.later.swept, at_head=False))

    async def _set(self, later: Later, begins: str | None = None) -> None:
        self.later, self._desk.resync_ms = later, later.resync_ms
        await self._store.set_later(self._desk.plan.sync.id, later, begins)


def _wish_ms(failed: Failed) -> int:
    return getattr(failed.outcome, "after_ms", None) or 0
