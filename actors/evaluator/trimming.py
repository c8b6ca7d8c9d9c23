"""What an evaluator's log drops, beside the work: entries that cannot matter any more, transitions that were read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from actors.evaluator.entries import history_ms
from actors.evaluator.ledger import fold
from actors.evaluator.reach import recovery_ms
from actors.evaluator.room import storage_full
from actors.evaluator.worker import EvaluatorWorker
from cluster.clock import Clock
from cluster.definitions.model import Definitions
from cluster.errors import Refused
from cluster.limits import RETRY_AFTER_MS
from cluster.runtime.protocols import Reply

_log = logging.getLogger("usher.evaluator")

#: How often old entries are dropped.
TRIM_EVERY_MS: Final = 60_000
#: The same in a log that nears its bound.
TRIM_CROWDED_MS: Final = 1_000

#: Runs a function where long looks at the log are, one at a time.
InHistory = Callable[..., Awaitable[Any]]


def transitions_kept_ms(definitions: Definitions) -> int:
    """Give how long transitions are kept, however soon they are read: as long as the events that made them."""
    return history_ms(definitions)


class Trimming:
    """The trimming of one evaluator's log. `on_failure` is told of whatever is no refusal."""

    def __init__(
        self,
        worker: EvaluatorWorker,
        clock: Clock,
        in_history: InHistory,
        on_failure: Callable[[Exception], Awaitable[None]],
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._in_history = in_history
        self._on_failure = on_failure
        self._trimmed_at_ms = 0.0
        self._task: asyncio.Task[None] | None = None

    def sometimes(self) -> None:
        """Drop entries that cannot matter any more, beside the work: commits get their turn between its slices."""
        now = self._clock.monotonic_ms()
        machine, published = self._worker.machine, self._worker.published
        busy = self._task is not None and not self._task.done()
        backfill = self._worker.backfill
        if machine is None or published is None or busy:
            return
        since_ms = now - self._trimmed_at_ms
        if since_ms < TRIM_CROWDED_MS or (since_ms < TRIM_EVERY_MS and not self._worker.room.crowded):
            return
        if backfill is not None and backfill.building:
            # It may reach further back than the definitions in force do.
            return
        self._trimmed_at_ms = now
        retained_ms = machine.settled_ms - history_ms(published.definitions)
        needed_ms = machine.settled_ms - recovery_ms(published.definitions)
        self._task = asyncio.create_task(
            self._entries(retained_ms, max(retained_ms, needed_ms)), name="trim"
        )

    async def _entries(self, retained_from_ms: int, needed_from_ms: int) -> None:
        try:
            await self._in_history(self._worker.room.trim, retained_from_ms, needed_from_ms)
        except Refused as refused:
            _log.warning("Old log entries stay until the next try: %s", refused)
        except Exception as error:
            await self._on_failure(error)

    async def transitions(self, read_seq: int) -> Reply:
        """See the protocol's `trim_transitions`."""
        machine, published = self._worker.machine, self._worker.published
        if machine is None or published is None or self._worker.log.archives_transitions:
            return {"dropped": 0}
        before_ms = machine.settled_ms - transitions_kept_ms(published.definitions)
        try:
            return {"dropped": await self._in_history(fold, self._worker.log, read_seq, before_ms)}
        except Refused as refused:
            return storage_full(refused)
        except Exception as error:
            await self._on_failure(error)  # a newer owner has the log, or it is damaged
            return {"error": "not_ready", "message": str(error), "retry_after_ms": RETRY_AFTER_MS}
