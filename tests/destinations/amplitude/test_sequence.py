"""Whole stories against a server that behaves as Amplitude's does: at the end its cohort is the audience."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from destinations.amplitude.cohorts import BUSY_MS, cohort_name
from destinations.amplitude.definition import AmplitudeDestination
from destinations.amplitude.listing import LOOK_EVERY_MS
from destinations.amplitude.settings import AmplitudeSettings
from destinations.listing import UnreadableListing
from destinations.outcomes import Retry
from destinations.records import SyncShape, Value
from destinations.requests import Response
from tests.destinations.amplitude.server import AmplitudeServer, error
from tests.destinations.driver import Driver, Stopped
from tests.destinations.stories import waves
from tests.destinations.vendor import Says

SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"external_id"}), "remove", "state")


def raw(number: int) -> dict[str, Value]:
    return {"external_id": f"user_{number}"}


def driver(server: AmplitudeServer, **settings: Any) -> Driver:
    own = {"api_key": server.api_key, "secret_key": server.secret_key, "app_id": 414, "owner": "jo@shop.example",
           "base_url": server.url or "http://127.0.0.1:1", "allow_private": True}  # fmt: skip
    return Driver(AmplitudeDestination(), AmplitudeSettings.model_validate({**own, **settings}), SHAPE)


def everybody(count: int = 1000) -> set[str]:
    return {f"user_{number}" for number in range(count)}


def test_a_thousand_users_enter_leave_and_come_back_through_failures() -> None:
    async def story() -> None:
        async with AmplitudeServer(users=everybody(), requests_max=6) as server:
            sync = driver(server)
            server.faults.extend([
                Says(503, b""), None, Says(500, b"", after=True), None, error(429, "busy"), Says(502, b"<html>"), None,
                Says(500, b"", after=True),
            ])  # fmt: skip
            rounds, inside = waves(17, 1000, 6, raw)
            for changes in rounds:
                await sync.deliver(sync.records(changes))

            ((_, members),) = server.cohorts.items()
            assert members == {f"user_{number}" for number in inside}
            assert [shown["name"] for shown in server.shown.values()] == [cohort_name(SHAPE)]
            assert sync.dead == []
            assert BUSY_MS in sync.waits_ms

    asyncio.run(story())


def test_users_whom_amplitude_does_not_know_are_named_and_harm_no_other() -> None:
    async def story() -> None:
        async with AmplitudeServer(users=everybody(10) - {"user_3"}) as server:
            sync = driver(server)
            await sync.deliver(sync.records([(f"u{number}", True, raw(number)) for number in range(10)]))

            (members,) = server.cohorts.values()
            assert members == everybody(10) - {"user_3"}
            assert sync.dead == [("u3", "Amplitude does not know the user: it has no event of theirs")]

    asyncio.run(story())


def test_an_exit_before_any_entry_makes_no_cohort() -> None:
    async def story() -> None:
        async with AmplitudeServer(users=everybody(2)) as server:
            sync = driver(server)
            await sync.deliver(sync.records([("u", False, raw(1))]))

            assert (server.cohorts, sync.delivered) == ({}, 1)

    asyncio.run(story())


@pytest.mark.parametrize(("settings", "reason"), [
    ({"secret_key": "wrong"}, "status 401"), ({"cohort_ids": {"vip": "gone"}}, "the cohort is gone"),
])  # fmt: skip
def test_what_the_server_refuses_stops_the_sync(settings: dict[str, Any], reason: str) -> None:
    async def story() -> None:
        async with AmplitudeServer(users=everybody(2)) as server:
            sync = driver(server, **settings)
            with pytest.raises(Stopped, match=reason):
                await sync.deliver(sync.records([("u", True, raw(1))]))

    asyncio.run(story())


def test_every_change_is_an_event_and_each_counts_once() -> None:
    async def story() -> None:
        async with AmplitudeServer() as server:
            server.silenced, server.quota_used_up, server.throttled = {"user_7"}, {"user_8"}, 2
            sync = driver(server, send="event")
            server.faults.extend([None, None, Says(500, b"", after=True), None, Says(504, b"", after=True)])
            rounds, inside = waves(19, 1000, 4, raw)
            for number, changes in enumerate(rounds):
                await sync.deliver(sync.records(changes, at_ms=1_000_000 * (number + 1)))

            last: dict[str, str] = {}
            for event in sorted(server.events.values(), key=lambda event: event["time"]):
                last[event["user_id"]] = event["event_type"]
            odd = {"user_7", "user_8"}
            members = {user for user, kind in last.items() if kind == "Audience Entered"}
            assert members - odd == {f"user_{number}" for number in inside} - odd
            changes = sum(len(changes) for changes in rounds)
            assert len(server.events) == changes - len(sync.dead)
            assert {user for user, _ in sync.dead} == odd
            assert 30_000 in sync.waits_ms

    asyncio.run(story())


def test_a_wrong_key_of_events_stops_the_sync() -> None:
    async def story() -> None:
        async with AmplitudeServer() as server:
            sync = driver(server, send="event", api_key="wrong")
            with pytest.raises(Stopped, match="the API key is not valid"):
                await sync.deliver(sync.records([("u", True, raw(1))]))

    asyncio.run(story())


@pytest.mark.parametrize("small_max", [0, 1_000], ids=["elsewhere", "in the answer"])
def test_a_listing_names_whoever_was_put_there_by_hand(small_max: int) -> None:
    async def story() -> None:
        async with AmplitudeServer(users=everybody(20) | {"4711"}) as server:
            server.small_max = small_max
            sync = driver(server)
            records = sync.records([(f"u{number}", True, raw(number)) for number in range(9)])
            await sync.deliver(records)
            (cohort,) = server.cohorts.values()
            cohort.update({"user_15", "4711"})
            listing = sync.kind.listing(sync.settings, SHAPE)
            assert listing is not None
            names = await sync.list_strays(5_000, [record.identifiers for record in records])

            assert [listing.stray(name) for name in names] == [{"amplitude_id": "4711"}, {"user_id": "user_15"}]
            assert LOOK_EVERY_MS in sync.waits_ms
            server.listings.clear()  # a request is forgotten: another one is made
            assert len(await sync.list_strays(6_000, [])) == 11
            assert len(server.listings) == 1

    asyncio.run(story())


def test_a_file_that_is_no_listing_is_refused() -> None:
    listing = AmplitudeDestination().listing(driver(AmplitudeServer()).settings, SHAPE)
    assert listing is not None
    assert list(listing.read(['"amplitude_id","user_id"\n', '1,"a,b"\n', "2,\n", "3,c\n"])) == [
        "a,b", "amplitude_id\x002", "c"
    ]  # fmt: skip
    with pytest.raises(UnreadableListing, match="no column user_id"):
        list(listing.read(['{"users": []}\n']))
    assert isinstance(listing.judge(Response(302, {"location": "ftp://x"}, b"", 0)), Retry)
