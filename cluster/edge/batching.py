"""From many small requests to few calls: events are gathered for some ms, decoded once, dealt out, sent, accounted for.

A request's rows travel with other requests' rows; `dealing.Tally` knows at the end what became of each. An
evaluator that refuses, or does not answer, fails exactly the requests that have rows there: they answer 503, and dedup
makes the client's retry safe.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from cluster.admission.outcomes import RowOutcomes
from cluster.edge import problems
from cluster.edge.dealing import Part, Tally, deal
from cluster.edge.problems import Problem
from cluster.edge.sightings import Sightings
from cluster.edge.state import EdgeState, StateWatcher
from cluster.errors import NotReady, Overloaded
from cluster.limits import (
    BATCH_LINGER_MS,
    BATCH_ROWS_MAX,
    CALLS_IN_FLIGHT_MAX,
    EDGE_ROWS_WAITING_MAX,
    RETRY_AFTER_MS,
    STALE_TRIES_MAX,
    STALE_WAIT_MS,
)
from cluster.runtime.protocols import Evaluator, Reply
from cluster.wire.envelope import RawEvents, envelope_of_all

_log = logging.getLogger("usher.edge")

#: From so many requests in a batch on, as many are awaited for the next one, and for how long at most.
_MANY_REQUESTS: Final = 32
_GATHER_MS: Final = 2
#: How long events wait for users who move to other evaluators, and how often that is looked at.
MOVED_WAIT_S: Final = 10.0
_MOVED_EVERY_S: Final = 0.02


class EvaluatorLane:
    """The calls of one edge to one evaluator: a bounded number in flight, a bounded number of rows in all."""

    def __init__(self, index: int, evaluator: Evaluator) -> None:
        self._index = index
        self._evaluator = evaluator
        self._slots = asyncio.Semaphore(CALLS_IN_FLIGHT_MAX)
        self.rows_waiting = 0

    async def append(self, request: Reply, rows: int) -> Reply:
        """Send rows when a slot is free; a reply that says `overloaded` at once where too many rows wait."""
        if self.rows_waiting and self.rows_waiting + rows > EDGE_ROWS_WAITING_MAX:
            message = f"{self.rows_waiting:,} events already wait for evaluator {self._index}."
            return {"error": "overloaded", "message": message, "retry_after_ms": RETRY_AFTER_MS}
        self.rows_waiting += rows
        try:
            async with self._slots:
                return await self._evaluator.append(request)
        finally:
            self.rows_waiting -= rows


#: What became of a request's rows, or why nothing is known of it.
Settled = RowOutcomes | Exception


@dataclass(slots=True)
class _Waiting:
    """One request's events, and who is told what became of them, once."""

    events: RawEvents
    settle: Callable[[Settled], None]


