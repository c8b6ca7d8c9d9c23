"""Whole stories against a server that behaves as Braze's does: at the end its profiles are the audience."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from destinations.braze.definition import BrazeDestination
from destinations.braze.settings import BrazeSettings
from destinations.records import SyncShape, Value
from tests.destinations.braze.server import BrazeServer
from tests.destinations.driver import Driver, Stopped
from tests.destinations.stories import waves
from tests.destinations.vendor import Says

SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"external_id"}), "remove", "state")


def raw(number: int) -> dict[str, Value]:
    return {"external_id": f"user_{number}"}


def driver(server: BrazeServer, **settings: Any) -> Driver:
    own = {"rest_endpoint": "rest.iad-01.braze.com", "api_key": server.key, "base_url": server.url,
           "allow_private": True, "create_users": True}  # fmt: skip
    return Driver(BrazeDestination(), BrazeSettings.model_validate({**own, **settings}), SHAPE)


@pytest.mark.parametrize("send", ["attribute", "array", "event"])
def test_a_thousand_users_enter_leave_and_come_back_through_failures(send: str) -> None:
    async def story() -> None:
        async with BrazeServer(requests_max=20) as server:
            sync = driver(server, send=send)
            server.faults.extend([
                Says(503, b""), None, Says(201, {"message": "unable"}), Says(500, b"", after=send != "event"), None,
                Says(502, b"<html>", after=send != "event"), Says(429, {}, {"Retry-After": "2"}),
            ])  # fmt: skip
            rounds, inside = waves(5, 1000, 5, raw)
            for changes in rounds:
                await sync.deliver(sync.records(changes))

            wanted = {f"user_{number}" for number in inside}
            if send == "attribute":
                assert server.members("audience_vip") == wanted
            elif send == "array":
                members = {name for (_, name), shown in server.profiles.items() if shown["audiences"] == ["vip"]}
                assert members == wanted
            else:
                last = {name: event["name"] for (_, name), event in server.events}
                assert {name for name, event in last.items() if event == "Audience Entered"} == wanted
                assert len(server.events) == sum(map(len, rounds)), "every change, each once"
            assert sync.dead == []
            assert 2_000 in sync.waits_ms
            assert max(sync.quiet_ms) == 3_600_000

    asyncio.run(story())


def test_a_profile_that_braze_does_not_have_is_made_only_if_wanted() -> None:
    async def story() -> None:
        async with BrazeServer() as server:
            careful = driver(server, create_users=False)
            await careful.deliver(careful.records([("u", True, raw(1))]))
            assert server.profiles == {}
            generous = driver(server)
            await generous.deliver(generous.records([("u", True, raw(1)), ("v", True, raw(2)), ("v", False, raw(2))]))
            assert server.members("audience_vip") == {"user_1"}

    asyncio.run(story())


def test_one_object_that_braze_refuses_harms_no_other() -> None:
    async def story() -> None:
        async with BrazeServer() as server:
            server.blocked = {"user_3"}
            sync = driver(server)
            await sync.deliver(sync.records([(f"u{number}", True, raw(number)) for number in range(100)]))

            assert server.members("audience_vip") == {f"user_{number}" for number in range(100) if number != 3}
            assert sync.dead == [("u3", "Braze refuses the object: the user is blocked")]
            assert [len(came.json["attributes"]) for came in server.came] == [75, 25]

    asyncio.run(story())


@pytest.mark.parametrize("settings", [{"api_key": "wrong"}, {"base_url": "other"}])
def test_what_the_server_refuses_stops_the_sync(settings: dict[str, Any]) -> None:
    async def story() -> None:
        async with BrazeServer() as server:
            own = {"base_url": f"{server.url}/elsewhere"} if "base_url" in settings else settings
            sync = driver(server, **own)
            with pytest.raises(Stopped):
                await sync.deliver(sync.records([("u", True, raw(1))]))

    asyncio.run(story())
