"""Access tokens, in memory alone: one a scope, shared by all syncs of it, renewed before it runs out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from actors.delivery.transport import HttpTransport
from cluster.clock import Clock
from destinations.contract import Destination
from destinations.outcomes import Credentials, Retry, Token, TokenOutcome
from destinations.requests import Answer, Request

#: A token's text (empty where the kind needs none), or why there is none.
Held: TypeAlias = str | Retry | Credentials
#: Takes a request for a token, its answer, how long that took in ms, and what it means.
Heard: TypeAlias = Callable[[Request, Answer, float, TokenOutcome], None]


class Tokens:
    """Gets tokens from their servers. A scope is asked for once at a time, however many requests wait for it."""

    def __init__(self, transport: HttpTransport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._held: dict[str, Token] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(self, kind: Destination, settings: Any, heard: Heard | None = None) -> Held:
        """Give the token that requests under these settings need now; `heard` is told of a request for one."""
        scope = kind.token_scope(settings)
        if scope is None:
            return ""
        async with self._asking.setdefault(scope, asyncio.Lock()):
            held = self._held.get(scope)
            if held is None or held.expires_ms <= self._clock.now_ms():
                outcome = await self._ask(kind, settings, heard)
                if not isinstance(outcome, Token):
                    return outcome
                self._held[scope] = held = outcome
            return held.value

    def refused(self, kind: Destination, settings: Any, value: str) -> None:
        """Forget a token that an API refused, unless a newer one is there already."""
        scope = kind.token_scope(settings)
        held = self._held.get(scope) if scope is not None else None
        if scope is not None and held is not None and held.value == value:
            del self._held[scope]

    async def _ask(self, kind: Destination, settings: Any, heard: Heard | None) -> TokenOutcome:
        request, started_ms = kind.token_request(settings, self._clock.now_ms()), self._clock.monotonic_ms()
        answer = await self._transport.send(request)
        outcome = kind.judge_token(settings, answer)
        if heard is not None:
            heard(request, answer, self._clock.monotonic_ms() - started_ms, outcome)
        return outcome
