"""Results of requests that a destination accepted and works on: asked for until they are known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from actors.delivery.asides import aside_exchange, aside_row
from actors.delivery.attempts import Attempts
from actors.delivery.desk import Desk
from actors.delivery.retries import backoff_ms
from actors.delivery.rows import Asked, Attempted, Exchange, LogRow
from actors.delivery.store import DeliveryStore
from actors.delivery.sync_log import SyncLog
from cluster.clock import Clock
from cluster.limits import RETRY_ELAPSED_MAX_MS
from destinations.outcomes import Finished, Permanent, PollOutcome, Retry

_log = logging.getLogger(__name__)
#: The longest pause between two looks; a clock that is set back is noticed after so long.
_LOOK_MAX_S: Final = 60.0


class FollowUps:
    """One sync's; one question at a time, the one that is due longest first."""

    def __init__(
        self, desk: Desk, attempts: Attempts, *, store: DeliveryStore, log: SyncLog, clock: Clock,
        jitter: Callable[[], float],
    ) -> None:  # fmt: skip
        self._desk = desk
        self._attempts = attempts
        self._store = store
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._waiting: dict[str, Asked] = {}
        self._news = asyncio.Event()

    async def add(self, asked: Asked) -> None:
        """Ask for a result from its due time on, also over restarts."""
        await self._store.ask(self._desk.plan.sync.id, asked)
        self._waiting[asked.id] = asked
        self._news.set()

    async def run(self) -> None:
        """Ask for ever."""
        for asked in await self._store.asked(self._desk.plan.sync.id):
            self._waiting[asked.id] = asked
        while True:
            self._news.clear()
            due = min(self._waiting.values(), key=lambda asked: asked.due_ms, default=None)
            wait_s = _LOOK_MAX_S if due is None else min(_LOOK_MAX_S, (due.due_ms - self._clock.now_ms()) / 1000)
            if due is not None and wait_s <= 0:
                await self._ask(due)
                continue
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _ask(self, asked: Asked) -> None:
        sync, now_ms = self._desk.plan.sync.id, self._clock.now_ms()
        attempted, outcome = await self._attempts.poll(asked)
        if self._asks_again(asked, outcome, now_ms):
            after_ms = outcome.after_ms or 0 if isinstance(outcome, Retry) else 0
            pause_ms = max(after_ms, backoff_ms(asked.tries + 1, self._jitter()))
            again = replace(asked, tries=asked.tries + 1, due_ms=now_ms + pause_ms)
            await self._store.ask(sync, again)
            self._waiting[asked.id] = again
            if attempted is not None:
                row = aside_row("result", attempted, outcome, now_ms, batch_id=asked.batch_id, tries=asked.tries + 1)
                self._log.append(sync, [replace(row, request_id=asked.id)], self._exchange(attempted))
            return
        failed = dict(outcome.failed) if isinstance(outcome, Finished) else {outcome.reason: asked.count}
        notes = outcome.notes if isinstance(outcome, Finished) else ()
        count = min(asked.count, sum(failed.values()))
        rows = [self._row(asked, attempted, number, "refused", reason) for reason, number in failed.items()]
        if count < asked.count:
            rows.append(self._row(asked, attempted, asked.count - count, "processed", "; ".join(notes)))
        self._log.append(sync, rows, None if attempted is None else self._exchange(attempted))
        self._desk.failed += count
        await self._store.answered(sync, asked.id, count)
        del self._waiting[asked.id]

    def _exchange(self, attempted: Attempted) -> Exchange | None:
        return aside_exchange("result", attempted, self._desk.secrets(attempted))

    @staticmethod
    def _asks_again(asked: Asked, outcome: PollOutcome, now_ms: int) -> bool:
        return not isinstance(outcome, Finished | Permanent) and now_ms - asked.since_ms < RETRY_ELAPSED_MAX_MS

    def _row(self, asked: Asked, attempted: Attempted | None, count: int, outcome: str, reason: str) -> LogRow:
        status = None if attempted is None else attempted.status
        latency_ms = None if attempted is None else attempted.latency_ms
        return LogRow(
            self._clock.now_ms(), asked.batch_id, count, outcome, status, asked.tries + 1, latency_ms, reason,
            request_id=asked.id, kind="result",
        )  # fmt: skip
