"""Whole stories against a server that behaves as Segment's does: what it kept is the audience, it dropped nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from segment.analytics.request import post

from destinations.records import SyncShape, Value
from destinations.segment.definition import SegmentDestination
from destinations.segment.settings import SegmentSettings
from tests.destinations.driver import Driver
from tests.destinations.segment.server import SegmentServer
from tests.destinations.stories import waves
from tests.destinations.vendor import Says

SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"external_id"}), "remove", "changes")


def raw(number: int) -> dict[str, Value]:
    return {"external_id": f"user_{number}", "email": f"u{number}@example.org"}


def driver(server: SegmentServer, **settings: Any) -> Driver:
    own = {"write_key": server.key, "base_url": server.url, "allow_private": True}
    return Driver(SegmentDestination(), SegmentSettings.model_validate({**own, **settings}), SHAPE)


def test_a_thousand_users_enter_leave_and_come_back_through_failures() -> None:
    async def story() -> None:
        async with SegmentServer(requests_max=5) as server:
            sync = driver(server)
            server.faults.extend([
                Says(503, b""), None, Says(500, b"", after=True), None, Says(502, b"<html>", after=True),
                Says(460, b""), Says(408, b"", after=True),
            ])  # fmt: skip
            rounds, inside = waves(13, 1000, 6, raw)
            for number, changes in enumerate(rounds):
                await sync.deliver(sync.records(changes, at_ms=1_795_428_000_000 + number * 100_000))

            assert server.members("vip") == {f"user_{number}" for number in inside}
            assert server.dropped == []
            events = [call for call in server.kept.values() if call["type"] == "track"]
            assert len(events) == sum(map(len, rounds)), "every change, each once"
            assert sync.dead == []
            assert 3_000 in sync.waits_ms

    asyncio.run(story())


def test_the_server_takes_what_segments_own_library_sends() -> None:
    async def story() -> None:
        async with SegmentServer() as server:
            call = {"type": "track", "userId": "u", "event": "E", "messageId": "m", "properties": {},
                    "timestamp": "2026-11-23T10:00:00+00:00"}  # fmt: skip
            await asyncio.to_thread(post, server.key, server.url, batch=[call])

            assert (list(server.kept), server.dropped) == (["m"], [])

    asyncio.run(story())


@pytest.mark.parametrize("changed", [{"type": "tracked"}, {"userId": ""}, {"event": ""}, {"messageId": "m" * 100}])
def test_the_server_drops_behind_a_200_what_segment_drops(changed: dict[str, str]) -> None:
    async def story() -> None:
        async with SegmentServer() as server:
            call = {"type": "track", "userId": "u", "event": "E", "messageId": "m",
                    "timestamp": "2026-11-23T10:00:00+00:00", **changed}  # fmt: skip
            answer = await asyncio.to_thread(post, server.key, server.url, batch=[call])

            assert (answer.status_code, server.kept, len(server.dropped)) == (200, {}, 1)

    asyncio.run(story())
