from __future__ import annotations

import asyncio

import pytest

from actors.evaluator.actor import EvaluatorActor
from cluster.errors import InternalError
from cluster.runtime.protocols import Reply
from cluster.runtime.warming import warm_up


def test_the_warm_up_runs_through_and_takes_every_call_of_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()
    for name in ("append", "lookup", "publish", "apply_traits", "members", "initial_members", "transitions_after"):
        method = getattr(EvaluatorActor, name)

        def counted(*args: object, _name: str = name, _method: object = method) -> object:
            called.add(_name)
            return _method(*args)  # type: ignore[operator]

        monkeypatch.setattr(EvaluatorActor, name, counted)
    asyncio.run(warm_up())
    assert len(called) == 7


def test_a_refused_warm_up_is_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object) -> Reply:
        return {"error": "stale", "message": "no"}

    monkeypatch.setattr(EvaluatorActor, "append", refuse)
    with pytest.raises(InternalError, match="warm-up: no"):
        asyncio.run(warm_up())
