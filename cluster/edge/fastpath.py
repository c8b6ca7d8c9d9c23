"""The hottest request, answered from the bytes of the connection: GET /api/v1/audiences/A/memberships/U.

`FastConnection` is the protocol of every new connection. As long as each chunk it receives is exactly one such
request with an authorized head, it answers itself. At the first other chunk it hands the connection, with that
chunk, to aiohttp, for good: so there is one strict reader of the simple case and one full reader of the rest,
and never both on one byte stream.

What is remembered is the head after the request line, byte for byte: a client sends the same one every time, so that a
hit costs one dict look-up for authorization and everything else that headers can ask for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final, cast
from urllib.parse import unquote_to_bytes

from cluster.clock import Clock
from cluster.edge import problems
from cluster.edge.auth import KeyRing
from cluster.edge.problems import Problem
from cluster.edge.reading import AS_OF, Memberships, usable_key
from cluster.edge.state import EMPTY, EdgeState
from cluster.limits import FAST_HEADS_MAX, HTTP_LINE_BYTES_MAX

#: One request line, strictly: pchars only (RFC 3986), no query, HTTP/1.1.
_SEGMENT: Final = rb"([A-Za-z0-9._~!$&'()*+,;=:@%-]+)"
_REQUEST: Final = re.compile(
    rb"GET /api/v1/audiences/" + _SEGMENT + rb"/memberships/" + _SEGMENT + rb" HTTP/1\.1\r\n"
).match
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
#: Header fields that change what a request is, or how the answer must look: aiohttp reads those.
_SPECIAL: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"origin", b"content-encoding")
)
_HEAD_BYTES_MAX: Final = 4_096
_TRUE: Final = b'{"isMember":true}'
_FALSE: Final = b'{"isMember":false}'

#: An answer now, an answer to wait for, or None: not a request for this path.
Answer = bytes | Awaitable[bytes] | None


class FastMembership:
    """Turns the bytes of one membership request into the bytes of its answer."""

    def __init__(self, memberships: Memberships, clock: Clock) -> None:
        self._memberships = memberships
        self._clock = clock
        self._keys: KeyRing = EMPTY.keys
        #: Audience ids as they stand in a path, unescaped, to (id, parent).
        self._audiences: dict[bytes, tuple[str, str]] = {}
        #: Heads seen, known to be plain and authorized. Emptied when keys change.
        self._heads: set[bytes] = set()
        self._second = -1
        self._true = self._false = b""
        #: Requests answered, for /metrics.
        self.answered = 0

    def take(self, state: EdgeState) -> None:
        """Follow a new state. Authorization is decided anew for every client."""
        self._keys = state.keys
        self._audiences = {
            audience_id.encode(): (audience_id, audience.parent)
            for audience_id, audience in state.audiences.items()
        }
        self._heads = set()

    def answer(self, data: bytes) -> Answer:
        """Give the answer to a chunk that is exactly one membership request, None for every other chunk."""
        request = _REQUEST(data)
        if request is None:
            return None
        head = data[request.end():]
        if head not in self._heads and not self._admit(head):
            return None
        audience = self._audiences.get(request[1])
        user = _plain(request[2])
        if audience is None or user is None:
            return None
        now_ms = self._clock.now_ms()
        member = self._memberships.read(audience[1], user, audience[0], now_ms)
        self.answered += 1
        if member is None:
            return self._ask(audience, user)
        if now_ms // 1000 != self._second:
            self._write_answers(now_ms // 1000)
        return self._true if member else self._false

    async def _ask(self, audience: tuple[str, str], user: str) -> bytes:
        """Ask the evaluator, since the mapped files cannot tell; a refusal is an answer too."""
        try:
            known = await self._memberships.is_member(audience[1], user, audience[0])
        except Problem as problem:
            return _problem_bytes(problem, self._clock.now_ms() // 1000)
        second = self._clock.now_ms() // 1000
        if known.as_of_ms is not None:
            body = _TRUE if known.is_member else _FALSE
            return _answer_bytes(200, "application/json", body, second, f"{AS_OF}: {known.as_of_ms}\r\n")
        self._write_answers(second)
        return self._true if known.is_member else self._false

    def _admit(self, head: bytes) -> bool:
        """Read a head that was not seen before; remember it if it is plain and its key may read."""
        authorization = plain_authorization(head)
        if authorization is None:
            return False
        try:
            self._keys.require(authorization, "read")
        except Problem:
            return False  # aiohttp's handler finds the same, and says it
        if len(self._heads) >= FAST_HEADS_MAX:
            self._heads.clear()
        self._heads.add(head)
        return True

    def _write_answers(self, second: int) -> None:
        if second != self._second:
            self._second = second
            self._true = _answer_bytes(200, "application/json", _TRUE, second)
            self._false = _answer_bytes(200, "application/json", _FALSE, second)


def plain_authorization(head: bytes) -> str | None:
    """Give the Authorization value of a head that asks for nothing special; None where another reader must look.

    `head` is what follows the request line. Plain: complete and alone in its chunk, every line a well-formed field, one
    Host, one Authorization, no body, no upgrade, kept alive.
    """
    if len(head) > _HEAD_BYTES_MAX or not head.endswith(b"\r\n\r\n"):
        return None
    fields: dict[bytes, bytes] = {}
    for line in head[:-4].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or _NAME(name) is None or _CONTROL(value):
            return None
        name = name.lower()
        if name in _SPECIAL or (name in fields and name in (b"host", b"authorization", b"connection")):
            return None
        fields[name] = value.strip(b" \t")
    if b"host" not in fields or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    authorization = fields.get(b"authorization")
    return authorization.decode("latin-1") if authorization else None


def _plain(segment: bytes) -> str | None:
    """Undo percent-encoding; None for what is no UTF-8 or cannot be a key (aiohttp's handler answers those)."""
    if b"%" not in segment:
        return segment.decode("ascii") if len(segment) <= 1_024 else None
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    return text if usable_key(text) else None


def _answer_bytes(status: int, content_type: str, body: bytes, second: int, extra: str = "") -> bytes:
    phrase = {200: "OK", 503: "Service Unavailable"}.get(status, "Error")
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\n{extra}Date: {formatdate(second, usegmt=True)}\r\nServer: usher\r\n\r\n"
    )
    return head.encode("ascii") + body


