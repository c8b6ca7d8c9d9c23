"""The evaluator's shell: a bounded queue of inputs, a thread that works them off, readers of transitions.

Made remote in cluster/runtime/wiring.py. It has no rule of its own: the worker evaluates, commits, shows; the
shell only waits, groups and passes on. While a group commits, the next one gathers: under load many requests share
one fsync.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from actors.evaluator.backfill import Backfill
from actors.evaluator.checkpointing.checkpointer import Checkpointer, log_id
from actors.evaluator.checkpointing.keeping import Keeper
from actors.evaluator.stimuli import (
    Append,
    Bound,
    Hold,
    Lookup,
    MembersPage,
    Prepare,
    Publish,
    Release,
    Retire,
    Status,
    Stimulus,
    TakeCheckpoint,
    Tick,
)
from actors.evaluator.stored import history_after, initial_members, packed, with_since
from actors.evaluator.succession.importing import End, Importer, Legacy, entries_reply
from actors.evaluator.succession.tenure import Kept, positions_of
from actors.evaluator.trait_offers import TraitOffers
from actors.evaluator.trimming import Trimming
from actors.evaluator.worker import EvaluatorWorker
from cluster.checkpoints.settings import CheckpointSettings
from cluster.checkpoints.store import CheckpointStore
from cluster.clock import Clock, SystemClock
from cluster.definitions.model import Published
from cluster.errors import NotReady, UsherError
from cluster.limits import DRAIN_DEADLINE_MS, EVALUATOR_BATCHES_WAITING_MAX, RETRY_AFTER_MS
from cluster.log.opening import open_log
from cluster.log.records import TransitionBlock
from cluster.log.settings import LogSettings
from cluster.runtime.data_dir import DataDir

Reply = dict[str, Any]
_T = TypeVar("_T")
_log = logging.getLogger("usher.evaluator")

#: Due times that close together share a commit; exits are made at their exact ms all the same.
TICK_EVERY_MS = 10
#: The longest sleep without a look at the clock.
NAP_MAX_MS = 1_000
#: Committed blocks (of at most `results.BLOCK_ROWS_MAX` transitions) kept in memory for readers that have caught up.
RECENT_BLOCKS_MAX = 256


class EvaluatorActor:
    """One evaluator of the cluster; the calls of `cluster.runtime.protocols.Evaluator`."""

    def __init__(
        self,
        index: int,
        data_dir: str,
        epoch: int,
        partitions: tuple[int, ...],
        clock: Clock | None = None,
        node_id: str = "",
        checkpoints: CheckpointSettings | None = None,
        log: LogSettings | None = None,
        legacy: Legacy | None = None,
    ) -> None:
        self.name = f"evaluator-{index}"
        self._index = index
        self._files = DataDir(Path(data_dir))
        self._epoch = epoch
        self._partitions = partitions
        self._clock = clock or SystemClock()
        self._node_id = node_id
        self._checkpoint_settings = checkpoints or CheckpointSettings()
        self._log_settings = log or LogSettings()
        self._legacy = legacy
        self._importer: Importer | None = None
        self._keeper: Keeper | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        #: reads of the log, beside the thread that evaluates
        self._readers = ThreadPoolExecutor(2, thread_name_prefix=f"{self.name}-reads")
        #: a publication on its way
        self._backfilling = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name}-backfill")
        #: The backfill that `prepare` waits for, and the task that builds it.
        self._build: tuple[Backfill, asyncio.Task[None]] | None = None
        #: long ones, and trimming: one at a time, and no reader with a cursor waits for them
        self._history = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name}-history")
        #: How snapshots are taken; None until it starts.
        self._traits: TraitOffers | None = None
        self._waiting: deque[tuple[Stimulus, asyncio.Future[Reply]]] = deque()
        #: When the oldest input that is not answered yet came, by the duration clock; None: nothing waits.
        self._oldest_ms: float | None = None
        self._wake = asyncio.Event()
        #: When a log that took nothing is next tried by a tick, by the duration clock, however much else comes.
        self._try_again_ms = 0.0
        self._committed = asyncio.Condition()
        self._recent: deque[TransitionBlock] = deque(maxlen=RECENT_BLOCKS_MAX)
        self._last_seq = 0
        #: No new inputs; and, after the last checkpoint, the end of the loop.
        self._draining = self._ending = False
        self._worker: EvaluatorWorker | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self._trimming: Trimming | None = None

    async def start(self, published: Published | None) -> None:
        """Open the log, recover, take newer definitions, begin to work.

        Raises DataDirError, StorageFull, LogUnavailable; NotReady where the definitions cannot be taken now: then it
        has closed again.
        """
        worker = await self._in_thread(self._open)
        self._worker = worker
        self._traits = TraitOffers(self._partitions, self._ask, worker.pace.pause, worker.make_room, self.name)
        self._trimming = Trimming(worker, self._clock, self._in_history, self._trim_failed)
        self._last_seq = worker.log.last_transition_seq()
        self._loop_task = asyncio.create_task(self._work(), name=self.name)
        if worker.checkpoints is not None:
            self._keeper = Keeper(
                worker.checkpoints, lambda: worker.machine, lambda: self._queue(TakeCheckpoint()), self._clock
            )
            self._keeper.start()
        if worker.tenure.heir and self._legacy is not None:
            legacy = self._legacy
            self._importer = Importer(
                legacy.published, legacy.sources, legacy.theirs, self._partitions, positions_of(worker.log), self._ask
            )
            return
        if published is not None and published.version > worker.version and not worker.tenure.retired_ms:
            reply = await self.publish(published)
            if "error" in reply:
                await self.drain()
                raise NotReady(str(reply["message"]), retry_after_ms=RETRY_AFTER_MS)

    def _open(self) -> EvaluatorWorker:
        path, cache_path = self._files.evaluator_db(self._index), self._files.evaluator_cache(self._index)
        log = open_log(self._log_settings, self.name, path, cache_path, owner_epoch=self._epoch)
        settings = self._checkpoint_settings
        store = CheckpointStore(settings.uri or str(self._files.checkpoints), self.name, log_id(log))
        return EvaluatorWorker(
            log,
            self._files.membership / self.name,
            self._partitions,
            seed=secrets.randbits(64),
            now_ms=self._clock.now_ms,
            checkpoints=Checkpointer(store, settings, log, self._partitions),
            heir=self._legacy is not None,
        )

    # --- the queue -----------------------------------------------------------------------------------

    async def _ask(self, stimulus: Stimulus) -> Reply:
        refusal = self._unready()
        if refusal is not None:
            return refusal
        if len(self._waiting) >= EVALUATOR_BATCHES_WAITING_MAX:
            return _refusal("overloaded", f"{len(self._waiting)} inputs wait already")
        return await self._queue(stimulus)

    async def _queue(self, stimulus: Stimulus) -> Reply:
        """Have an input worked off after those that wait."""
        if self._failure is not None or self._ending:
            return _refusal("stopped", self._failure or "the evaluator has stopped")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((stimulus, future))
        if self._oldest_ms is None:
            self._oldest_ms = self._clock.monotonic_ms()
        self._wake.set()
        return await future

    def _unready(self) -> Reply | None:
        if self._worker is None or self._failure is not None:
            return _refusal("not_ready", self._failure or "the evaluator is starting")
        if self._draining:
            return _refusal("not_ready", "the evaluator is stopping")
        return None

    async def _work(self) -> None:
        """Take what waits as one group, or tick when something is due, until drained."""
        assert self._worker is not None
        while not (self._ending and not self._waiting):
            self._wake.clear()
            if not self._waiting:
                await self._sleep_until_due()
            group = list(self._waiting)
            self._waiting.clear()
            # What is due goes first: ticks never overtake batches that wait, and batches advance time anyway.
            stimuli = [stimulus for stimulus, _ in group] or [Tick()]
            if not group:
                self._try_again_ms = self._clock.monotonic_ms() + RETRY_AFTER_MS
            try:
                replies = await self._in_thread(self._worker.process, stimuli)
            except Exception as error:
                await self._fail(error, group)
                return
            self._oldest_ms = self._clock.monotonic_ms() if self._waiting else None
            for (_, future), reply in zip(group, replies, strict=False):
                if not future.done():
                    future.set_result(reply)
            await self._announce()
            if self._trimming is not None and not self._draining:
                self._trimming.sometimes()

    async def _sleep_until_due(self) -> None:
        assert self._worker is not None
        if self._worker.room.refused:
            # A log that took nothing is not tried more often than senders are told to: each try may cost a recovery.
            await self._nap(self._try_again_ms - self._clock.monotonic_ms())
            return
        if self._worker.behind:
            await asyncio.sleep(0)  # a wave is worked off slice by slice; who waits comes between
            return
        due = self._worker.next_due_ms()
        if due is None:
            await self._wake.wait()
            return
        wait_ms = max(TICK_EVERY_MS, due - self._clock.now_ms())
        while wait_ms > 0 and not self._wake.is_set():
            # In short naps: the machine's clock may be set forward, or the machine may have slept.
            await self._nap(min(wait_ms, NAP_MAX_MS))
            wait_ms = due - self._clock.now_ms()

    async def _nap(self, wait_ms: float) -> None:
        """Sleep, unless something comes."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), wait_ms / 1000)

    async def _fail(self, error: Exception, group: list[tuple[Stimulus, asyncio.Future[Reply]]]) -> None:
        """Stop for good on an error that is not a refusal: the state may not match the log any more.

        Everybody waiting is refused; the process ends so that Ray starts it anew and it recovers.
        """
        self._failure = str(error) if isinstance(error, UsherError) else f"{type(error).__name__}: {error}"
        for _, future in [*group, *self._waiting]:
            if not future.done():
                future.set_result(_refusal("not_ready", self._failure))
        self._waiting.clear()
        self.on_failure(error)

    async def _trim_failed(self, error: Exception) -> None:
        if not self._draining:  # a log that is closed meanwhile ends the trimming of a stopping evaluator
            await self._fail(error, [])

    async def lose(self, error: Exception) -> None:
        """Stop for good: another process owns what this one did."""
        await self._fail(error, [])

    def on_failure(self, error: Exception) -> None:
        """Say what broke, then let the process be restarted."""
        import traceback

        traceback.print_exception(error)
        asyncio.get_running_loop().call_later(0.2, os._exit, 1)

    async def _announce(self) -> None:
        assert self._worker is not None
        fresh = self._worker.fresh
        if not fresh:
            return
        async with self._committed:
            self._recent.extend(fresh)
            self._last_seq = fresh[-1].last_seq
            self._committed.notify_all()

    async def _in_thread(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def _in_reader(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *args)

    async def _in_history(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._history, function, *args)

    # --- the protocol ----------------------------------------------------------------------------------

    async def append(self, request: Reply) -> Reply:
        """See the protocol: answered once the batch is committed and evaluated."""
        hits = request.get("hits") or b""
        partitions = str(request.get("partitions") or "")
        return await self._ask(Append(request["version"], request["rows"], request["envelope"], hits, partitions))

    async def lookup(self, parent: str, users: list[str], audiences: list[str], detail: bool) -> Reply:
        """See the protocol. Details say since when, which may take a long look into the log."""
        reply = await self._ask(Lookup(parent, tuple(users), tuple(audiences), detail))
        if self._worker is None or "details" not in reply:
            return reply
        return await self._in_history(with_since, self._worker.log, reply, users, audiences)

    async def prepare(self, published: Published) -> Reply:
        """See the protocol. Live evaluation goes on while retained events are replayed."""
        reply = await self._ask(Prepare(published))
        worker = self._worker
        if "error" in reply or worker is None or worker.backfill is None:
            return reply
        backfill = worker.backfill
        if self._build is None or self._build[0] is not backfill:
            self._build = backfill, asyncio.create_task(self._build_and_follow(backfill), name=f"{self.name}-backfill")
        # Several may wait for the same one; a caller that is gone ends nothing.
        await asyncio.wait([self._build[1]])
        if backfill.ended and worker.version < published.version:
            message = f"The backfill of version {published.version} did not come to its end: {backfill.ended}."
            return _refusal("not_ready", message)
        return reply

    async def _build_and_follow(self, backfill: Backfill) -> None:
        """Wait until it is ready or has ended; once ready it follows the log on its thread until the switch."""
        await asyncio.get_running_loop().run_in_executor(self._backfilling, backfill.build)
        if backfill.ready:
            self._backfilling.submit(backfill.follow)

    async def publish(self, published: Published) -> Reply:
        """See the protocol. Prepares first what is not prepared."""
        reply = await self.prepare(published)
        return reply if "error" in reply else await self._ask(Publish(published))

    async def apply_traits(self, parent: str, version: int, refs: list[Any], path: str) -> Reply:
        """See the protocol. `refs` keeps the snapshot alive in the object store; a table in it is taken as it is."""
        table = refs[0] if refs else None
        if table is not None and not isinstance(table, pa.Table):
            table = await table
        if self._traits is None:
            return _refusal("not_ready", "the evaluator is starting")
        return await self._traits.take(parent, version, table, path)

    async def members(self, audience: str, cursor: str | None, limit: int) -> Reply:
        """See the protocol. The cursor is a place among the evaluator's users: stable while users come."""
        return await self._ask(MembersPage(audience, cursor, limit))

    async def initial_members(self, audience: str) -> Reply:
        """See the protocol. Only what is committed counts."""
        refusal = self._unready()
        if refusal is not None or self._worker is None:
            return refusal or {}
        return await self._in_history(initial_members, self._worker.log, audience)

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        """See the protocol. Caught-up readers are served from memory, others from the log."""
        if self._worker is None or self._failure is not None:
            return _refusal("not_ready", self._failure or "the evaluator is starting")
        if seq >= self._last_seq and wait_ms > 0:
            async with self._committed:
                try:
                    await asyncio.wait_for(
                        self._committed.wait_for(lambda: self._last_seq > seq or self._draining), wait_ms / 1000
                    )
                except TimeoutError:
                    return {"next_seq": seq, "seqs": b"", "transitions": b""}
        blocks = self._recent_after(seq)
        if blocks is None:
            return await self._in_reader(history_after, self._worker.log, seq, limit, audience)
        return packed(blocks, seq, limit, audience)

    async def trim_transitions(self, read_seq: int) -> Reply:
        """See the protocol. One at a time, also with looks back into the log."""
        if self._trimming is None or self._failure is not None:
            return _refusal("not_ready", self._failure or "the evaluator is starting")
        return await self._trimming.transitions(read_seq)

    def _recent_after(self, seq: int) -> list[TransitionBlock] | None:
        """Give the blocks above `seq` if memory holds all of them."""
        if seq >= self._last_seq:
            return []
        if not self._recent or self._recent[0].first_seq > seq + 1:
            return None
        return [block for block in self._recent if block.last_seq > seq]

    # --- handing users over ------------------------------------------------------------------------------

    async def entries_after(self, seq: int, bytes_max: int) -> Reply:
        """See the protocol."""
        bound = await self._ask(Bound())
        if "error" in bound or self._worker is None:
            return bound
        log = self._worker.log
        return await self._in_history(entries_reply, log, seq, bytes_max, bound["clock_ms"])

    async def hold(self, attempt: int, snapshots: Mapping[str, int] | None) -> Reply:
        """See the protocol."""
        return await self._ask(Hold(Kept(attempt, None if snapshots is None else dict(snapshots))))

    async def release(self) -> Reply:
        """See the protocol."""
        return await self._ask(Release())

    async def retire(self, clock_ms: int, seq: int) -> Reply:
        """See the protocol."""
        return await self._ask(Retire(clock_ms, seq))

    async def inherit(self) -> Reply:
        """See the protocol."""
        return await self._hand_over(lambda importer: importer.come_near())

    async def finish(self, ends: Mapping[int, tuple[int, int]], clock_ms: int, counts: Mapping[str, int]) -> Reply:
        """See the protocol."""
        found = {source: End(*end) for source, end in ends.items()}
        return await self._hand_over(lambda importer: importer.finish(found, clock_ms, counts))

    async def _hand_over(self, step: Callable[[Importer], Awaitable[None]]) -> Reply:
        refusal = self._unready()
        if refusal is not None:
            return refusal
        if self._importer is None:
            return {}  # it has taken over before
        try:
            await step(self._importer)
        except NotReady as error:
            return _refusal("not_ready", str(error))
        return {}

    async def status(self) -> Reply:
        """See the protocol."""
        waiting, oldest_ms = len(self._waiting), self._oldest_ms
        lag_ms = 0 if oldest_ms is None else round(self._clock.monotonic_ms() - oldest_ms)
        reply = await self._ask(Status())
        here = {"name": self.name, "pid": os.getpid(), "node": self._node_id}
        if self._importer is not None:
            here["taken_over_percent"] = self._importer.percent()
        return {**reply, **here, "lag_ms": lag_ms, "waiting": waiting}

    async def drain(self, within_ms: int = DRAIN_DEADLINE_MS) -> Reply:
        """Refuse new batches, finish what waits, write a checkpoint of it, close the log.

        `{"drained": True, "late": text}`; the text says what did not come to its end in time, and is empty mostly. What
        was acknowledged is in the log, whatever it says.
        """
        self._draining = True
        if self._importer is not None:
            await self._importer.stop()
        async with self._committed:
            self._committed.notify_all()
        keeper, self._keeper = self._keeper, None
        late = ""
        if keeper is not None:
            await self._queue(Status())  # after it all that waited is committed
            late = await keeper.stop(within_ms)
        self._ending = True
        self._wake.set()
        if self._loop_task is not None:
            await self._loop_task
        if self._worker is not None:
            if self._worker.backfill is not None:
                await self._in_thread(self._worker.backfill.cancel, "the evaluator stops")
            if self._traits is not None:
                self._traits.close()
            # Its thread reads the log.
            await asyncio.to_thread(self._backfilling.shutdown)
            await self._in_thread(self._worker.log.close)
        return {"drained": True, "late": late and f"no checkpoint of what came last: {late}"}


def _refusal(code: str, message: str) -> Reply:
    return {"error": code, "message": message, "retry_after_ms": RETRY_AFTER_MS}
