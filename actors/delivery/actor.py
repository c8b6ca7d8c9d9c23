"""The delivery process: follows the definitions, runs one SyncRunner per sync, answers for them.

A plain class with async methods, to be made and used inside one event loop; it is made remote elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from actors.delivery.alerting.rules import Sample
from actors.delivery.alerting.sampling import sample_of
from actors.delivery.alerting.watch import AlertWatch
from actors.delivery.commits import Commits
from actors.delivery.dead_letters import shown
from actors.delivery.roster import Roster, Tools
from actors.delivery.store import DeliveryStore
from actors.delivery.sync_log import DETAIL_ROWS_MAX, SyncLog, shown_line
from actors.delivery.tokens import Tokens
from actors.delivery.transport import HttpTransport
from actors.delivery.trying import Trial
from actors.delivery.upkeep import TraitChanges, no_trait_changes
from actors.delivery.writer import TraitLookup
from cluster.clock import Clock
from cluster.limits import DRAIN_DEADLINE_MS, RETRY_AFTER_MS
from cluster.runtime.protocols import Controller, Evaluator, EvaluatorInfo, LogQuery, Reply
from destinations.contract import Kinds
from destinations.records import Verb
from destinations.registry import KINDS
from destinations.times import iso_ms

#: How long the question for a newer cluster state stays open, and the pause after one that failed.
_STATE_WAIT_MS: Final = 20_000
_STATE_PAUSE_S: Final = 0.5
#: The part of a drain's time that is left to making durable what came of it.
_CLOSING_SHARE: Final = 0.2
_ROWS_MAX: Final = 1_000
_TRIM_EVERY_S: Final = 60.0

_log = logging.getLogger(__name__)


class DeliveryActor:
    """Implements `cluster.runtime.protocols.Delivery`.

    `evaluator_of` gives the evaluator to call for its description; `traits` looks up trait columns and is only asked
    where a sync uses any, `trait_changes` says who differs from an older version of them. `seed` fixes the jitter of
    retries, None draws one. `epoch`: under which this process owns its files (see `Commits`); a request waits while
    `may_send` says that it owns them no more.
    """

    def __init__(
        self,
        data_dir: str | Path,
        controller: Controller,
        evaluator_of: Callable[[EvaluatorInfo], Evaluator],
        clock: Clock,
        *,
        traits: TraitLookup,
        trait_changes: TraitChanges = no_trait_changes,
        node_id: str = "",
        name: str = "delivery",
        kinds: Kinds = KINDS,
        seed: int | None = None,
        epoch: int | None = None,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        self._data_dir = Path(data_dir)
        self._epoch = epoch
        self._may_send = may_send
        self._controller = controller
        self._evaluator_of = evaluator_of
        self._clock = clock
        self._traits = traits
        self._trait_changes = trait_changes
        self._node_id = node_id
        self._name = name
        self._kinds = kinds
        self._random = random.Random(seed)
        self._store: DeliveryStore
        self._log: SyncLog
        self._transport: HttpTransport
        self._roster: Roster
        self._alerts: AlertWatch
        self._watchers: list[asyncio.Task[None]] = []
        self._failure = ""
        self._draining = False

    # --- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the files and begin to follow the controller. Raises StorageFull or DataDirError."""
        await self._open()
        self._roster = Roster(
            Tools(
                self._store, self._log, self._transport, self._traits, self._trait_changes, self._clock, self._random,
                self._kinds, self._evaluator_of,
            )
        )  # fmt: skip
        self._alerts = AlertWatch(self._store, self._transport, self._clock, self._sample, self._random.random)
        await self._alerts.load()
        self._roster.start()
        for work, name in ((self._watch(), "delivery-watch"), (self._trim_log(), "delivery-trim")):
            self._watchers.append(asyncio.get_running_loop().create_task(work, name=name))

    async def _open(self) -> None:
        epoch = self._epoch
        self._store = await DeliveryStore.open(Commits(self._data_dir / "delivery.db", "delivery-store", epoch))
        try:
            self._log = await SyncLog.open(Commits(self._data_dir / "sync_log.db", "sync-log", epoch))
        except BaseException:
            await self._store.close()
            raise
        self._transport = HttpTransport(self._clock, may_send=self._may_send)

    async def drain(self, within_ms: int = DRAIN_DEADLINE_MS) -> Reply:
        """Let what is in flight end, make its outcome durable, close. What is unsent stays durable."""
        self._draining = True
        await self._stop_watching()
        runners = list(self._roster.runners.values())
        within_s = within_ms / 1000 * (1 - _CLOSING_SHARE)
        await asyncio.gather(*(runner.drain(within_s) for runner in runners))
        await self._transport.close()
        await self._store.close()
        await self._log.close()
        return {"drained": True, "backlog": sum(runner.machine.backlog for runner in runners)}

    async def abandon(self) -> None:
        """Stop at once, as a kill would: nothing is finished, only sockets and files are closed."""
        await self._stop_watching()
        await asyncio.gather(*(runner.stop() for runner in self._roster.runners.values()))
        await self._transport.close()
        await self._store.abandon()
        await self._log.abandon()

    # --- questions ---------------------------------------------------------------------------------

    async def status(self) -> Reply:
        """See the protocol; `failure` says why the process as a whole cannot go on, empty while it can."""
        return {
            "name": self._name,
            "pid": os.getpid(),
            "node": self._node_id,
            "state": "draining" if self._draining else "running",
            "failure": self._failure or self._store.failure or self._log.failure,
            "syncs": [runner.status() for runner in self._roster.runners.values()],
            "alerts": self._alerts.status(),
        }

    async def metrics(self) -> Reply:
        """See the protocol."""
        syncs = [await runner.metrics() for runner in list(self._roster.runners.values())]
        return {"syncs": syncs, "alerts": self._alerts.status()}

    async def sync_log(self, sync: str, query: LogQuery) -> Reply:
        """See the protocol. `next` is what to ask with to follow."""
        if sync not in self._roster.runners:
            return _unknown(sync)
        limit = min(_at_most(query.limit), DETAIL_ROWS_MAX) if query.detail else _at_most(query.limit)
        rows = await self._log.rows(sync, replace(query, limit=limit))
        return {
            "rows": [shown_line(row, query) for row in rows],
            "next": rows[-1].number if rows else max(query.after, 0),
        }

    async def dead_letters(self, sync: str, limit: int) -> Reply:
        """See the protocol. `total` counts all kept dead letters (batches)."""
        if sync not in self._roster.runners:
            return _unknown(sync)
        letters = await self._store.letters.newest(sync, _at_most(limit))
        return {"rows": [shown(letter) for letter in letters], "total": await self._store.letters.count(sync)}

    async def retry(self, sync: str) -> Reply:
        """See the protocol. Also starts a sync again that its destination's answers had stopped."""
        runner = self._roster.runners.get(sync)
        if runner is None:
            return _unknown(sync)
        if self._draining:
            return {"error": "not_ready", "message": "delivery is stopping", "retry_after_ms": RETRY_AFTER_MS}
        return {"retried": await runner.retry()}

    async def test_destination(self, destination: str, sync: str, user: str, verb: Verb, send: bool) -> Reply:
        """See the protocol. Without `sync` the first of the destination's syncs by name lends its identifiers."""
        plans = {id_: runner.plan for id_, runner in sorted(self._roster.runners.items())
                 if runner.plan.sync.destination == destination and sync in ("", id_)}  # fmt: skip
        if not plans:
            what = f"the sync {sync!r} does not send to" if sync else "no sync sends to"
            return {"error": "not_found", "message": f"{what} {destination!r}: a sync says what identifies users"}
        plan = next(iter(plans.values()))
        try:
            columns = await self._traits(plan.parent.id, [user], list(plan.columns)) if plan.columns else {}
        except Exception as error:
            message = f"the traits of {plan.parent.id} cannot be looked up now: {error}"
            return {"error": "not_ready", "message": message, "retry_after_ms": RETRY_AFTER_MS}
        trial = Trial(plan, self._transport, Tokens(self._transport, self._clock), self._clock)
        return await trial.run(user, verb, columns, send=send)

    async def test_channel(self, channel: str) -> Reply:
        """See the protocol."""
        failure = await self._alerts.try_channel(channel)
        if failure is None:
            return {"error": "not_found", "message": f"there is no alert channel {channel!r}"}
        return {"channel": channel, "sent": not failure, "failure": failure}

    async def suspend(self, sync: str, suspended: bool) -> Reply:
        """See the protocol. What is in flight may end; what changes meanwhile is kept."""
        runner = self._roster.runners.get(sync)
        if runner is None:
            return _unknown(sync)
        await runner.suspend(suspended)
        return {"paused": suspended}

    async def has_read(self, evaluator: int, seq: int) -> Reply:
        """See the protocol. Durably so, and the readers of those who have the users now know where to begin."""
        present = self._roster.present
        if not self._roster.settled:
            return {"read": False}
        for sync in list(self._roster.runners):
            cursor = await self._store.cursor(sync, evaluator)
            if cursor is None:
                continue
            others = [await self._store.cursor(sync, index) for index in present]
            if cursor < seq or None in others:
                return {"read": False}
        return {"read": self._roster.settled and bool(present) and evaluator not in present}

    async def read_through(self, evaluator: int) -> Reply:
        """See the protocol. Nothing while a sync has yet to begin to read, or delivery does not follow."""
        if not self._roster.settled or evaluator not in self._roster.present:
            return {"seq": 0}
        cursors = [await self._store.cursor(sync, evaluator) for sync in list(self._roster.runners)]
        return {"seq": min((cursor or 0 for cursor in cursors), default=None)}

    async def resync(self, sync: str) -> Reply:
        """See the protocol. `began_at` is when it began: `status` says `resyncing` until it is over."""
        runner = self._roster.runners.get(sync)
        if runner is None or runner.ending:
            return _unknown(sync)
        began_at = iso_ms(await runner.upkeep.want_resync())
        return {"resyncing": sync, "began_at": began_at, "strays": runner.plan.strays_stay}

    # --- following the definitions -----------------------------------------------------------------

    async def _watch(self) -> None:
        revision = -1
        while True:
            try:
                state = await self._controller.state_after(revision, _STATE_WAIT_MS)
                if state.revision > revision:
                    await self._roster.follow(state)
                    if state.published is not None:
                        # Now that there are syncs to judge: what stood when the last process ended still stands.
                        self._alerts.configure(state.published.definitions)
                        self._alerts.start()
                    revision = state.revision
                self._failure = ""
            except Exception as error:
                # Running syncs go on under the definitions they have; status shows why newer ones are not taken.
                message = f"{type(error).__name__}: {error}"
                if message != self._failure:
                    _log.exception("delivery cannot follow the definitions")
                self._failure = message
                await asyncio.sleep(_STATE_PAUSE_S)

    async def _sample(self, asks_evaluators: bool) -> Sample:
        return await sample_of(self._roster.runners, self._roster.evaluators, asks=asks_evaluators)

    async def _trim_log(self) -> None:
        """Drop what is too old of the sync log, also of syncs that send nothing."""
        while True:
            await asyncio.sleep(_TRIM_EVERY_S)
            await self._log.trim(self._clock.now_ms())

    async def _stop_watching(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._alerts.stop()
        await self._roster.stop()


def _unknown(sync: str) -> Reply:
    return {"error": "not_found", "message": f"there is no sync {sync!r}"}


def _at_most(limit: int) -> int:
    return max(1, min(limit, _ROWS_MAX))

