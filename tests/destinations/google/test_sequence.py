"""Whole stories against a server that behaves as Google's do: at the end its list is the audience."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from destinations.google.definition import GoogleDestination
from destinations.google.settings import GoogleSettings
from destinations.identifiers import sha256_hex
from destinations.outcomes import Finished
from destinations.records import SyncShape, Value
from tests.destinations.driver import Driver, Stopped
from tests.destinations.google.keys import key_file, private_key
from tests.destinations.google.server import GoogleServer, error
from tests.destinations.stories import waves
from tests.destinations.vendor import Says

SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"email", "phone"}), "remove", "state")
OAUTH = {"client_id": "77-web.apps", "client_secret": "cl1ent-s3cret", "refresh_token": "1//r3fresh"}


def raw(number: int) -> dict[str, Value]:
    return {"email": f"User.{number}@gmail.com", "phone": f"+4930{number:07d}" if number % 3 else None}


def values(numbers: set[int]) -> set[str]:
    emails = {sha256_hex(f"user{number}@gmail.com") for number in numbers}
    return emails | {sha256_hex(f"+4930{number:07d}") for number in numbers if number % 3}


def driver(server: GoogleServer, **settings: Any) -> Driver:
    own = {"customer_id": server.account, "login_customer_id": server.manager, "service_account_key": key_file(),
           "accept_customer_match_terms": True, "base_url": server.url, "token_url": f"{server.url}/token",
           "allow_private": True}  # fmt: skip
    checked = {name: value for name, value in {**own, **settings}.items() if value is not ...}
    return Driver(GoogleDestination(), GoogleSettings.model_validate(checked), SHAPE)


def server(**more: Any) -> GoogleServer:
    return GoogleServer(public_key=private_key().public_key(), **more)


def test_a_thousand_users_enter_leave_and_come_back_through_failures() -> None:
    async def story() -> None:
        async with server(per_minute=5) as google:
            sync = driver(google)
            google.faults.extend([
                None, Says(503, b""), None, None, error(500, "INTERNAL", "lost"), Says(500, b"", after=True),
                error(409, "ABORTED", "again"), None, Says(502, b"<html>", after=True), None, error(429, "", ""),
            ])  # fmt: skip
            rounds, inside = waves(11, 1000, 6, raw)
            for number, changes in enumerate(rounds):
                await sync.deliver(sync.records(changes))
                if number == 3:
                    google.tokens.clear()  # they have run out
            google.settle()

            (user_list,) = google.user_lists
            assert set(google.lists[user_list]) == values(inside)
            assert sync.dead == []
            assert google.tokens_given == 2
            assert 60_000 in sync.waits_ms, "a quota by the minute asks for a minute"
            assert set(map(str, sync.finished)) == {str(Finished())}

    asyncio.run(story())


def test_a_list_is_found_again_and_never_made_twice() -> None:
    async def story() -> None:
        async with server() as google:
            sync = driver(google)
            google.faults.extend([None, None, Says(500, b"", after=True)])  # made, and the answer lost
            await sync.deliver(sync.records([("u", True, raw(1))]))
            again = driver(google)
            await again.deliver(again.records([("v", True, raw(2))]))
            google.settle()

            (user_list,) = google.user_lists.values()
            assert user_list["displayName"] == "VIPs"
            assert set(google.lists[user_list["id"]]) == values({1, 2})

    asyncio.run(story())


def test_a_name_that_is_taken_gets_the_syncs_beside_it() -> None:
    async def story() -> None:
        async with server() as google:
            google.user_lists["1"] = {"id": "1", "displayName": "VIPs", "membershipStatus": "OPEN"}
            await driver(google).take_steps("open")

            assert [entry["displayName"] for entry in google.user_lists.values()] == ["VIPs", "VIPs (promo)"]

    asyncio.run(story())


def test_an_archived_list_is_closed_and_opened_again_when_its_sync_comes_back() -> None:
    async def story() -> None:
        async with server() as google:
            sync = driver(google)
            await sync.deliver(sync.records([("u", True, raw(1))]))
            await sync.take_steps("archive")
            (user_list,) = google.user_lists.values()
            assert user_list["membershipStatus"] == "CLOSED"

            back = driver(google)
            await back.deliver(back.records([("v", True, raw(2))]))
            google.settle()
            assert user_list["membershipStatus"] == "OPEN"
            assert set(google.lists[user_list["id"]]) == values({1, 2})

    asyncio.run(story())


def test_a_resync_ends_with_strays_removed() -> None:
    async def story() -> None:
        async with server() as google:
            sync = driver(google)
            await sync.deliver(sync.records([(f"u{number}", True, raw(number)) for number in range(5)]))
            google.settle()
            google.clock_ms = 5_000
            fresh = driver(google)
            await fresh.deliver(fresh.records([(f"u{number}", True, raw(number)) for number in (1, 2)]))
            google.settle()
            await fresh.take_steps("purge", since_ms=5_000)
            google.settle()

            (members,) = google.lists.values()
            assert set(members) == values({1, 2})

    asyncio.run(story())


def test_one_member_that_is_not_sound_harms_no_other() -> None:
    async def story() -> None:
        async with server() as google:
            sync = driver(google)
            records = sync.records([(f"u{number}", True, raw(number)) for number in range(20)])
            for index in (3, 11):
                records[index].identifiers["email"] = "zz"
            await sync.deliver(records)
            google.settle()

            (members,) = google.lists.values()
            assert set(members) == values(set(range(20)) - {3, 11})
            assert sorted(user for user, _ in sync.dead) == ["u11", "u3"]
            assert {reason for _, reason in sync.dead} == {"Google refuses the member: INVALID_HEX_ENCODING"}

    asyncio.run(story())


@pytest.mark.parametrize(("changed", "reason"), [
    ({"service_account_key": ..., "oauth": {**OAUTH, "refresh_token": "old"}}, "token request failed: invalid_grant"),
    ({"customer_id": "5555555555"}, "the Google Ads account does not exist"),
    ({"login_customer_id": "1111111111"}, "PERMISSION_DENIED"),
    ({"user_list_ids": {"vip": "99"}}, "the user list is gone"),
])  # fmt: skip
def test_what_the_server_refuses_stops_the_sync_with_the_reason(changed: dict[str, Any], reason: str) -> None:
    async def story() -> None:
        async with server() as google:
            sync = driver(google, **changed)
            with pytest.raises(Stopped, match=reason):
                await sync.deliver(sync.records([("u", True, raw(1))]))

    asyncio.run(story())


def test_a_refresh_token_serves_as_well_and_terms_that_are_not_signed_are_named() -> None:
    async def story() -> None:
        async with server() as google:
            sync = driver(google, service_account_key=..., oauth=OAUTH)
            await sync.deliver(sync.records([("u", True, raw(1))]))
            google.terms_signed = False
            with pytest.raises(Stopped, match="TERMS_AND_CONDITIONS_NOT_SIGNED"):
                await sync.deliver(sync.records([("v", True, raw(2))]))

    asyncio.run(story())


def test_what_comes_to_nothing_later_is_counted() -> None:
    async def story() -> None:
        async with server(polls=3) as google:
            sync = driver(google, consent={"ad_user_data": "denied"})
            await sync.deliver(sync.records([(f"u{number}", True, raw(number)) for number in range(4)]))

            assert sync.finished == [Finished({"PROCESSING_ERROR_REASON_DENIED_CONSENT": 4})]
            assert sync.waits_ms.count(1_800_000) == 3

    asyncio.run(story())
