"""Users handed over from one evaluator to others: what the old one decided comes before what its heirs do."""

from __future__ import annotations

import asyncio
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
            controller.state = replace(
                controller.state,
                revision=controller.state.revision + 1,
                evaluators=(EvaluatorInfo(1, "evaluator-1", "", ""),),
                retired=(Retired(controller.state.evaluators[0], len(old.rows)),),
            )
            controller.publish(controller.state.published.definitions)  # type: ignore[union-attr]
            await endpoint.until(lambda: len(endpoint.kinds) == 9)
            await eventually(lambda: nobody_needs(actor, 0, len(old.rows)))
            await actor.drain()
        assert set(heir.members_now()) == endpoint.members
        return endpoint

    endpoint = asyncio.run(run())
    assert [kind for user, kind in endpoint.kinds if user == "a"] == ["entered", "exited"] * 2 + ["entered"]
    assert [kind for user, kind in endpoint.kinds if user == "c"] == ["entered", "exited"]


async def nobody_needs(actor: DeliveryActor, evaluator: int, seq: int) -> bool:
    return bool((await actor.has_read(evaluator, seq))["read"])
