"""Who is in a list: members whose identifiers change, resyncs, and syncs that end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.definitions.model import Column, Definitions, Destination, Sync
from destinations.iterable.settings import IterableSettings
from tests.actors.delivery.asking import backlog_is, begun, delivered_is, eventually, sync_of
from tests.actors.delivery.world import (
    AUDIENCE,
    InProcessController,
    InProcessEvaluator,
    InProcessTraits,
    definitions,
    started,
)
from tests.destinations.iterable.server import IterableServer, error
from tests.destinations.vendor import Says


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.delivery.roster._TRAITS_EVERY_S", 0.02)
    monkeypatch.setattr("actors.delivery.upkeep._LOOK_S", 0.01)
    monkeypatch.setattr("actors.delivery.retries.RETRY_BASE_MS", 10)


def asked(server: IterableServer, *, present: bool = True, **sync: Any) -> Definitions:
    base = definitions("https://example.org/hook", columns={"email": Column("email", "string", pii=True)})
    settings = {"api_key": server.key, "base_url": server.url, "allow_private": True}
    fields = {"identifiers": {"email": "email"}, "deliver": "state", **sync}
    return replace(
        base,
        destinations={"list": Destination("list", "iterable", IterableSettings.model_validate(settings))},
        syncs={"promo": Sync("promo", AUDIENCE, "list", **fields)} if present else {},
    )


def members(server: IterableServer) -> set[str]:
    """Who is in our list; the other one is somebody else's."""
    ours = [id_ for id_, shown in server.shown.items() if shown["name"] != "Newsletter"]
    return set[str]().union(*(server.lists[id_] for id_ in ours))


def emails(*users: str) -> dict[str, str]:
    return {user: f"{user}@example.org" for user in users}


async def is_true(fits: Callable[[], bool]) -> bool:
    return fits()


def test_identifiers_that_change_appear_late_or_vanish_are_followed_also_over_a_kill(tmp_path: Path) -> None:
    async def run(forgets_old: bool, folder: Path) -> None:
        folder.mkdir()
        evaluator = InProcessEvaluator()
        for user in ("a", "b", "c", "d"):
            evaluator.flip(user)
        traits = InProcessTraits(email=emails("a", "b", "d"))
        traits.forgets_old = forgets_old
        async with IterableServer() as server:
            controller = InProcessController(asked(server))
            first = await started(folder, controller, evaluator, traits)
            await eventually(lambda: is_true(lambda: members(server) == set(emails("a", "b", "d").values())))
            traits.now(email={**emails("a", "c"), "b": "new.b@example.org"})
            await eventually(
                lambda: is_true(
                    lambda: members(server) == {"a@example.org", "c@example.org", "new.b@example.org"}
                )
            )
            await first.abandon()
            traits.now(email={**emails("a", "c", "d"), "b": "newer.b@example.org"})
            second = await started(folder, controller, evaluator, traits)
            everybody = {"a@example.org", "c@example.org", "d@example.org", "newer.b@example.org"}
            await eventually(lambda: is_true(lambda: members(server) == everybody))
            for user in ("b", "d"):
                evaluator.flip(user)
            await eventually(lambda: is_true(lambda: members(server) == set(emails("a", "c").values())))
            await second.drain()

    asyncio.run(run(False, tmp_path / "difference"))
    asyncio.run(run(True, tmp_path / "everybody"))


