"""Load generators: prebuilt requests over kept connections, each generator in a process of its own.

`open_loop` sends at a fixed rate whatever the answers do, and counts each answer from when its request was DUE: a
server that stalls is charged for everything that should have been sent meanwhile (no coordinated omission).
`closed_loop` sends the next request on a connection when the last one is answered: full speed.
Both are plain asyncio protocols on uvloop, about 15 µs a request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, TypeVar, cast

import numpy as np
import uvloop

from benchmarks.shop import numbered

#: How long answers are awaited after the last request.
_PATIENCE_S = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Load:
    """What to send where. Requests are sent in turn; where `numbers`, each send gets the next number."""

    host: str
    port: int
    requests: tuple[bytes, ...]
    connections: int
    numbers: bool = False
    first_number: int = 0

    def request(self, index: int) -> bytes:
        """Give the bytes of the index-th send."""
        chosen = self.requests[index % len(self.requests)]
        return numbered(chosen, self.first_number + index) if self.numbers else chosen


@dataclass(slots=True)
class Sent:
    """What became of a load. Times are of the monotonic clock, which all processes of a machine share.

    `due_ns` and `done_ns` have one entry a request (`done_ns` 0: never answered); `closed_loop` leaves them empty.
    `bodies`: some answers' bodies, by the index of the send.
    """

    sends: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    due_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    done_ns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    sent_late_ms: float = 0.0
    bodies: dict[int, bytes] = field(default_factory=dict)

    @property
    def all_ok(self) -> bool:
        """Whether every request was answered with 200."""
        return self.statuses == {200: self.sends} and self.sends > 0

    def latencies_ms(self) -> np.ndarray:
        """Give each request's time from due to answered; unanswered ones count as still waiting."""
        done = np.where(self.done_ns == 0, self.done_ns.max(initial=0), self.done_ns)
        latencies: np.ndarray = (done - self.due_ns) / 1e6
        return latencies


class Connection(asyncio.Protocol):
    """One kept connection with at most one request under way."""

    def __init__(self, on_answer: Callable[[Connection, int, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._buffer = b""
        self._transport: asyncio.Transport
        #: The send that is under way.
        self.index = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell; a load with a lost connection has failed."""
        self._on_lost()

    def send(self, index: int, request: bytes) -> None:
        """Send the index-th request."""
        self.index = index
        self._transport.write(request)

    def close(self) -> None:
        """Close."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Gather one answer (a head with Content-Length, or without a body) and tell of it."""
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        length = _LENGTH(data, 0, end + 2) if end >= 0 else None
        if end < 0 or len(data) < end + 4 + (int(length[1]) if length else 0):
            self._buffer = data
            return
        self._buffer = b""
        self._on_answer(self, int(data[9:12]), data[end + 4 :])


class _Run:
    """One load under way."""

    def __init__(self, load: Load, keep_every: int) -> None:
        self._load = load
        self._keep_every = keep_every
        self._statuses: Counter[int] = Counter()
        self._bodies: dict[int, bytes] = {}
        self._answered = asyncio.Event()
        self._connections: list[Connection] = []
        self._lost = 0
        self._closing = False

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._load.connections):
            _, protocol = await loop.create_connection(
                lambda: Connection(self._on_answer, self._on_lost), self._load.host, self._load.port
            )
            self._connections.append(protocol)

    def _on_answer(self, connection: Connection, status: int, body: bytes) -> None:
        self._statuses[status] += 1
        if self._keep_every and connection.index % self._keep_every == 0:
            self._bodies[connection.index] = body
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        raise NotImplementedError

    def _on_lost(self) -> None:
        if not self._closing:
            self._statuses[0] += 1  # no answer: shows up beside the 200s
            self._lost += 1
            self._answered.set()

    def _close(self) -> None:
        self._closing = True
        for connection in self._connections:
            connection.close()


class _ClosedLoop(_Run):
    async def run(self, seconds: float) -> Sent:
        await self._connect()
        began = time.monotonic()
        self._until = began + seconds
        self._sends = 0
        self._under_way = 0
        for connection in self._connections:
            self._next(connection, first=True)
        async with asyncio.timeout(seconds + _PATIENCE_S):
            await self._answered.wait()
        took = time.monotonic() - began
        self._close()
        return Sent(self._sends, took, dict(self._statuses), bodies=self._bodies)

    def _next(self, connection: Connection, first: bool = False) -> None:
        if not first:
            self._under_way -= 1
        if time.monotonic() < self._until:
            connection.send(self._sends, self._load.request(self._sends))
            self._sends += 1
            self._under_way += 1
        elif not self._under_way:
            self._answered.set()


class _OpenLoop(_Run):
    async def run(self, rate: float, seconds: float) -> Sent:
        await self._connect()
        self._count = int(rate * seconds)
        self._idle = deque(self._connections)
        self._backlog: deque[int] = deque()
        self._due = np.zeros(self._count, np.int64)
        self._done = np.zeros(self._count, np.int64)
        self._left = self._count
        late_ms = await self._send_all(rate)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._answered.wait()
        except TimeoutError:
            self._statuses[0] += self._left
        self._close()
        seconds_taken = (int(self._done.max(initial=0)) - int(self._due[0])) / 1e9
        return Sent(
            self._count, seconds_taken, dict(self._statuses), self._due, self._done, late_ms, self._bodies
        )

    async def _send_all(self, rate: float) -> float:
        """Send on schedule, in ticks of 1 ms; gives the p99 of how late the generator itself was."""
        start_ns = time.monotonic_ns() + 5_000_000
        self._due = start_ns + (np.arange(self._count) * 1000 // rate).astype(np.int64) * 1_000_000
        due = self._due.tolist()
        late_ns: list[int] = []
        index = 0
        while index < self._count and not self._lost:
            now_ns = time.monotonic_ns()
            if due[index] > now_ns:
                await asyncio.sleep((due[index] - now_ns) / 1e9)
                continue
            late_ns.append(now_ns - due[index])
            while index < self._count and due[index] <= now_ns:
                self._send(index)
                index += 1
            await asyncio.sleep(0)
        return float(np.quantile(late_ns, 0.99)) / 1e6

    def _send(self, index: int) -> None:
        if self._idle:
            self._idle.popleft().send(index, self._load.request(index))
        else:
            self._backlog.append(index)

    def _next(self, connection: Connection) -> None:
        self._done[connection.index] = time.monotonic_ns()
        self._left -= 1
        if not self._left:
            self._answered.set()
        if self._backlog:
            index = self._backlog.popleft()
            connection.send(index, self._load.request(index))
        else:
            self._idle.append(connection)


def closed_loop(load: Load, seconds: float, keep_every: int = 0) -> Sent:
    """Send for `seconds` at full speed; a body of every `keep_every`-th answer is kept (0: none)."""

    async def work() -> Sent:
        return await _ClosedLoop(load, keep_every).run(seconds)

    return _in_uvloop(work())


def open_loop(load: Load, rate: float, seconds: float, keep_every: int = 0) -> Sent:
    """Send `rate` requests a second for `seconds`."""

    async def work() -> Sent:
        return await _OpenLoop(load, keep_every).run(rate, seconds)

    return _in_uvloop(work())


def _in_uvloop(work: Coroutine[Any, Any, _T]) -> _T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def generators(count: int) -> ProcessPoolExecutor:
    """Give a pool of `count` fresh processes to run generators in."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))
