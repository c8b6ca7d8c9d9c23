from __future__ import annotations

import asyncio
from typing import Any

from cluster.runtime.protocols import Reply
from cluster.runtime.status_report import Peers, Replies, build_report, gather_replies
from tests.cluster.runtime.building import definitions, machine, published

EVALUATOR = {
    "pid": 7, "node": "n", "state": "ready", "users": 3, "seq": 9, "lag_ms": 4,
    "events": {"accepted": 5, "duplicates": 1, "too_late": 2}, "audiences": {"vip": {"size": 2, "version": 1}},
}  # fmt: skip
GONE = {"error": "unreachable", "message": "evaluator-1: gone"}
CONTROLLER = {"pid": 1, "node": "n"}


class Part:
    def __init__(self, reply: Reply | None) -> None:
        self.reply = reply

    async def status(self) -> Reply:
        if self.reply is None:
            await asyncio.Event().wait()
            raise AssertionError
        return self.reply


def report(evaluators: dict[int, Reply], edges: dict[str, Reply] | None = None) -> Any:
    controller = machine(evaluators=len(evaluators), settings={"url": "http://x"})
    controller.begin(published(1, vip=3))
    for index in evaluators:
        controller.acknowledge(index, 1)
    replies = Replies(evaluators, edges or {}, {"pid": 2, "syncs": [{"id": "s", "backlog": 1}]}, {"pid": 3})
    return build_report(controller.state(), controller.target, [{"id": "n"}], CONTROLLER, replies)


def test_report_has_the_names_of_the_interface() -> None:
    result = report({0: EVALUATOR}, {"edge-front": {"pid": 4, "node": "n"}})
    assert result["url"] == "http://x"
    assert result["nodes"] == [{"id": "n"}]
    assert {(row["name"], row["kind"], row["pid"]) for row in result["actors"]} == {
        ("controller", "controller", 1), ("evaluator-0", "evaluator", 7), ("edge-front", "edge", 4),
        ("delivery", "delivery", 2), ("traits", "traits", 3),
    }  # fmt: skip
    assert result["audiences"][0] | {"name": ""} == {
        "id": "vip", "name": "", "version": 3, "status": "live", "size": 2,
    }  # fmt: skip
    assert result["syncs"] == [{"id": "s", "backlog": 1}]
    assert result["events"] == {"accepted": 5, "duplicates": 1, "too_late": 2, "rejected": 0, "capped": 0, "lag_ms": 4}


def test_sizes_and_events_add_up_over_evaluators_and_lag_is_the_worst() -> None:
    result = report({0: EVALUATOR, 1: {**EVALUATOR, "lag_ms": 40}})
    assert result["audiences"][0]["size"] == 4
    assert result["events"]["accepted"] == 10
    assert result["events"]["lag_ms"] == 40


def test_rejected_events_are_added_over_reasons_and_edges() -> None:
    edges = {"a": {"events": {"rejected": {"no_key": 2, "invalid": 1}}}, "b": {"events": {"rejected": 4}}}
    assert report({0: EVALUATOR}, edges)["events"]["rejected"] == 7


def test_an_evaluator_that_is_gone_shows_as_such_and_makes_sizes_unknown() -> None:
    result = report({0: EVALUATOR, 1: GONE})
    row = next(row for row in result["actors"] if row["name"] == "evaluator-1")
    assert (row["state"], row["pid"], row["message"]) == ("unreachable", None, "evaluator-1: gone")
    assert result["audiences"][0]["size"] is None


def statuses(controller: Any, *evaluators: Reply) -> dict[str, str]:
    replies = Replies(dict(enumerate(evaluators)), {}, {}, {})
    rows = build_report(controller.state(), controller.target, [], CONTROLLER, replies)["audiences"]
    return {row["id"]: row["status"] for row in rows}


