"""What lists want beside changes, through the whole of delivery: archived in the end, told again before they lapse."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from destinations.google.definition import GoogleDestination
from destinations.identifiers import sha256_hex
from tests.actors.delivery.asking import backlog_is, delivered_is, eventually, has_syncs, sync_of
from tests.actors.delivery.test_actor_kinds import addresses, asked, google
from tests.actors.delivery.world import InProcessController, InProcessEvaluator, started
from tests.destinations.google.keys import private_key
from tests.destinations.google.server import GoogleServer


async def is_closed(server: GoogleServer) -> bool:
    return all(user_list["membershipStatus"] == "CLOSED" for user_list in server.user_lists.values())


def test_exits_leave_a_list_alone_that_is_archived_when_its_sync_is_deleted(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a", "b"):
            evaluator.flip(user)
        async with GoogleServer(public_key=private_key().public_key()) as server:
            whole = asked("google", google(server), on_exit="archive", batch_age_ms=5)
            controller = InProcessController(whole)
            actor = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: delivered_is(actor, 2))
            evaluator.flip("a")
            evaluator.flip("c")
            await eventually(lambda: delivered_is(actor, 3))
            server.settle()
            (members,) = server.lists.values()
            assert set(members) == {sha256_hex(f"{user}@example.org") for user in "abc"}, "an exit sends nothing"
            assert not await is_closed(server)
            controller.publish(replace(whole, syncs={}))
            await eventually(lambda: is_closed(server))
            await eventually(lambda: has_syncs(actor, 0))
            await actor.drain()

    asyncio.run(run())


def test_members_are_told_again_before_they_lapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.delivery.upkeep._IDLE_S", 0.05)
    monkeypatch.setattr(GoogleDestination, "resend_every_ms", lambda self, settings: 300)

    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a", "b"):
            evaluator.flip(user)
        async with GoogleServer(public_key=private_key().public_key()) as server:
            controller = InProcessController(asked("google", google(server), batch_age_ms=5))
            actor = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: at_least(actor, 4))
            await eventually(lambda: backlog_is(actor, 0))
            await actor.drain()
            server.settle()
            (members,) = server.lists.values()
            assert set(members) == {sha256_hex(f"{user}@example.org") for user in "ab"}

    asyncio.run(run())


async def at_least(actor: Any, count: int) -> bool:
    return bool((await sync_of(actor)).get("delivered", 0) >= count)
