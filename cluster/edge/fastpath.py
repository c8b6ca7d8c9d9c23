"""The hottest request, answered from the bytes of the connection: GET /api/v1/audiences/A/memberships/U.

What is remembered is the head after the request line, byte for byte: a client sends the same one every time, so that a
hit costs one dict look-up for authorization and everything else that headers can ask for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Final
from urllib.parse import unquote_to_bytes

from cluster.clock import Clock
from cluster.edge import problems
from cluster.edge.auth import KeyRing
from cluster.edge.heads import answer_bytes, plain_authorization
from cluster.edge.problems import Problem
from cluster.edge.reading import AS_OF, Memberships, usable_key
from cluster.edge.state import EMPTY, EdgeState
from cluster.limits import FAST_HEADS_MAX

#: One request line, strictly: pchars only (RFC 3986), no query, HTTP/1.1.
_SEGMENT: Final = rb"([A-Za-z0-9._~!$&'()*+,;=:@%-]+)"
_REQUEST: Final = re.compile(
    rb"GET /api/v1/audiences/" + _SEGMENT + rb"/memberships/" + _SEGMENT + rb" HTTP/1\.1\r\n"
).match
_TRUE: Final = b'{"isMember":true}'
_FALSE: Final = b'{"isMember":false}'
_JSON: Final = "application/json"
_NOT_STORED: Final = {"Cache-Control": "no-store"}

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
            audience_id.encode(): (audience_id, audience.parent) for audience_id, audience in state.audiences.items()
        }
        self._heads = set()

    def answer(self, data: bytes) -> Answer:
        """Give the answer to a chunk that is exactly one membership request, None for every other chunk."""
        request = _REQUEST(data)
        if request is None:
            return None
        head = data[request.end() :]
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
            second = self._clock.now_ms() // 1000
            return answer_bytes(
                problem.status, problems.CONTENT_TYPE, problem.body(), second, _NOT_STORED | problem.headers
            )
        second = self._clock.now_ms() // 1000
        if known.as_of_ms is not None:
            body = _TRUE if known.is_member else _FALSE
            return answer_bytes(200, _JSON, body, second, {**_NOT_STORED, AS_OF: str(known.as_of_ms)})
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
            self._true = answer_bytes(200, _JSON, _TRUE, second, _NOT_STORED)
            self._false = answer_bytes(200, _JSON, _FALSE, second, _NOT_STORED)


def _plain(segment: bytes) -> str | None:
    """Undo percent-encoding; None for what is no UTF-8 or cannot be a key (aiohttp's handler answers those)."""
    if b"%" not in segment:
        return segment.decode("ascii") if len(segment) <= 1_024 else None
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    return text if usable_key(text) else None
