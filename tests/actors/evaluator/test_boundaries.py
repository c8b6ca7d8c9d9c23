"""Every boundary of the table: the engine ms by ms, the engine in one wave, and the reference."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest

from tests.actors.evaluator.boundaries import CASES, Case, Event, T
from tests.properties.engine import Engine
from tests.reference.evaluator import ReferenceEvaluator

#: Who is in `a` at each of some times (ms after T), ascending.
Membership = dict[int, bool]
Row = dict[str, Any]


def document(case: Case) -> Row:
    columns = {"amount": {"path": "properties.amount", "type": "number"},
               "channel": {"path": "properties.channel", "type": "string"}}  # fmt: skip
    said = {"plan": {"type": "string", "source": "identify"}, "renews": {"type": "timestamp", "source": "identify"}}
    columns_of_users = {"seen": {"type": "timestamp"}, **said}
    traits = {"source": {"kind": "parquet", "path": "x.parquet"}, "columns": columns_of_users}
    model = {"parent": "users", "foreign_key": "user_id", "columns": columns}
    return {
        "version": 1,
        "settings": {"retention": "40d"},
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": traits}],
        "event_models": [
            *({**model, "id": name, "event": name} for name in ("view", "order")),
            {**model, "id": "call", "type": "identify", "columns": {}, "retention": "20s"},
        ],
        "audiences": [
            {"id": "viewers", "parent": "users", "where": {"event": "view", "within": "10s"}},
            {"id": "a", "parent": "users", "where": case.where},
        ],
    }


def snapshot(case: Case) -> dict[str, pa.Table]:
    if case.seen is None:
        return {}
    seen = pa.array([T + case.seen], pa.timestamp("ms"))
    return {"users": pa.table({"user_id": ["u"], "seen": seen})}


def row(event: Event) -> Row:
    fields = {"type": "track", "event": event.name, "user_id": "u", "properties": dict(event.properties)}
    if event.name == "identify":
        fields = {"type": "identify", "user_id": "u", "traits": dict(event.properties)}
    return {**fields, "timestamp": T + event.ts, "received_at": T + event.clock}


def times(case: Case) -> list[int]:
    """The three ms of each boundary."""
    return sorted({at + off for at in case.members for off in (-1, 0, 1)})


def beginning(case: Case) -> int:
    """A ms before anything happens or is asked."""
    return min([*times(case), *(event.clock for event in case.happens)]) - 1


def step_by_step(case: Case) -> Membership:
    """The engine, asked at each time, its clock moved by nothing but that and the events."""
    engine = Engine(document(case), snapshot(case), T + beginning(case))

    def take(events: Sequence[Event], at: int) -> bool:
        for event in events:
            engine.batch([(row(event), T + event.clock)])
        engine.advance(T + at)
        return ("a", "u") in engine.members()

    return _asked(case, take)


def in_one_wave(case: Case) -> Membership:
    """The engine, all events in one batch and one tick to the end: membership as its transitions tell it."""
    engine = Engine(document(case), snapshot(case), T + beginning(case))
    engine.batch([(row(event), T + event.clock) for event in case.happens])
    engine.advance(T + times(case)[-1])
    own = [each for each in engine.transitions if each["audience_id"] == "a"]
    told = sorted((each["at"] - T, each["n"], each["kind"]) for each in own)
    return {at: [kind for when, _, kind in told if when <= at][-1:] == ["entered"] for at in times(case)}


def reference(case: Case) -> Membership:
    """The reference evaluator, asked at each time."""
    oracle = ReferenceEvaluator(document(case), snapshot(case), T + beginning(case))

    def take(events: Sequence[Event], at: int) -> bool:
        for event in events:
            assert oracle.event(row(event)) is None
        oracle.advance(T + at)
        return ("a", "u") in oracle.members()

    return _asked(case, take)


def _asked(case: Case, take: Callable[[Sequence[Event], int], bool]) -> Membership:
    found, done = {}, 0
    for at in times(case):
        reached = sum(event.clock <= at for event in case.happens)
        found[at] = take(case.happens[done:reached], at)
        done = reached
    return found


@pytest.mark.parametrize("evaluate", [step_by_step, in_one_wave, reference], ids=lambda one: one.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.law)
def test_membership_around_a_boundary(case: Case, evaluate: Callable[[Case], Membership]) -> None:
    found = evaluate(case)
    assert {at: tuple(found[at + off] for off in (-1, 0, 1)) for at in case.members} == dict(case.members)


def test_no_law_is_told_twice() -> None:
    assert [law for law, count in Counter(case.law for case in CASES).items() if count > 1] == []


def test_everything_the_language_has_is_in_the_table() -> None:
    """So that what is added to the language is not forgotten here."""
    nodes = [node for case in CASES for node in _nodes(case.where)]
    windows = {"within", "between_ago", "since", "this"}
    counted = {"at_least", "at_most", "exactly", "sum", "avg", "min", "max", "distinct"}
    pairs = {(kind, window) for node in nodes for kind in counted & set(node) for window in windows & set(node)}
    assert pairs == set(itertools.product(counted, windows))
    heads = {"all", "any", "not", "trait", "event", "sequence", "not_followed_by", "audience"}
    compared = {"gt", "gte", "lt", "lte", "eq", "within_last", "more_than_ago", "within_next"}
    assert heads | compared <= {key for node in nodes for key in node}
    assert {node["this"] for node in nodes if "this" in node} == {"day", "week", "month"}


def _nodes(node: Any) -> list[Row]:
    """The node and those inside it."""
    children = node if isinstance(node, list) else node.values() if isinstance(node, dict) else []
    return [*([node] if isinstance(node, dict) else []), *(each for child in children for each in _nodes(child))]
