"""Tokens are asked for once a scope, kept as long as they are good, and asked for anew after a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.delivery.tokens import Tokens
from actors.delivery.transport import HttpTransport
from cluster.clock import ManualClock
from destinations.google.definition import GoogleDestination
from destinations.google.settings import GoogleSettings
from destinations.outcomes import Credentials, Retry
from destinations.webhook.definition import WebhookDestination
from tests.destinations.google.keys import key_file, private_key
from tests.destinations.google.server import GoogleServer
from tests.destinations.vendor import Says

KIND = GoogleDestination()
START_MS = 1_795_428_000_000


def settings(server: GoogleServer, **changed: Any) -> GoogleSettings:
    return GoogleSettings.model_validate({
        "customer_id": server.account, "service_account_key": key_file(), "accept_customer_match_terms": True,
        "token_url": f"{server.url}/token", "allow_private": True, **changed,
    })  # fmt: skip


def test_one_token_serves_everybody_until_it_runs_out_or_is_refused() -> None:
    async def story() -> None:
        clock = ManualClock(START_MS)
        async with GoogleServer(public_key=private_key().public_key()) as server:
            transport = HttpTransport(clock)
            tokens = Tokens(transport, clock)
            one, other = settings(server), settings(server, timeout="3s")

            values = await asyncio.gather(*(tokens.get(KIND, each) for each in (one, other) * 20))
            assert (set(values), server.tokens_given) == ({"ya29.t0ken1"}, 1)

            clock.advance(3_599_000)
            assert await tokens.get(KIND, one) == "ya29.t0ken2"
            tokens.refused(KIND, one, "ya29.t0ken1")  # an older one: a late answer must not cost the new one
            assert await tokens.get(KIND, one) == "ya29.t0ken2"
            tokens.refused(KIND, one, "ya29.t0ken2")
            assert await tokens.get(KIND, other) == "ya29.t0ken3"
            await transport.close()

    asyncio.run(story())


def test_failures_are_said_and_not_kept() -> None:
    async def story() -> None:
        clock = ManualClock(START_MS)
        async with GoogleServer(public_key=private_key().public_key()) as server:
            transport = HttpTransport(clock)
            tokens = Tokens(transport, clock)
            server.faults.extend([Says(503, b""), Says(400, {"error": "invalid_grant"})])

            assert isinstance(await tokens.get(KIND, settings(server)), Retry)
            assert isinstance(await tokens.get(KIND, settings(server)), Credentials)
            assert await tokens.get(KIND, settings(server)) == "ya29.t0ken1"
            await transport.close()

    asyncio.run(story())


def test_a_kind_without_tokens_needs_none() -> None:
    async def story() -> None:
        clock = ManualClock(START_MS)
        kind = WebhookDestination()
        checked = kind.settings_model.model_validate({"url": "https://example.com"})
        assert await Tokens(HttpTransport(clock), clock).get(kind, checked) == ""

    asyncio.run(story())