def test_other_columns_make_other_identifiers(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a", "b"):
            evaluator.flip(user)
        traits = InProcessTraits(email=emails("a", "b"), work={"a": "a@work.example", "b": "b@work.example"})
        async with IterableServer() as server:
            controller = InProcessController(asked(server))
            actor = await started(tmp_path, controller, evaluator, traits)
            await eventually(lambda: is_true(lambda: members(server) == set(emails("a", "b").values())))
            controller.publish(asked(server, identifiers={"email": "work"}))
            await eventually(lambda: is_true(lambda: members(server) == {"a@work.example", "b@work.example"}))
            await actor.drain()

    asyncio.run(run())


def test_a_resync_tells_every_member_again_and_removes_whom_only_delivery_knows(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(50):
            evaluator.flip(f"user{number}")
        traits = InProcessTraits(email=emails(*(f"user{number}" for number in range(60))))
        async with IterableServer() as server:
            controller = InProcessController(asked(server, batch_size=20))
            actor = await started(tmp_path, controller, evaluator, traits)
            await eventually(lambda: delivered_is(actor, 50))
            for members_of in server.lists.values():
                members_of.discard("user1@example.org")
                members_of.discard("user7@example.org")
            # What delivery told, and the evaluator does not know: as after a disk that lost its last minutes.
            evaluator.rows = [row for row in evaluator.rows if row.user != "user3"]
            evaluator.rows.append(replace(evaluator.rows[0], user="user50"))
            assert "began_at" in await actor.resync("promo")
            evaluator.flip("user9")
            wanted = {f"user{number}@example.org" for number in range(51) if number not in (3, 9)}
            await eventually(lambda: is_true(lambda: members(server) == wanted))
            await eventually(lambda: is_not_resyncing(actor))
            assert (await sync_of(actor))["state"] == "running"
            await actor.drain()

    asyncio.run(run())


async def is_not_resyncing(actor: Any) -> bool:
    return not (await sync_of(actor))["resyncing"]


def test_a_resync_goes_on_after_a_kill(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(40):
            evaluator.flip(f"user{number}")
        traits = InProcessTraits(email=emails(*(f"user{number}" for number in range(40))))
        async with IterableServer() as server:
            controller = InProcessController(asked(server, batch_size=5))
            first = await started(tmp_path, controller, evaluator, traits)
            await eventually(lambda: delivered_is(first, 40))
            for members_of in server.lists.values():
                members_of.clear()
            await first.resync("promo")
            await eventually(lambda: is_true(lambda: len(members(server)) >= 5))
            await first.abandon()
            second = await started(tmp_path, controller, evaluator, traits)
            await eventually(lambda: is_true(lambda: len(members(server)) == 40))
            await eventually(lambda: is_not_resyncing(second))
            await second.drain()

    asyncio.run(run())


def test_a_sync_that_is_deleted_leaves_its_members_or_removes_them(tmp_path: Path) -> None:
    async def run(on_delete: str, folder: Path, left: int) -> None:
        folder.mkdir()
        evaluator = InProcessEvaluator()
        for number in range(30):
            evaluator.flip(f"user{number}")
        traits = InProcessTraits(email=emails(*(f"user{number}" for number in range(30))))
        async with IterableServer() as server:
            controller = InProcessController(asked(server, on_delete=on_delete, batch_size=10))
            actor = await started(folder, controller, evaluator, traits)
            await eventually(lambda: delivered_is(actor, 30))
            controller.publish(asked(server, present=False))
            await eventually(lambda: has_no_sync(actor))
            assert len(members(server)) == left
            await actor.drain()
            again = await started(folder, controller, evaluator, traits)
            await asyncio.sleep(0.05)
            assert await has_no_sync(again)
            await again.drain()

    asyncio.run(run("keep", tmp_path / "keep", 30))
    asyncio.run(run("remove", tmp_path / "remove", 0))


async def has_no_sync(actor: Any) -> bool:
    return (await actor.status())["syncs"] == []


def test_an_end_goes_on_after_a_kill_and_a_sync_that_comes_back_tells_all_again(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(30):
            evaluator.flip(f"user{number}")
        traits = InProcessTraits(email=emails(*(f"user{number}" for number in range(30))))
        async with IterableServer() as server:
            wanted = asked(server, on_delete="remove", batch_size=10)
            controller = InProcessController(wanted)
            first = await started(tmp_path, controller, evaluator, traits)
            await eventually(lambda: delivered_is(first, 30))
            server.faults.extend([None] + [error(500, "Down", "down")] * 200)
            controller.publish(asked(server, present=False))
            await eventually(lambda: is_true(lambda: len(members(server)) < 30))
            await first.abandon()
            second = await started(tmp_path, controller, evaluator, traits)
            await eventually(lambda: is_ending(second))
            server.faults.clear()
            controller.publish(wanted)
            await eventually(lambda: is_true(lambda: len(members(server)) == 30))
            await eventually(lambda: backlog_is(second, 0))
            controller.publish(asked(server, present=False))
            await eventually(lambda: has_no_sync(second))
            assert members(server) == set()
            await second.drain()

    asyncio.run(run())


async def is_ending(actor: Any) -> bool:
    return bool((await sync_of(actor)).get("ending"))


def test_what_is_remembered_only_from_now_on_is_told_again(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a@example.org", "b@example.org"):
            evaluator.flip(user)
        async with IterableServer() as server:
            by_key = {"identifiers": {"email": "user_id"}}
            controller = InProcessController(asked(server, **by_key))
            actor = await started(tmp_path, controller, evaluator)
            await eventually(lambda: begun(actor))
            await eventually(lambda: delivered_is(actor, 2))
            controller.publish(asked(server, **by_key, on_delete="remove"))
            await eventually(lambda: delivered_is(actor, 4))
            controller.publish(asked(server, present=False))
            await eventually(lambda: has_no_sync(actor))
            assert members(server) == set()
            await actor.drain()

    asyncio.run(run())


def test_a_fault_of_the_server_does_not_end_an_end(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a@example.org")
        async with IterableServer() as server:
            controller = InProcessController(asked(server, identifiers={"email": "user_id"}, on_delete="remove"))
            actor = await started(tmp_path, controller, evaluator)
            await eventually(lambda: delivered_is(actor, 1))
            server.faults.extend([Says(503, b""), Says(500, b"", after=True)])
            controller.publish(asked(server, present=False))
            await eventually(lambda: has_no_sync(actor))
            assert members(server) == set()
            await actor.drain()

    asyncio.run(run())
