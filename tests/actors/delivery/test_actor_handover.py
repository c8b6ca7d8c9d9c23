"""Users handed over from one evaluator to others: what the old one decided comes before what its heirs do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from actors.delivery.actor import DeliveryActor
from cluster.clock import SystemClock
from cluster.runtime.protocols import EvaluatorInfo, Reply, Retired
from tests.actors.delivery.asking import begun, eventually
from tests.actors.delivery.world import (
    InProcessController,
    InProcessEvaluator,
    Received,
    Receiver,
    definitions,
    no_traits,
    receiver,
)


class Heir(InProcessEvaluator):
    """Took over what another one had; its own transitions begin after these."""

    def __init__(self, of: InProcessEvaluator) -> None:
        super().__init__()
        self.rows = list(of.rows)
        self._live_from_seq = len(self.rows)

    async def status(self) -> Reply:
        return {**await super().status(), "live_from_seq": self._live_from_seq}


class Stalling(InProcessEvaluator):
    """Answers readers only while `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        reply = await super().transitions_after(seq, limit, wait_ms, audience)
        await self.open.wait()
        return reply


def place(controller: InProcessController, present: int, retired: Mapping[int, int]) -> None:
    """Have one evaluator own all users after others, which ended at these transitions."""
    controller.state = replace(
        controller.state,
        revision=controller.state.revision + 1,
        evaluators=(info(present),),
        retired=tuple(Retired(info(index), seq) for index, seq in retired.items()),
    )
    controller.publish(controller.state.published.definitions)  # type: ignore[union-attr]


def info(index: int) -> EvaluatorInfo:
    return EvaluatorInfo(index, f"evaluator-{index}", "", "")


def test_an_heirs_changes_come_after_those_of_whom_it_succeeds(tmp_path: Path) -> None:
    async def run() -> Receiver:
        old = InProcessEvaluator()
        old.flip("a")
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, sync={"batch_size": 1}))
            evaluators = {0: old}
            actor = DeliveryActor(
                tmp_path, controller, lambda info: evaluators[info.index], SystemClock(), traits=no_traits, seed=1
            )
            await actor.start()
            await eventually(lambda: begun(actor))

            async def slow(request: web.Request, answer: Received) -> web.StreamResponse:
                await asyncio.sleep(0.02)
                return web.Response(status=204)

            endpoint.answer = slow
            for user in ("a", "b", "a", "b", "c", "a"):
                old.flip(user)
            evaluators[1] = heir = Heir(old)
            heir.flip("a")
            heir.flip("c")
            place(controller, 1, {0: len(old.rows)})
            await endpoint.until(lambda: len(endpoint.kinds) == 9)
            await eventually(lambda: nobody_needs(actor, 0, len(old.rows)))
            await eventually(lambda: has_passed(actor, 1, len(heir.rows)))
            assert await actor.read_through(0) == {"seq": 0}, "its transitions go with it"
            await actor.drain()
        assert set(heir.members_now()) == endpoint.members
        return endpoint

    endpoint = asyncio.run(run())
    assert [kind for user, kind in endpoint.kinds if user == "a"] == ["entered", "exited"] * 2 + ["entered"]
    assert [kind for user, kind in endpoint.kinds if user == "c"] == ["entered", "exited"]


def test_an_heir_that_had_nothing_to_say_and_is_gone_holds_up_nobody(tmp_path: Path) -> None:
    """Two moves in a row: the second's heirs wait for the first evaluator, and not for one that was never read."""

    async def run() -> Receiver:
        old = Stalling()
        old.flip("a")
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, sync={"batch_size": 1}))
            evaluators: dict[int, InProcessEvaluator] = {0: old}
            actor = DeliveryActor(
                tmp_path, controller, lambda info: evaluators[info.index], SystemClock(), traits=no_traits, seed=1
            )
            await actor.start()
            await eventually(lambda: begun(actor))
            old.open.clear()
            old.flip("b")
            ended = len(old.rows)
            evaluators[1] = Heir(old)
            place(controller, 1, {0: ended})
            await eventually(lambda: nobody_needs(actor, 7, 0))  # no such evaluator: it is said once heirs have cursors
            evaluators[2] = heir = Heir(old)
            place(controller, 2, {0: ended, 1: ended})
            await eventually(lambda: nobody_needs(actor, 1, ended))
            place(controller, 2, {0: ended})
            heir.flip("a")
            await asyncio.sleep(0.2)
            old.open.set()
            await endpoint.until(lambda: len(endpoint.kinds) == 3)
            await actor.drain()
        return endpoint

    endpoint = asyncio.run(run())
    assert endpoint.kinds == [("a", "entered"), ("b", "entered"), ("a", "exited")]


def test_nothing_counts_as_read_before_every_sync_has_its_reader(tmp_path: Path) -> None:
    async def run() -> None:
        controller = InProcessController(definitions("http://127.0.0.1:9"))
        actor = DeliveryActor(
            tmp_path, controller, lambda info: InProcessEvaluator(), SystemClock(), traits=no_traits, seed=1
        )
        await actor.start()  # it has yet to hear of any definitions
        assert await actor.read_through(0) == {"seq": 0}
        assert await actor.has_read(0, 0) == {"read": False}
        await actor.drain()

    asyncio.run(run())


async def has_passed(actor: DeliveryActor, evaluator: int, seq: int) -> bool:
    return (await actor.read_through(evaluator))["seq"] == seq


async def nobody_needs(actor: DeliveryActor, evaluator: int, seq: int) -> bool:
    return bool((await actor.has_read(evaluator, seq))["read"])
