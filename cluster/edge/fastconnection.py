"""Connections as they begin: the hottest requests are answered from their bytes, everything else by aiohttp.

`FastConnection` is the protocol of every new connection. As long as what it receives is exactly one request that one
of the fast paths takes (`fastpath`, `fastevents`), it answers itself. At the first other bytes it hands the connection,
with them, to aiohttp, for good: so there is one strict reader of the simple case and one full reader of the rest, and
never both on one byte stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from cluster.edge.fastevents import Part, Taken
from cluster.edge.fastpath import Answer
from cluster.limits import HTTP_LINE_BYTES_MAX

#: Bytes that may come beside a request under way before the client is cut off.
_HELD_BYTES_MAX = 4 * HTTP_LINE_BYTES_MAX
_POST = ord("P")


@dataclass(frozen=True, slots=True)
class FastPaths:
    """What answers from bytes, or gives None for what is not for it (`FastMembership.answer`, `FastEvents.post`)."""

    answer: Callable[[bytes], Answer]
    post: Callable[[bytes, Callable[[bytes], None]], Taken]


class FastConnection(asyncio.Protocol):
    """A connection until its first request that no fast path takes."""

    __slots__ = (
        "_busy", "_connections", "_fallback", "_fast", "_held", "_idle", "_part", "_task", "_transport", "idle_since_s",
    )  # fmt: skip

    def __init__(
        self, fast: FastPaths, fallback: Callable[[], asyncio.Protocol], connections: set[FastConnection]
    ) -> None:
        self._fast = fast
        self._fallback = fallback
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        #: An answer is on its way; what comes meanwhile is held.
        self._busy = False
        self._held = b""
        #: A request of which more is to come.
        self._part: Part | None = None
        self._task: asyncio.Future[bytes] | None = None
        #: Waits for the answer on its way, while draining.
        self._idle: asyncio.Future[None] | None = None
        #: Marked by the server's sweep; 0 after traffic.
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go; an answer on its way is dropped, events on their way are not."""
        self._connections.discard(self)
        self._transport = None
        if self._task is not None:
            self._task.cancel()
        self._forget_part()

    def pause_writing(self) -> None:
        """The client reads too slowly: take no more requests from it meanwhile."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on, unless what came too early still waits."""
        if self._transport is not None and not self._held:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Answer, or pass the connection on."""
        if self._busy:
            self._hold(data)
            return
        self.idle_since_s = 0.0
        if self._part is not None:
            self._more(data)
            return
        try:
            if data[0] == _POST:
                self._post(data)
                return
            answer = self._fast.answer(data)
        except Exception:
            # aiohttp's handler of the same path meets the same error, and answers 500 with an id.
            answer = None
        if answer.__class__ is bytes:
            self._transport.write(answer)  # type: ignore[union-attr]
        elif answer is None:
            self._pass_on(data)
        else:
            self._busy = True
            # The answer is the task itself: cancelled before its first step, another around it would never await it.
            self._task = asyncio.ensure_future(cast("Awaitable[bytes]", answer))
            self._task.add_done_callback(self._answered)

    def deliver(self, answer: bytes) -> None:
        """Write the answer that was awaited, and go on with what came meanwhile."""
        self._free()
        transport = self._transport
        if transport is None:
            return
        transport.write(answer)
        if self._held:
            held, self._held = self._held, b""
            transport.resume_reading()
            self.data_received(held)

    # --- requests with bodies --------------------------------------------------------------------

    def _post(self, data: bytes) -> None:
        # Set before: the answer may come within the call.
        self._busy = True
        try:
            taken = self._fast.post(data, self.deliver)
        except Exception:
            self._busy = False
            raise
        if taken is True:
            return
        self._busy = False
        if taken is None:
            self._pass_on(data)
        else:
            self._part = taken

    def _more(self, data: bytes) -> None:
        """Gather the rest of a request, in as many pieces as it takes."""
        part = self._part
        assert part is not None, "there is one"
        part.data += data
        if len(part.data) < part.total_bytes:
            return
        whole = bytes(part.data)
        self._forget_part()
        try:
            self._post(whole)
        except Exception:
            self._pass_on(whole)

    def _forget_part(self) -> None:
        if self._part is not None:
            self._part.forget()
            self._part = None

    # --- between two requests --------------------------------------------------------------------

    def _hold(self, data: bytes) -> None:
        """Keep what comes before its turn, and read no more; a client that goes on regardless is cut off."""
        self._held += data
        if self._transport is None:
            return
        if len(self._held) > _HELD_BYTES_MAX:
            self._transport.abort()
        else:
            self._transport.pause_reading()

    def _answered(self, task: asyncio.Future[bytes]) -> None:
        self._task = None
        if task.cancelled():
            self._free()
        elif (error := task.exception()) is None:
            self.deliver(task.result())
        else:
            # The evaluator's handle failed in an unforeseen way: without an answer the client may retry.
            self._free()
            if self._transport is not None:
                self._transport.abort()
            raise error

    def _free(self) -> None:
        """No answer is on its way any more; a drain need not wait."""
        self._busy = False
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _pass_on(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        self._connections.discard(self)
        self._transport = None
        protocol = self._fallback()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def sweep(self, now_s: float, after_s: float) -> None:
        """Close a connection without traffic for `after_s`; called by the server now and then.

        A request that has not gone on since the last call is aiohttp's: it knows how long a body may take.
        """
        if self._busy or self._transport is None:
            return
        if self.idle_since_s == 0.0:
            self.idle_since_s = now_s
        elif self._part is not None:
            begun = bytes(self._part.data)
            self._forget_part()
            self._pass_on(begun)
        elif now_s - self.idle_since_s >= after_s:
            self._transport.close()

    async def drain(self) -> None:
        """Finish the answer on its way, then close."""
        if self._busy:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        if self._transport is not None:
            self._transport.close()