class EventBatcher:
    """Gathers requests, and tells each what became of its rows."""

    def __init__(self, watcher: StateWatcher, evaluators: Callable[[int], Evaluator], sightings: Sightings) -> None:
        self._watcher = watcher
        self._sightings = sightings
        self._evaluators = evaluators
        self._lanes: dict[int, EvaluatorLane] = {}
        self._waiting: deque[_Waiting] = deque()
        self._waiting_rows = 0
        self._timer: asyncio.Handle | None = None
        #: What that timer was set to.
        self._timer_ms = 0
        #: Requests of the last batch, where they were many.
        self._together = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed = False
        #: Rows of requests not yet answered.
        self.rows_held = 0

    async def submit(self, events: RawEvents) -> RowOutcomes:
        """Say what became of each row, once all that are accepted are durable.

        Raises Overloaded where too many rows wait, NotReady when stopping, Problem 503 where an evaluator refuses or
        is away.
        """
        if not len(events):
            return RowOutcomes(0, 0, [])
        done: asyncio.Future[RowOutcomes] = asyncio.get_running_loop().create_future()
        self.enqueue(events, lambda result: _resolve(done, result))
        return await done

    def enqueue(self, events: RawEvents, settle: Callable[[Settled], None]) -> None:
        """Take a request's events, at least one; `settle` is called once, in the event loop, and must not raise.

        Raises Overloaded and NotReady as `submit` does; every other error is settled.
        """
        rows = len(events)
        self._check_room(rows)
        self._waiting.append(_Waiting(events, settle))
        self._waiting_rows += rows
        self.rows_held += rows
        self._schedule()

    async def drain(self) -> None:
        """Refuse new rows, and wait until every submitted one is answered for."""
        self._closed = True
        while self._waiting or self._under_way:
            self._flush()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _check_room(self, rows: int) -> None:
        if self._closed:
            message = "This edge is stopping."
            raise NotReady(message, retry_after_ms=RETRY_AFTER_MS, next_step="Send the events again.")
        if self._waiting_rows and self._waiting_rows + rows > EDGE_ROWS_WAITING_MAX:
            message = f"{self._waiting_rows:,} events already wait to be decoded."
            raise Overloaded(message, retry_after_ms=RETRY_AFTER_MS, next_step="Send them again later.")

    def _schedule(self) -> None:
        """Send when full; at once when idle, with what else arrives in this turn of the loop; else later.

        A batch costs every process on its way about a ms however small it is, so the busier they are, the larger
        batches get: while one is under way, the next waits for its answer (`_finished`), or the linger. Senders that
        were answered together send together again, a ms or so later: after a batch of many, the next waits for as many.
        """
        if self._waiting_rows >= BATCH_ROWS_MAX:
            self._flush()
        elif self._under_way:
            self._flush_in(BATCH_LINGER_MS)
        else:
            self._flush_in(0 if len(self._waiting) >= self._together else _GATHER_MS)

    def _flush_in(self, wait_ms: int) -> None:
        """Have what waits sent, unless it will be sooner."""
        if self._timer is not None:
            if self._timer_ms <= wait_ms:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_ms = wait_ms
        self._timer = loop.call_later(wait_ms / 1000, self._flush) if wait_ms else loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._together = len(self._waiting) if len(self._waiting) >= _MANY_REQUESTS else 0
        while self._waiting:
            batch: list[_Waiting] = []
            rows = 0
            while self._waiting and (not batch or rows + len(self._waiting[0].events) <= BATCH_ROWS_MAX):
                rows += len(self._waiting[0].events)
                batch.append(self._waiting.popleft())
            self._waiting_rows -= rows
            task = asyncio.get_running_loop().create_task(self._work(batch))
            self._under_way.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not self._under_way and self._waiting:
            self._schedule()

    async def _work(self, batch: list[_Waiting]) -> None:
        try:
            tally = await self._send(envelope_of_all([waiting.events for waiting in batch]))
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, Problem):
                # One request's events made decoding fail: each is tried alone, so that only that one fails.
                await asyncio.gather(*(self._work([waiting]) for waiting in batch))
                return
            for waiting in batch:
                self._settle(waiting, error)
            return
        results = tally.by_request([len(waiting.events) for waiting in batch])
        for waiting, result in zip(batch, results, strict=True):
            self._settle(waiting, result)

    def _settle(self, waiting: _Waiting, result: Settled) -> None:
        self.rows_held -= len(waiting.events)
        try:
            waiting.settle(result)
        except Exception:
            # Others of this batch wait for their answers too.
            _log.exception("What became of a request's events could not be told.")

    async def _send(self, envelope: pa.RecordBatch) -> Tally:
        """Decode, deal and send one batch."""
        state = self._ready_state()
        decoded = state.decoder.decode(envelope)
        self._sightings.take(state.decoder.plan, envelope, decoded)
        parts = deal(envelope, decoded, state.owner_of_partition)
        tally = Tally(dict(decoded.rejected))
        await asyncio.gather(*(self._send_part(part, state, tally) for part in parts))
        return tally

    def _ready_state(self) -> EdgeState:
        state = self._watcher.current
        if state.decoder is None or not state.owner_of_partition:
            raise problems.unavailable("No definitions are published yet. Publish some: usher apply FILE.")
        return state

    async def _send_part(self, part: Part, state: EdgeState, tally: Tally) -> None:
        """Send one evaluator's part; when definitions changed meanwhile, decode again and send again.

        Where its users move to other evaluators, wait for that and deal it out anew.
        """
        for _ in range(STALE_TRIES_MAX + 1):
            reply = await self._call(part, state)
            if reply.get("error") == "moved":
                await self._send_moved(part, state, tally)
                return
            if reply.get("error") != "stale":
                self._settle_part(part, reply, tally)
                return
            if not await self._watcher.refresh(int(reply["current_version"]), STALE_WAIT_MS):
                break
            state = self._ready_state()
            decoded = state.decoder.decode(part.envelope)
            part = part.again(decoded, state.owner_of_partition)
            tally.redecoded(part, decoded.rejected)
        message = "New definitions are coming into force. Send the events again."
        tally.failed(part, problems.unavailable(message, "stale"))

    async def _send_moved(self, part: Part, state: EdgeState, tally: Tally) -> None:
        """Send a part whose users are being handed over: to their new evaluators, or their old one if that was put off.

        The rows wait here, within what an edge may hold; after MOVED_WAIT_S they are refused.
        """
        before = state.owner_of_partition
        until = asyncio.get_running_loop().time() + MOVED_WAIT_S
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_MOVED_EVERY_S)
            now = self._ready_state()
            if now.owner_of_partition != before:
                if now.version != state.version:
                    decoded = now.decoder.decode(part.envelope)
                    # Whose rows these were is told by who owned their keys then.
                    part = part.again(decoded, before)
                    tally.redecoded(part, decoded.rejected)
                parts = part.dealt_anew(before, now.owner_of_partition)
                await asyncio.gather(*(self._send_part(each, now, tally) for each in parts))
                return
            reply = await self._call(part, state)
            if reply.get("error") != "moved":
                self._settle_part(part, reply, tally)
                return
        message = "Users are moving to other evaluators. Send the events again."
        tally.failed(part, problems.unavailable(message, "moved"))

    def _settle_part(self, part: Part, reply: Reply, tally: Tally) -> None:
        problem = problems.of_reply(reply)
        if problem is None:
            tally.answered(part, reply["outcomes"])
        else:
            tally.failed(part, problem)

    async def _call(self, part: Part, state: EdgeState) -> Reply:
        try:
            return await self._lane(part.owner).append(part.request(state.version), part.envelope.num_rows)
        except Exception as error:
            # A handle whose actor is gone says so in many ways; the events were not acknowledged, so: again later.
            _log.warning("The call to evaluator %d failed: %s: %s", part.owner, type(error).__name__, error)
            message = f"Evaluator {part.owner} cannot be reached."
            return {"error": "unreachable", "message": message, "retry_after_ms": RETRY_AFTER_MS}

    def _lane(self, index: int) -> EvaluatorLane:
        lane = self._lanes.get(index)
        if lane is None:
            lane = self._lanes[index] = EvaluatorLane(index, self._evaluators(index))
        return lane


def _resolve(done: asyncio.Future[RowOutcomes], result: Settled) -> None:
    if done.done():
        return  # the client went away
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
