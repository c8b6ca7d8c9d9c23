"""One evaluator's changes for one sync: first members from the spool, then the evaluator's log, by long polls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from actors.delivery.plans import SyncPlan
from actors.delivery.reading import changes_of, read_table, seqs_of
from actors.delivery.stimuli import Changes, Opened, Stimulus
from actors.delivery.store import DeliveryStore
from cluster.limits import SYNC_PENDING_MAX, SYNC_READ_ROWS_MAX
from cluster.runtime.protocols import Evaluator, Reply

#: How long an evaluator keeps the question open when it has nothing.
_LONG_POLL_MS: Final = 10_000
#: A stream of changes is asked for so often: a call costs both sides up to a ms, and batches fill meanwhile.
_ASK_EVERY_S: Final = 0.005
#: Pauses while an evaluator does not answer: from the first to the last, doubling.
_PAUSE_FIRST_S: Final = 0.05
_PAUSE_LAST_S: Final = 2.0
_PREDECESSORS_EVERY_S: Final = 0.02

_log = logging.getLogger(__name__)


class Reader:
    """Feeds one machine from one evaluator until it is cancelled.

    `may_read` is set while the machine has room; `available` while the audience can be asked for its members.
    """

    def __init__(
        self,
        plan: SyncPlan,
        index: int,
        evaluator: Evaluator,
        store: DeliveryStore,
        feed: Callable[[Stimulus], None],
        may_read: asyncio.Event,
        available: asyncio.Event,
        reached: dict[int, int],
    ) -> None:
        self._sync = plan.sync
        self._index = index
        self._evaluator = evaluator
        self._store = store
        self._feed = feed
        self._may_read = may_read
        self._available = available
        #: How far each evaluator's transitions were fed, by all readers of the sync.
        self._reached = reached
        self._retired = plan.retired
        share = SYNC_PENDING_MAX // (2 * max(1, len(plan.config.evaluators)))
        self._limit = max(1, min(SYNC_READ_ROWS_MAX, share))
        self._pause_s = 0.0
        #: Evaluators that had the users before, as far as the sync has read any of them.
        self._had: set[int] = set()
        #: Why the evaluator could not be read last time, empty while it can.
        self.failure = ""
        #: First members that are not taken yet.
        self.spooled = 0

    async def run(self) -> None:
        """Read for ever; nothing of an evaluator that had handed its users over before the sync began."""
        await self._succeed()
        if self._index in self._retired and self._index not in self._had:
            return
        position, spool_seq = await self._start()
        await self._predecessors_fed()
        self._feed(Opened(self._index, position))
        self._reached[self._index] = position
        if position < spool_seq:
            position = await self._read_spool(position, spool_seq)
        # The first question is not kept open: what a pause held back waits to hear that nothing more is there.
        wait_ms = 0
        while True:
            await self._may_read.wait()
            asked_s = asyncio.get_running_loop().time()
            position = self._reached[self._index] = await self._read_log(position, wait_ms)
            wait_ms = _LONG_POLL_MS
            # Only under a steady stream: an answer that took longer to come is followed by the next question at once.
            early_s = asked_s + _ASK_EVERY_S - asyncio.get_running_loop().time()
            if early_s > 0:
                await asyncio.sleep(early_s)

    async def _start(self) -> tuple[int, int]:
        """Give the durable cursor; a sync that has none yet gets its first members."""
        while True:
            cursor = await self._store.cursor(self._sync.id, self._index)
            if cursor is not None:
                return cursor
            await self._available.wait()
            await self._begin()

    async def _predecessors_fed(self) -> None:
        """Wait until what those fed who had the users before: a user's changes are in order across evaluators too."""
        if self._index in self._retired:
            return
        while any(self._reached.get(index, -1) < seq for index, seq in self._retired.items() if index in self._had):
            await asyncio.sleep(_PREDECESSORS_EVERY_S)

    async def _succeed(self) -> None:
        """Begin where the evaluator's own transitions do, if the sync has read those who had its users before."""
        cursors = {index: await self._store.cursor(self._sync.id, index) for index in self._retired}
        self._had = {index for index, cursor in cursors.items() if cursor is not None}
        if self._index in self._retired or not self._had:
            return
        while await self._store.cursor(self._sync.id, self._index) is None:
            status = await self._ask(self._evaluator.status)
            if status is not None:
                seq = int(status["live_from_seq"])
                await self._store.start_cursor(self._sync.id, self._index, seq, seq, None)

    async def _begin(self) -> None:
        """Make the first members and the cursor behind them durable together.

        The i-th of m first members as of transition S gets the number S - m + i: below every later transition.
        """
        if self._sync.initial == "none":
            status = await self._ask(self._evaluator.status)
            if status is not None:
                seq = int(status["seq"])
                await self._store.start_cursor(self._sync.id, self._index, seq, seq, None)
            return
        reply = await self._ask(lambda: self._evaluator.initial_members(self._sync.audience))
        if reply is not None:
            seq, count = int(reply["seq"]), len(reply["seqs"]) // 8
            payload = reply["transitions"] if count else None
            await self._store.start_cursor(self._sync.id, self._index, seq - count, seq, payload)

    async def _read_spool(self, position: int, spool_seq: int) -> int:
        table = read_table(await self._store.spool(self._sync.id, self._index))
        first_seq = spool_seq - table.num_rows + 1
        while position < spool_seq:
            self.spooled = spool_seq - position
            await self._may_read.wait()
            start = position + 1 - first_seq
            rows = table.slice(start, self._limit)
            seqs = list(range(position + 1, position + 1 + rows.num_rows))
            position += rows.num_rows
            self._feed(
                Changes(
                    self._index, changes_of(rows, seqs, self._index, self._sync.audience), position, False
                )
            )
            await asyncio.sleep(0)
        self.spooled = 0
        return position

    async def _read_log(self, position: int, wait_ms: int) -> int:
        reply = await self._ask(
            lambda: self._evaluator.transitions_after(position, self._limit, wait_ms, self._sync.audience)
        )
        if reply is None:
            return position
        seqs = seqs_of(reply["seqs"])
        changes = (
            changes_of(read_table(reply["transitions"]), seqs, self._index, self._sync.audience)
            if seqs
            else []
        )
        next_position = max(position, int(reply["next_seq"]))
        # The limit counts transitions of every audience: fewer than that were looked at only where there are no more.
        self._feed(Changes(self._index, changes, next_position, next_position - position < self._limit))
        return next_position

    async def _ask(self, call: Callable[[], Awaitable[Reply]]) -> dict[str, Any] | None:
        """Give the answer, or None after a pause where there was none worth having."""
        try:
            reply = await call()
        except Exception as error:
            # Whatever ails an evaluator or the way to it, reading goes on when it is back; status shows it.
            reply = {"error": "unreachable", "message": f"{type(error).__name__}: {error}"}
        if "error" not in reply:
            self._pause_s, self.failure = 0.0, ""
            return reply
        message = f"evaluator {self._index}: {reply['error']}: {reply.get('message', '')}"
        if message != self.failure:
            _log.warning("sync %s cannot read %s", self._sync.id, message)
        self.failure = message
        self._pause_s = min(_PAUSE_LAST_S, max(_PAUSE_FIRST_S, self._pause_s * 2))
        await asyncio.sleep(self._pause_s)
        return None
