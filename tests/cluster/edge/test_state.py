"""An edge follows its controller: whole states, never backwards, through restarts too."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from cluster.edge import state as state_module
from cluster.edge.state import StateWatcher
from cluster.limits import EDGE_STATE_WAIT_MS
from tests.cluster.edge.serving import DOCUMENT, FakeController, FakeEvaluator


def watched(test: Any) -> None:
    async def run() -> None:
        controller = FakeController(DOCUMENT, [FakeEvaluator(0)])
        watcher = StateWatcher(controller, lambda plan: plan)  # type: ignore[arg-type]
        await watcher.start()
        try:
            await test(controller, watcher)
        finally:
            await watcher.stop()

    asyncio.run(run())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_change_is_taken_whole_and_told() -> None:
    async def check(controller: FakeController, watcher: StateWatcher) -> None:
        told: list[int] = []
        watcher.on_change(lambda state: told.append(state.revision))
        before = watcher.current
        await controller.create_key("read", "n")
        await settle()
        assert told == [2]
        assert watcher.current is not before
        assert len(watcher.current.records) == len(before.records) + 1

    watched(check)


def test_drafts_cannot_be_read_and_published_ones_can() -> None:
    async def check(controller: FakeController, watcher: StateWatcher) -> None:
        assert watcher.current.parent_of("buyers") == "users"
        assert watcher.current.parent_of("sketch") is None

    watched(check)


def test_definitions_never_go_back() -> None:
    async def check(controller: FakeController, watcher: StateWatcher) -> None:
        older = controller.state
        await controller.apply({"version": 1, "audiences": [{**DOCUMENT["audiences"][1], "id": "more"}]}, "x", "merge")
        await settle()
        assert watcher.current.version == 2
        watcher._take(replace(older, revision=99))
        assert watcher.current.version == 2

    watched(check)


def test_a_restarted_controller_that_counts_anew_is_followed() -> None:
    async def check(controller: FakeController, watcher: StateWatcher) -> None:
        await controller.change()
        await controller.change()
        await settle()
        assert watcher.current.revision == 3
        controller.state = replace(controller.state, revision=1, keys=())
        await watcher.sync()
        assert (watcher.current.revision, watcher.current.records) == (1, ())

    watched(check)


def test_refresh_waits_for_the_version_and_no_longer_than_told() -> None:
    async def check(controller: FakeController, watcher: StateWatcher) -> None:
        assert await watcher.refresh(1, 0)
        assert not await watcher.refresh(2, 0)
        waiting = asyncio.create_task(watcher.refresh(2, EDGE_STATE_WAIT_MS))
        await settle()
        assert not waiting.done()
        await controller.apply({"version": 1, "audiences": [{**DOCUMENT["audiences"][1], "id": "more"}]}, "x", "merge")
        assert await waiting

    watched(check)


def test_while_the_controller_is_away_the_last_state_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "EDGE_STATE_RETRY_MS", 0)

    async def check(controller: FakeController, watcher: StateWatcher) -> None:
        asked: list[int] = []
        real = controller.state_after

        async def away(revision: int, wait_ms: int) -> Any:
            asked.append(revision)
            if len(asked) < 3:
                raise ConnectionError
            return await real(revision, wait_ms)

        controller.state_after = away  # type: ignore[method-assign]
        await controller.change()
        await settle()
        await controller.change(keys=())
        await settle()
        assert watcher.current.records == ()
        assert -1 in asked, "after a failure any state will do"

    watched(check)