def test_a_published_audience_is_live_only_once_it_is_in_force_and_others_are_as_declared() -> None:
    controller = machine(evaluators=2)
    target = published(1, vip=1, old=1, sketch=1, gone=1)
    states = {"old": "paused", "sketch": "draft", "gone": "archived"}
    object.__setattr__(target, "definitions", definitions(*target.audience_versions, statuses=states))
    controller.begin(target)
    assert statuses(controller, EVALUATOR, EVALUATOR) == {"vip": "preparing", **states}
    controller.acknowledge(0, 1)
    assert statuses(controller, {**EVALUATOR, "version": 1}, GONE)["vip"] == "backfilling 0 %"
    controller.acknowledge(1, 1)
    assert statuses(controller, EVALUATOR, EVALUATOR) == {"vip": "live", **states}


def test_a_backfill_is_as_far_as_the_evaluator_that_is_least_far() -> None:
    controller = machine(evaluators=3)
    controller.begin(published(1, kept=1))
    for index in range(3):
        controller.acknowledge(index, 1)
    controller.begin(published(2, kept=1, vip=1))

    def at(percent: int, version: int = 2) -> Reply:
        return {**EVALUATOR, "version": 1, "backfill": {"version": version, "percent": percent, "ready": False}}

    assert statuses(controller, at(40, version=1), EVALUATOR, GONE) == {"kept": "live", "vip": "preparing"}
    assert statuses(controller, at(40), at(37), at(99)) == {"kept": "live", "vip": "backfilling 37 %"}
    assert statuses(controller, at(40), at(37), GONE) == {"kept": "live", "vip": "backfilling 0 %"}
    assert statuses(controller, at(100), at(100), {**EVALUATOR, "version": 2})["vip"] == "backfilling 100 %"


def test_a_draft_that_is_published_under_its_version_is_not_live_before_it_is_in_force() -> None:
    controller = machine(evaluators=1)
    draft = published(1, vip=1)
    object.__setattr__(draft, "definitions", definitions("vip", statuses={"vip": "draft"}))
    controller.begin(draft)
    controller.acknowledge(0, 1)
    controller.begin(published(2, vip=1))
    assert statuses(controller, EVALUATOR) == {"vip": "preparing"}
    controller.acknowledge(0, 2)
    assert statuses(controller, EVALUATOR) == {"vip": "live"}


def test_a_part_that_hangs_does_not_hang_the_status() -> None:
    parts: Any = Peers(
        evaluators={0: Part(EVALUATOR), 1: Part(None)},  # type: ignore[dict-item]
        delivery=Part({"syncs": []}),  # type: ignore[arg-type]
        traits=Part({"parents": []}),
        edges={"edge-front": Part({"pid": 4})},
    )
    replies = asyncio.run(gather_replies(parts, timeout_ms=20))
    assert replies.evaluators[0]["pid"] == 7
    assert replies.evaluators[1]["error"] == "unreachable"
    assert replies.edges == {"edge-front": {"pid": 4}}
    assert replies.delivery == {"syncs": []}


def test_a_source_that_several_edges_read_is_one_row() -> None:
    part = {
        "source": "orders", "topics": ["t"], "partitions": 2, "lag": 5, "records": 10, "dead_letters": {"empty": 1},
        "missed": 1, "state": "reading", "problem": "",
    }  # fmt: skip
    other = {**part, "dead_letters": {"empty": 2, "invalid": 1}, "state": "waiting", "problem": "no broker"}
    result = report({0: EVALUATOR}, {"edge-ingest-0": {"pid": 4, "intakes": [part]}, "edge-ingest-1": {
        "pid": 5, "intakes": [other]}, "edge-front": {"pid": 6}})  # fmt: skip
    assert result["sources"] == [{
        "id": "orders", "topics": ["t"], "state": "waiting", "readers": 2, "partitions": 4, "lag": 10, "records": 20,
        "dead_letters": {"empty": 3, "invalid": 1}, "missed": 2, "problems": {"edge-ingest-1": "no broker"},
    }]  # fmt: skip
