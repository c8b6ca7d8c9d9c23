"""A destination tried out: what is shown is what is sent, secrets apart; what is only shown touches nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.delivery.plans import plan_syncs
from actors.delivery.tokens import Tokens
from actors.delivery.transport import HttpTransport
from actors.delivery.trying import Trial
from cluster.clock import SystemClock
from cluster.definitions.model import Audience, Column, Definitions, Destination, ParentModel, Settings, Sync, TraitTest
from cluster.definitions.model import Test as ModelTest
from destinations.identifiers import sha256_hex
from destinations.registry import OWN
from tests.actors.delivery.world import InProcessController, InProcessEvaluator, definitions, receiver, started
from tests.destinations.facebook.server import FacebookServer
from tests.destinations.google.keys import key_file, private_key
from tests.destinations.google.server import GoogleServer
from tests.destinations.vendor import Says, Vendor

TRAITS = {"email": ["Jane@Example.org"]}


def trial(kind: str, server: Vendor, transport: HttpTransport, **settings: Any) -> Trial:
    checked = OWN[kind].settings_model.model_validate({"base_url": server.url, "allow_private": True, **settings})
    where = TraitTest("ltv", ModelTest("gt", 0.0, "number"))
    definitions = Definitions(
        Settings(1, 1, 1, 64), {}, {"users": ParentModel("users", "user_id", {"email": Column("email", "string")})}, {},
        {"vip": Audience("vip", "users", where)}, {"there": Destination("there", kind, checked)},
        {"promo": Sync("promo", "vip", "there", {"email": "email"})},
    )  # fmt: skip
    clock = SystemClock()
    (plan,) = plan_syncs(definitions, (0,), (), OWN).values()
    return Trial(plan, transport, Tokens(transport, clock), clock)


def told(story: Callable[[HttpTransport], Awaitable[None]]) -> None:
    async def run() -> None:
        transport = HttpTransport(SystemClock())
        try:
            await story(transport)
        finally:
            await transport.close()

    asyncio.run(run())


def facebook(server: FacebookServer) -> dict[str, Any]:
    return {"access_token": server.token, "app_secret": server.app_secret, "ad_account": server.account}


def google(server: GoogleServer) -> dict[str, Any]:
    return {"customer_id": server.account, "service_account_key": key_file(), "accept_customer_match_terms": True,
            "token_url": f"{server.url}/token"}  # fmt: skip


def test_what_is_only_shown_touches_nothing_and_hides_secrets() -> None:
    async def story(transport: HttpTransport) -> None:
        async with FacebookServer(wants_proof=True) as server:
            shown = await trial("facebook", server, transport, **facebook(server)).run("u", "add", TRAITS, send=False)

            assert (server.came, shown["delivered"], shown["dropped"]) == ([], None, None)
            assert [exchange["purpose"] for exchange in shown["requests"]] == ["list", "change"]
            change = shown["requests"][1]["request"]
            assert change["url"].endswith("/v26.0/CUSTOM_AUDIENCE/users")
            assert json.loads(change["body"])["payload"]["data"] == [[sha256_hex("jane@example.org")]]
            assert server.token not in json.dumps(shown)
            assert server.app_secret not in json.dumps(shown)

    told(story)


def test_what_is_sent_is_shown_with_its_answers() -> None:
    async def story(transport: HttpTransport) -> None:
        async with FacebookServer(wants_proof=True) as server:
            sent = await trial("facebook", server, transport, **facebook(server)).run("u", "add", TRAITS, send=True)

            assert [exchange["outcome"] for exchange in sent["requests"]] == ["learned", "learned", "delivered"]
            assert (sent["delivered"], sent["requests"][2]["response"]["status"]) == (True, 200)
            assert list(server.lists.values()) == [{("EMAIL", sha256_hex("jane@example.org"))}]
            assert server.token not in json.dumps(sent)

    told(story)


def test_a_token_is_got_and_never_shown() -> None:
    async def story(transport: HttpTransport) -> None:
        async with GoogleServer(public_key=private_key().public_key()) as server:
            shown = await trial("google", server, transport, **google(server)).run("u", "remove", TRAITS, send=False)
            assert [exchange["purpose"] for exchange in shown["requests"]] == ["token", "list", "change"]
            assert shown["requests"][0]["request"]["body"] == "***"
            assert "audienceMembers:remove" in shown["requests"][2]["request"]["url"]

            sent = await trial("google", server, transport, **google(server)).run("u", "add", TRAITS, send=True)
            assert sent["delivered"] is True
            told_of = json.dumps([shown, sent])
            assert "ya29" not in told_of
            assert "PRIVATE KEY" not in told_of

    told(story)


@pytest.mark.parametrize(("fault", "outcome"), [
    (Says(401, {"error": {"code": 190}}), "credentials: code 190: the access token is not valid"),
    (Says(429, {}, {"Retry-After": "7"}), "retry: status 429 (asks to wait 7000 ms)"),
])  # fmt: skip
def test_a_refusal_ends_the_trial_with_its_meaning(fault: Says, outcome: str) -> None:
    async def story(transport: HttpTransport) -> None:
        async with FacebookServer() as server:
            server.faults.append(fault)
            sent = await trial("facebook", server, transport, **facebook(server)).run("u", "add", TRAITS, send=True)

            assert (sent["delivered"], [exchange["outcome"] for exchange in sent["requests"]]) == (False, [outcome])

    told(story)


def test_a_user_without_an_identifier_is_said_to_be_dropped() -> None:
    async def story(transport: HttpTransport) -> None:
        async with FacebookServer() as server:
            own = facebook(server)
            dropped = await trial("facebook", server, transport, **own).run("u", "add", {"email": [None]}, send=True)

            assert (dropped["delivered"], dropped["requests"], server.came) == (False, [], [])
            assert dropped["dropped"] == "no value for any identifier that names a person"

    told(story)


def test_the_actor_tries_a_destination_through_the_first_of_its_syncs(tmp_path: Path) -> None:
    async def run() -> None:
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, syncs=("promo", "also")))
            actor = await started(tmp_path, controller, InProcessEvaluator())
            while len((await actor.status())["syncs"]) < 2:
                await asyncio.sleep(0.01)
            shown = await actor.test_destination("hook", "", "ann", "add", False)
            assert (shown["sync"], shown["delivered"], endpoint.received) == ("also", None, [])
            sent = await actor.test_destination("hook", "promo", "ann", "remove", True)
            assert (sent["delivered"], endpoint.received[0].changes[0]["kind"]) == (True, "exited")
            for destination, sync in (("hook", "none"), ("none", "")):
                assert (await actor.test_destination(destination, sync, "ann", "add", False))["error"] == "not_found"
            await actor.drain()

    asyncio.run(run())
