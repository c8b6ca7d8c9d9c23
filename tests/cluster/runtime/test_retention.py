"""Evaluators are told what every sync has passed, and none drops anything while users begin to move."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.runtime.placement import scaled
from cluster.runtime.protocols import Reply
from cluster.runtime.retention import Retention
from cluster.runtime.status_report import Peers
from tests.cluster.runtime.building import machine


class Evaluator:
    def __init__(self) -> None:
        self.told: list[int] = []
        self.refusal: Reply | None = None
        #: A dropping ends only while it is set.
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def trim_transitions(self, read_seq: int) -> Reply:
        await self.may_end.wait()
        self.told.append(read_seq)
        return self.refusal or {"dropped": 0}


class Delivery:
    def __init__(self, *read: Any) -> None:
        self.read = read

    async def read_through(self, evaluator: int) -> Reply:
        answer = self.read[evaluator]
        return answer if isinstance(answer, dict) else {"seq": answer}


def retention(*read: Any) -> tuple[Retention, list[Evaluator], Any]:
    evaluators = [Evaluator() for _ in read]
    state = machine(evaluators=len(read))
    peers: Any = Peers(dict(enumerate(evaluators)), Delivery(*read), traits=None)  # type: ignore[arg-type]
    return Retention(state, peers), evaluators, state


def test_each_is_told_what_was_read_and_everything_where_there_is_no_sync() -> None:
    async def main() -> None:
        round_, evaluators, _ = retention(70, 0, None, {"error": "unreachable", "message": "gone"})
        evaluators[0].refusal = {"error": "storage_full", "message": "full"}
        await round_.once()
        assert [evaluator.told for evaluator in evaluators] == [[70], [], [2**62], []]

    asyncio.run(main())


def test_nobody_drops_while_users_move() -> None:
    async def main() -> None:
        round_, evaluators, state = retention(70, 80)
        state.scaling = scaled(state.placement(), 3)
        await round_.once()
        assert [evaluator.told for evaluator in evaluators] == [[], []]

    asyncio.run(main())


def test_users_begin_to_move_once_nobody_drops_any_more() -> None:
    async def main() -> None:
        round_, evaluators, state = retention(70, 80)

        async def move() -> None:
            async with round_.lock:
                assert await round_.settled() is None
                state.scaling = scaled(state.placement(), 3)

        evaluators[0].may_end.clear()
        going = asyncio.create_task(round_.once())
        await asyncio.sleep(0.01)
        moving = asyncio.create_task(move())
        await asyncio.sleep(0.01)
        assert not moving.done()
        evaluators[0].may_end.set()
        await asyncio.gather(going, moving)
        assert [evaluator.told for evaluator in evaluators] == [[70, 0], [0]], "the second was not asked any more"

    asyncio.run(main())


def test_one_that_does_not_say_whether_it_still_drops_keeps_users_where_they_are() -> None:
    async def main() -> None:
        round_, evaluators, _ = retention(70, 80)
        evaluators[1].refusal = {"error": "unreachable", "message": "gone"}
        refused = await round_.settled()
        assert refused is not None
        assert (refused["error"], "evaluator-1" in refused["message"]) == ("not_ready", True)

    asyncio.run(main())
