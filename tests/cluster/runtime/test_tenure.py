"""Calls reach who owns; what an earlier owner says is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.errors import Fenced
from cluster.runtime.tenure import Epochs, Tenure, replaced


class Lease:
    """A lease by hand."""

    name = "evaluator-0"
    epoch = 7

    def __init__(self) -> None:
        self.held = True
        self.released = False

    def holds(self) -> bool:
        return self.held

    def release(self) -> None:
        self.released = True


class Part:
    """Says what it was asked; may be stopped for a while within a call."""

    def __init__(self, lease: Lease) -> None:
        self.asked: list[str] = []
        self.lease = lease
        self.stopped = False

    def __getattr__(self, method: str) -> Any:
        async def answer(*args: Any) -> Any:
            self.asked.append(method)
            if self.stopped:
                self.lease.held = False
            return {"method": method, "args": args}

        return answer


def asked(method: str, *, held: bool = True, stopped: bool = False) -> tuple[dict[str, Any], Part]:
    lease = Lease()
    lease.held = held
    part = Part(lease)
    part.stopped = stopped
    reply = asyncio.run(getattr(Tenure(part, lease), method)(1, "x"))  # type: ignore[arg-type]
    return reply, part


@pytest.mark.parametrize("method", ["append", "lookup", "transitions_after", "publish", "members"])
def test_an_owner_is_asked_and_its_epoch_stands_in_the_answer(method: str) -> None:
    reply, part = asked(method)
    assert reply == {"method": method, "args": (1, "x"), "epoch": 7}
    assert part.asked == [method]


@pytest.mark.parametrize("method", ["append", "lookup", "transitions_after", "publish", "apply_traits"])
def test_who_does_not_own_is_not_asked(method: str) -> None:
    reply, part = asked(method, held=False)
    assert (reply["error"], part.asked) == ("not_ready", [])
    assert reply["retry_after_ms"] > 0


@pytest.mark.parametrize(("method", "given"), [
    ("lookup", False), ("transitions_after", False), ("members", False), ("append", True), ("publish", True),
])  # fmt: skip
def test_what_was_read_before_a_stop_is_not_given_and_what_is_durable_is(method: str, given: bool) -> None:
    reply, _ = asked(method, stopped=True)
    assert ("error" not in reply) is given


def test_whoever_it_is_says_how_it_is_and_can_be_ended() -> None:
    assert asked("status", held=False)[0]["method"] == "status"
    lease = Lease()
    part = Part(lease)
    asyncio.run(Tenure(part, lease).drain(5))  # type: ignore[arg-type]
    assert part.asked == ["drain"]
    assert lease.released


def test_others_than_evaluators_do_not_sign() -> None:
    lease = Lease()
    part = Part(lease)
    tenure = Tenure(part, lease, signs=False)  # type: ignore[arg-type]
    assert asyncio.run(tenure.sync_log("s")) == {"method": "sync_log", "args": ("s",)}
    lease.held = False
    refusal = asyncio.run(tenure.sync_log("s"))
    assert (refusal["error"], "epoch" in refusal) == ("not_ready", False)


def test_an_answer_of_an_earlier_epoch_is_a_refusal() -> None:
    epochs = Epochs("evaluator-0")
    assert epochs.judged({"seq": 1, "epoch": 3}) == {"seq": 1, "epoch": 3}
    assert epochs.judged({"seq": 2, "epoch": 4})["seq"] == 2
    refusal = epochs.judged({"seq": 3, "epoch": 3})
    assert (refusal["error"], "seq" in refusal) == ("unreachable", False)
    assert "epoch 3; 4" in refusal["message"]
    assert epochs.judged({"error": "not_ready"}) == {"error": "not_ready"}, "who only starts owns nothing yet"
    assert epochs.judged(None) is None
    assert epochs.highest == 4


def test_being_replaced_is_being_fenced() -> None:
    assert isinstance(replaced("evaluator-0"), Fenced)