def _problem_bytes(problem: Problem, second: int) -> bytes:
    extra = "".join(f"{name}: {value}\r\n" for name, value in problem.headers.items())
    return _answer_bytes(problem.status, problems.CONTENT_TYPE, problem.body(), second, extra)


class FastConnection(asyncio.Protocol):
    """A connection until its first request that is not a plain membership look-up."""

    __slots__ = ("_answer", "_busy", "_connections", "_fallback", "_held", "_transport", "idle_since_s")

    def __init__(
        self,
        answer: Callable[[bytes], Answer],
        fallback: Callable[[], asyncio.Protocol],
        connections: set[FastConnection],
    ) -> None:
        self._answer = answer
        self._fallback = fallback
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._busy: asyncio.Task[None] | None = None
        #: Marked by the server's sweep; 0 after traffic.
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go; an answer on its way is dropped."""
        self._connections.discard(self)
        self._transport = None
        if self._busy is not None:
            self._busy.cancel()

    def pause_writing(self) -> None:
        """The client reads too slowly: take no more requests from it meanwhile."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on, unless an answer is still awaited."""
        if self._transport is not None and self._busy is None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Answer, or pass the connection on."""
        if self._busy is not None:
            self._hold(data)
            return
        try:
            answer = self._answer(data)
        except Exception:
            # aiohttp's handler of the same path meets the same error, and answers 500 with an id.
            answer = None
        if answer.__class__ is bytes:
            self.idle_since_s = 0.0
            self._transport.write(answer)  # type: ignore[union-attr]
        elif answer is None:
            self._pass_on(data)
        else:
            self._transport.pause_reading()  # type: ignore[union-attr]
            self._busy = asyncio.ensure_future(self._write_later(cast("Awaitable[bytes]", answer)))

    def _hold(self, data: bytes) -> None:
        """Keep what still came in before reading paused; a client that goes on regardless is cut off."""
        self._held += data
        if len(self._held) > 4 * HTTP_LINE_BYTES_MAX and self._transport is not None:
            self._transport.abort()

    async def _write_later(self, answer: Awaitable[bytes]) -> None:
        try:
            written = await answer
        except Exception:
            # The evaluator's handle failed in an unforeseen way: without an answer the client may retry.
            if self._transport is not None:
                self._transport.abort()
            raise
        if self._transport is None:
            return
        self._transport.write(written)
        self._transport.resume_reading()
        self._busy = None
        held, self._held = self._held, b""
        if held:
            self.data_received(held)

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

    def close_if_idle(self, now_s: float, after_s: float) -> None:
        """Close a connection without traffic for `after_s`; called by the server's sweep."""
        if self._busy is not None or self._transport is None:
            return
        if self.idle_since_s == 0.0:
            self.idle_since_s = now_s
        elif now_s - self.idle_since_s >= after_s:
            self._transport.close()

    async def drain(self) -> None:
        """Finish the answer on its way, then close."""
        if self._busy is not None:
            await asyncio.gather(self._busy, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
