"""Whole stories against a server that behaves as Meta's does: at the end its list is the audience."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from destinations.facebook.audiences import mark
from destinations.facebook.definition import FacebookDestination
from destinations.facebook.settings import FacebookSettings
from destinations.identifiers import sha256_hex
from destinations.records import SyncShape, Value
from tests.destinations.driver import Driver, Stopped
from tests.destinations.facebook.server import FacebookServer, error
from tests.destinations.stories import waves
from tests.destinations.vendor import Says

SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"email", "phone"}), "remove", "state")


def raw(number: int) -> dict[str, Value]:
    return {"email": f"User.{number}@Example.org", "phone": f"+4930{number:07d}" if number % 3 else None}


def pairs(numbers: set[int]) -> set[tuple[str, str]]:
    emails = {("EMAIL", sha256_hex(f"user.{number}@example.org")) for number in numbers}
    return emails | {("PHONE", sha256_hex(f"4930{number:07d}")) for number in numbers if number % 3}


def driver(server: FacebookServer, **settings: Any) -> Driver:
    own = {"access_token": server.token, "ad_account": server.account, "base_url": server.url, "allow_private": True}
    return Driver(FacebookDestination(), FacebookSettings.model_validate({**own, **settings}), SHAPE)


def test_a_thousand_users_enter_leave_and_come_back_through_failures() -> None:
    async def story() -> None:
        async with FacebookServer(score_max=30) as server:
            sync = driver(server)
            server.faults.extend([
                Says(503, b"<html>down</html>"), None, Says(200, {"num_received": 0}), error(2, "try later"),
                Says(500, b"lost", after=True), Says(200, {}), error(4, "limit", subcode=1504022), None, None,
                Says(502, b"", after=True),
            ])  # fmt: skip
            rounds, inside = waves(7, 1000, 6, raw)
            for changes in rounds:
                await sync.deliver(sync.records(changes))

            (audience,) = server.audiences
            assert server.lists[audience] == pairs(inside)
            assert sync.dead == []
            assert 300_000 in sync.waits_ms, "throttling asked for minutes"

    asyncio.run(story())


def test_the_audience_is_found_again_however_many_there_are_and_never_made_twice() -> None:
    async def story() -> None:
        async with FacebookServer(audiences=450) as server:
            first = driver(server)
            server.faults.extend([None, None, None, Says(500, b"", after=True)])  # made, and the answer lost
            await first.deliver(first.records([("u", True, raw(1))]))
            again = driver(server)
            await again.deliver(again.records([("v", True, raw(2))]))

            assert len(server.audiences) == 451
            (mine,) = [id_ for id_, shown in server.audiences.items() if shown["description"] == mark(SHAPE)]
            assert server.audiences[mine]["name"] == "VIPs"
            assert server.lists[mine] == pairs({1, 2})

    asyncio.run(story())


def test_an_audience_that_is_given_is_used_and_none_is_made() -> None:
    async def story() -> None:
        async with FacebookServer(audiences=1) as server:
            (given,) = server.audiences
            sync = driver(server, audience_ids={"vip": given})
            await sync.deliver(sync.records([("u", True, raw(1))]))

            assert server.lists == {given: pairs({1})}
            assert all(came.method == "POST" for came in server.came)

    asyncio.run(story())


def test_an_audience_that_somebody_deletes_stops_the_sync_and_the_next_start_makes_one() -> None:
    async def story() -> None:
        async with FacebookServer() as server:
            sync = driver(server)
            await sync.deliver(sync.records([("u", True, raw(1))]))
            (deleted,) = server.audiences
            del server.audiences[deleted]
            with pytest.raises(Stopped, match="the custom audience is gone"):
                await sync.deliver(sync.records([("v", True, raw(2))]))
            server._make({"name": "another"})  # ids are not given twice
            await sync.deliver(sync.records([("v", True, raw(2))]))

            assert server.lists[sync.learned["audience_id"]] == pairs({2})

    asyncio.run(story())


@pytest.mark.parametrize(("settings", "reason"), [
    ({"access_token": "wrong"}, "code 190, subcode 460: the access token is not valid"),
    ({"ad_account": "999"}, "the ad account does not exist, or this token may not see it"),
    ({"api_version": "v19.0"}, "code 2635"),
])  # fmt: skip
def test_what_the_server_refuses_stops_the_sync_with_the_reason(settings: dict[str, Any], reason: str) -> None:
    async def story() -> None:
        async with FacebookServer() as server:
            sync = driver(server, **settings)
            with pytest.raises(Stopped, match=reason):
                await sync.deliver(sync.records([("u", True, raw(1))]))

    asyncio.run(story())


def test_terms_that_were_not_accepted_are_named() -> None:
    async def story() -> None:
        async with FacebookServer() as server:
            server.accepted_terms = False
            with pytest.raises(Stopped, match="has not accepted the Custom Audience terms"):
                await driver(server).take_steps("open")

    asyncio.run(story())


@pytest.mark.parametrize("app_secret", [None, "wrong", FacebookServer.app_secret])
def test_an_app_that_demands_a_proof_gets_the_right_one_or_refuses(app_secret: str | None) -> None:
    async def story() -> None:
        async with FacebookServer(wants_proof=True) as server:
            sync = driver(server, app_secret=app_secret)
            if app_secret == FacebookServer.app_secret:
                await sync.deliver(sync.records([("u", True, raw(1))]))
                assert pairs({1}) in server.lists.values()
            else:
                with pytest.raises(Stopped, match="code 100"):
                    await sync.deliver(sync.records([("u", True, raw(1))]))

    asyncio.run(story())


def test_users_of_mixed_identifiers_all_arrive_and_nobody_without_one() -> None:
    async def story() -> None:
        async with FacebookServer() as server:
            sync = driver(server)
            people = [("a", True, {"external_id": "a", "email": "a@x.org"}), ("b", True, {"email": "b@x.org"}),
                      ("c", True, {"mobile_ad_id": "AB1234CD-E123-12F0-A123-0123456789AB"}),
                      ("d", True, {"email": "nobody"})]  # fmt: skip
            await sync.deliver(sync.records(people))  # type: ignore[arg-type]

            (members,) = server.lists.values()
            assert members == {
                ("EXTERN_ID", "a"), ("EMAIL", sha256_hex("a@x.org")), ("EMAIL", sha256_hex("b@x.org")),
                ("MADID", "ab1234cd-e123-12f0-a123-0123456789ab"),
            }  # fmt: skip
            assert (sync.delivered, sync.dropped) == (3, [("d", "not usable: email")])

    asyncio.run(story())
