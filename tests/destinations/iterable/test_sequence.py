"""Whole stories against a server that behaves as Iterable's does: at the end its list is the audience."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from destinations.iterable.definition import IterableDestination
from destinations.iterable.lists import mark
from destinations.iterable.settings import IterableSettings
from destinations.records import SyncShape, Value
from tests.destinations.driver import Driver, Stopped
from tests.destinations.iterable.server import IterableServer, error
from tests.destinations.stories import waves
from tests.destinations.vendor import Says

SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"email"}), "remove", "state")


def raw(number: int) -> dict[str, Value]:
    return {"email": f"User.{number}@Example.org"}


def address(number: int) -> str:
    return f"user.{number}@example.org"


def driver(server: IterableServer, **settings: Any) -> Driver:
    own = {"api_key": server.key, "base_url": server.url, "allow_private": True}
    return Driver(IterableDestination(), IterableSettings.model_validate({**own, **settings}), SHAPE)


def mine(server: IterableServer) -> set[str]:
    (id_,) = [id_ for id_, shown in server.shown.items() if shown["description"] == mark(SHAPE)]
    return server.lists[id_]


def test_a_thousand_users_enter_leave_and_come_back_through_failures() -> None:
    async def story() -> None:
        async with IterableServer(requests_max=6, subscribers_max=300) as server:
            sync = driver(server)
            server.faults.extend([
                Says(503, b""), None, Says(500, b"", after=True), Says(502, b"<html>", after=True), None,
                error(500, "DatabaseError", "lost"), Says(500, b"", after=True), None,
                error(429, "RateLimitExceeded", ""),
            ])  # fmt: skip
            rounds, inside = waves(3, 1000, 6, raw)
            for changes in rounds:
                await sync.deliver(sync.records(changes))

            assert mine(server) == {address(number) for number in inside}
            assert sync.dead == []
            assert server.left_channel == set()
            assert 2_000 in sync.waits_ms

    asyncio.run(story())


def test_a_list_that_somebody_deletes_stops_the_sync_and_the_next_start_makes_one() -> None:
    async def story() -> None:
        async with IterableServer() as server:
            sync = driver(server)
            await sync.deliver(sync.records([("u", True, raw(1))]))
            deleted = sync.learned["list_id"]
            del server.lists[deleted]
            server.shown[deleted]["description"] = "deleted"
            with pytest.raises(Stopped, match="the list is gone"):
                await sync.deliver(sync.records([("v", True, raw(2))]))
            await sync.deliver(sync.records([("v", True, raw(2))]))

            assert mine(server) == {address(2)}

    asyncio.run(story())


def test_hybrid_projects_know_users_by_either_and_make_none_unless_wanted() -> None:
    async def story() -> None:
        async with IterableServer(project="hybrid") as server:
            server.users = {"u-1", address(2)}
            server.forgotten = {address(3)}
            careful = driver(server, project="hybrid", create_users=False)
            people = [("a", True, {"external_id": "u-1"}), ("b", True, raw(2)), ("c", True, raw(3)),
                      ("d", True, {"external_id": "u-4"})]  # fmt: skip
            await careful.deliver(careful.records(people))  # type: ignore[arg-type]

            assert mine(server) == {"u-1", address(2)}
            assert careful.skipped == ["c"]
            assert careful.dead == [("d", "Iterable refuses the subscriber: Iterable does not have the user")]

    asyncio.run(story())


@pytest.mark.parametrize(("settings", "reason"), [
    ({"api_key": "wrong"}, "401, BadApiKey: the API key is refused"), ({"list_ids": {"vip": 5}}, "the list is gone"),
])  # fmt: skip
def test_what_the_server_refuses_stops_the_sync(settings: dict[str, Any], reason: str) -> None:
    async def story() -> None:
        async with IterableServer() as server:
            sync = driver(server, **settings)
            with pytest.raises(Stopped, match=reason):
                await sync.deliver(sync.records([("u", True, raw(1))]))

    asyncio.run(story())


def test_the_wrong_sort_of_project_is_refused_record_by_record() -> None:
    async def story() -> None:
        async with IterableServer(project="user_id") as server:
            sync = driver(server)
            await sync.deliver(sync.records([("u", True, raw(1)), ("v", True, raw(2))]))

            assert [user for user, _ in sync.dead] == ["u", "v"]
            assert mine(server) == set()

    asyncio.run(story())


def test_a_listing_names_whoever_was_put_there_by_hand() -> None:
    async def story() -> None:
        async with IterableServer() as server:
            sync = driver(server)
            records = sync.records([(f"u{number}", True, raw(number)) for number in range(9)])
            await sync.deliver(records)
            mine(server).add("by.hand@example.org")
            present = [record.identifiers for record in records]

            assert await sync.list_strays(5_000, present) == ["by.hand@example.org"]
            for _ in range(4):
                await sync.list_strays(5_000, present)
            with pytest.raises(Stopped, match="429, RateLimitExceeded"):
                await sync.list_strays(5_000, present)

    asyncio.run(story())


def test_a_hybrid_project_lists_a_user_by_the_name_that_is_asked_for() -> None:
    async def story() -> None:
        async with IterableServer(project="hybrid") as server:
            server.addresses = {"u-1": address(1)}
            by_id = driver(server, project="hybrid")
            by_id.shape = replace(SHAPE, fields=frozenset({"external_id"}))
            await by_id.deliver(by_id.records([("a", True, {"external_id": "u-1"})]))

            assert await by_id.list_strays(1, [{"userId": "u-1"}]) == []
            by_email = driver(server, project="hybrid")
            by_email.learned = by_id.learned
            assert await by_email.list_strays(1, [{"email": address(1)}]) == []

    asyncio.run(story())
