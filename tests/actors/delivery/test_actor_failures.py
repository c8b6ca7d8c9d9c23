"""Refusals, divided batches and dead letters through the whole of delivery."""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actors.delivery.instructions import Halt
from cluster.runtime.protocols import LogQuery
from destinations.outcomes import Delivered, Judgement, Outcome, Permanent, Retry
from destinations.records import SealedBatch
from destinations.requests import Answer, Request
from destinations.webhook.definition import WebhookDestination
from tests.actors.delivery.asking import (
    backlog_is,
    delivered_is,
    eventually,
    has_logged,
    running,
    state_is,
    sync_of,
)
from tests.actors.delivery.world import (
    InProcessController,
    InProcessEvaluator,
    Received,
    definitions,
    receiver,
    started,
)


class Picky(WebhookDestination):
    """Takes the first record of a request and asks for the others again; never wants `bad`."""

    def judge(self, settings: Any, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        outcomes: list[Outcome] = [
            Permanent("bad user") if record.user_id == "bad" else Delivered() if index == 0 else Retry("busy")
            for index, record in enumerate(sealed.records)
        ]
        return Judgement(tuple(outcomes))


def test_mixed_outcomes_leave_a_smaller_batch_with_an_id_of_its_own_also_over_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.delivery.retries.RETRY_BASE_MS", 10)

    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a", "bad", "b", "c"):
            evaluator.flip(user)
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url))
            first = await started(tmp_path, controller, evaluator, kinds={"webhook": Picky()})
            await eventually(lambda: has_logged(first, 3))
            await first.abandon()
            before = len(endpoint.received)
            second = await started(tmp_path, controller, evaluator, kinds={"webhook": Picky()})
            await eventually(lambda: delivered_is(second, 3))
            assert await second.retry("promo") == {"retried": 1}
            await endpoint.until(lambda: endpoint.received[-1].changes[0]["user_id"] == "bad")
            await second.drain()

        assert [change["user_id"] for change in endpoint.received[0].changes] == ["a", "bad", "b", "c"]
        rest = {message.id for message in endpoint.received if [c["user_id"] for c in message.changes] == ["b", "c"]}
        assert len(rest) == 1
        assert rest.isdisjoint({endpoint.received[0].id})
        assert len(endpoint.received[-1].changes) == 1
        assert before >= 1

    asyncio.run(run())


def test_a_body_that_is_too_large_is_divided_until_it_fits(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a", "b", "poison", "c", "d"):
            evaluator.flip(user)

        async def picky(request: web.Request, received: Received) -> web.StreamResponse:
            small = all(change["user_id"] != "poison" for change in received.changes)
            return web.Response(status=204 if small else 413)

        async with receiver() as endpoint:
            endpoint.answer = picky
            actor = await started(tmp_path, InProcessController(definitions(endpoint.url)), evaluator)
            await eventually(lambda: delivered_is(actor, 4))
            await eventually(lambda: backlog_is(actor, 0))
            assert (await sync_of(actor))["failed"] == 1
            (letter,) = (await actor.dead_letters("promo", 10))["rows"]
            assert (letter["count"], letter["reason"]) == (1, "status 413: the body is too large")
            await actor.drain()

        contents: dict[str, bytes] = {}
        assert all(contents.setdefault(each.id, each.body) == each.body for each in endpoint.received)

    asyncio.run(run())


def test_a_dead_letter_of_a_state_sync_is_not_sent_again_over_a_newer_change(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()

        async def refuse(request: web.Request, received: Received) -> web.StreamResponse:
            return web.Response(status=400, headers={"webhook-delivery": "abort-message"})

        async with receiver() as endpoint:
            endpoint.answer = refuse
            controller = InProcessController(definitions(endpoint.url, sync={"deliver": "state"}))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            evaluator.flip("b")
            await eventually(lambda: has_logged(actor, 1))
            await eventually(lambda: backlog_is(actor, 0))
            endpoint.answer = None
            evaluator.flip("a")
            await eventually(lambda: delivered_is(actor, 1))
            assert await actor.retry("promo") == {"retried": 2}
            await eventually(lambda: delivered_is(actor, 2))
            await eventually(lambda: has_logged(actor, 4))
            rows = (await actor.sync_log("promo", LogQuery(limit=9)))["rows"]
            outcomes = [(row["outcome"], row["count"]) for row in rows]
            assert ("superseded", 1) in outcomes
            await actor.drain()

        assert endpoint.members == {"b"}
        assert [(change["user_id"], change["kind"]) for change in endpoint.received[-1].changes] == [("b", "entered")]

    asyncio.run(run())


def test_a_sync_that_somebody_paused_stays_paused_over_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url))
            first = await started(tmp_path, controller, evaluator)
            await eventually(lambda: running(first))
            assert await first.suspend("promo", True) == {"paused": True}
            await first.drain()
            evaluator.flip("a")
            evaluator.flip("a")
            second = await started(tmp_path, controller, evaluator)
            await eventually(lambda: state_is(second, "paused"))
            await eventually(lambda: backlog_is(second, 2))
            assert endpoint.received == []
            await second.suspend("promo", False)
            await endpoint.until(lambda: endpoint.kinds == [("a", "entered"), ("a", "exited")])
            await second.drain()

    asyncio.run(run())


def test_a_kill_just_after_a_stimulus_leaves_no_work_that_never_began(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with receiver() as endpoint:
            actor = await started(tmp_path, InProcessController(definitions(endpoint.url)), evaluator)
            await eventually(lambda: delivered_is(actor, 1))
            runner = actor._roster.runners["promo"]
            # Its tasks are made and cancelled before their first step.
            runner._perform(Halt("credentials", "said no"))
            runner.end(lambda: None)
            await runner.stop()
            await actor.abandon()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(run())
        gc.collect()
    assert [str(warning.message) for warning in caught if "never awaited" in str(warning.message)] == []
