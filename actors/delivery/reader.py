"""One evaluator's changes for one sync: members from a spool, then the evaluator's log, by long polls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from actors.delivery.changes import RESYNC, spool_source
from actors.delivery.plans import SyncPlan
from actors.delivery.reading import changes_of, read_table, seqs_of
from actors.delivery.rows import Spool
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
#: How often it is looked whether a spool is all in batches.
_SPOOL_PAUSE_S: Final = 0.1
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
        #: Evaluators that had the users before, as far as the sync has read any of them.
        self._had: set[int] = set()
        share = SYNC_PENDING_MAX // (2 * max(1, len(plan.config.evaluators)))
        self._limit = max(1, min(SYNC_READ_ROWS_MAX, share))
        self._pause_s = 0.0
        #: The resync that somebody wants, by when it began; 0: none.
        self._resync_ms = 0
        self._resync_wanted = asyncio.Event()
        #: Why the evaluator could not be read last time, empty while it can.
        self.failure = ""
        #: Members of a spool that are not taken yet.
        self.spooled = 0

    def resync(self, resync_ms: int) -> None:
        """Read every member again, for the resync that began then; nothing where that was done already."""
        if self._index not in self._retired:
            self._resync_ms = resync_ms
            self._resync_wanted.set()

    async def run(self) -> None:
        """Read for ever; nothing of an evaluator that had handed its users over before the sync began."""
        await self._succeed()
        if self._index in self._retired and self._index not in self._had:
            return
        position = await self._start()
        await self._predecessors_fed()
        self._feed(Opened(self._index, position))
        # The first question is not kept open: what a pause held back waits to hear that nothing more is there.
        wait_ms = 0
        read_ms = -1
        while True:
            spool = await self._store.spool(self._sync.id, self._index)
            if spool is not None and self._resync_ms != read_ms:
                read_ms = self._resync_ms
                # Members as of a transition come after what led to it, and before what follows it.
                while position < spool.seq:
                    await self._may_read.wait()
                    position = await self._read_log(position, 0, spool.seq - position)
                await self._read_spool(spool)
                position = max(position, spool.seq)
            self._reached[self._index] = position
            position = await self._read_until_resync(position, wait_ms)
            await self._begin_resync()

    async def _read_until_resync(self, position: int, wait_ms: int) -> int:
        """Read the log until somebody wants a resync, which may cut a question that is open."""
        loop = asyncio.get_running_loop()
        wanted = loop.create_task(self._resync_wanted.wait())
        try:
            while not self._resync_wanted.is_set():
                await self._may_read.wait()
                asked_s = loop.time()
                reading = loop.create_task(self._read_log(position, wait_ms, self._limit))
                try:
                    await asyncio.wait({wanted, reading}, return_when=asyncio.FIRST_COMPLETED)
                    if not reading.done():
                        break
                    position = self._reached[self._index] = reading.result()
                finally:
                    reading.cancel()
                wait_ms = _LONG_POLL_MS
                # Only under a steady stream: an answer that took longer to come is followed by the next at once.
                early_s = asked_s + _ASK_EVERY_S - loop.time()
                if early_s > 0:
                    await asyncio.sleep(early_s)
        finally:
            wanted.cancel()
        return position

    async def _start(self) -> int:
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
                await self._store.start_cursor(self._sync.id, self._index, int(status["live_from_seq"]), None)

    async def _begin(self) -> None:
        """Make the first members and the cursor behind them durable together."""
        if self._sync.initial == "none":
            status = await self._ask(self._evaluator.status)
            if status is not None:
                await self._store.start_cursor(self._sync.id, self._index, int(status["seq"]), None)
            return
        found = await self._members("")
        if found is not None:
            seq, spool = found
            await self._store.start_cursor(self._sync.id, self._index, seq, spool)

    async def _begin_resync(self) -> None:
        """Keep every present member, to be read again. What the log holds up to then is read before them."""
        self._resync_wanted.clear()
        resync_ms = self._resync_ms
        while await self._store.resynced(self._sync.id, self._index) < resync_ms:
            await self._available.wait()
            if await self._store.spool(self._sync.id, self._index) is not None:
                # The one before is read, and not all of it in batches: two spools would count as one.
                await asyncio.sleep(_SPOOL_PAUSE_S)
                continue
            found = await self._members(RESYNC)
            if found is not None:
                seq, spool = found
                kept = spool or Spool(seq, 0, 0, RESYNC, b"")
                await self._store.add_spool(self._sync.id, self._index, kept, resync_ms)

    async def _members(self, cause: str) -> tuple[int, Spool | None] | None:
        """Ask for the members; gives the transition as of which, and a spool where there are any."""
        reply = await self._ask(lambda: self._evaluator.initial_members(self._sync.audience))
        if reply is None:
            return None
        seq, count = int(reply["seq"]), len(reply["seqs"]) // 8
        return seq, Spool(seq, count, 0, cause, reply["transitions"]) if count else None

    async def _read_spool(self, spool: Spool) -> None:
        source, taken = spool_source(self._index), spool.taken
        self._feed(Opened(source, taken))
        table = read_table(spool.payload)
        while taken < spool.count:
            self.spooled = spool.count - taken
            await self._may_read.wait()
            rows = table.slice(taken, self._limit)
            seqs = list(range(taken + 1, taken + 1 + rows.num_rows))
            taken += rows.num_rows
            changes = changes_of(rows, seqs, source, self._sync.audience)
            if spool.cause:
                changes = [msgspec.structs.replace(change, cause=spool.cause) for change in changes]
            self._feed(Changes(source, changes, taken, False))
            await asyncio.sleep(0)
        self.spooled = 0

    async def _read_log(self, position: int, wait_ms: int, limit: int) -> int:
        limit = min(limit, self._limit)
        reply = await self._ask(
            lambda: self._evaluator.transitions_after(position, limit, wait_ms, self._sync.audience)
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
        self._feed(Changes(self._index, changes, next_position, next_position - position < limit))
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
