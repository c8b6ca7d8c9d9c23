"""What identify calls say where there is much of it: more conditions than a word has bits, several models of calls."""

from __future__ import annotations

from typing import Any

from tests.conftest import START_MS as T
from tests.properties.engine import Clocked, Engine
from tests.reference.evaluator import ReferenceEvaluator

#: More than two words of bits.
PLANS = 130


def document(*models: dict[str, Any], audiences: dict[str, Any]) -> dict[str, Any]:
    columns = {"plan": {"type": "string", "source": "identify"}, "seats": {"type": "number", "source": "identify"}}
    base = {"parent": "users", "type": "identify", "foreign_key": "user_id", "retention": "10s"}
    return {
        "version": 1,
        "sources": [{"id": "web", "kind": "http", "write_key": "k"}],
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {"columns": columns}}],
        "event_models": [{"id": f"calls{i}", **base, **model} for i, model in enumerate(models)],
        "audiences": [{"id": id_, "parent": "users", "where": where} for id_, where in audiences.items()],
    }


def call(clock: int, ts: int | None = None, user: str = "u", *, keys: dict[str, Any] | None = None,
         **traits: Any) -> Clocked:  # fmt: skip
    row = {"type": "identify", "user_id": user, "traits": traits, "timestamp": T + (clock if ts is None else ts)}
    return {**row, **(keys or {}), "received_at": T + clock}, T + clock


def members_after(document: dict[str, Any], *rows: Clocked) -> list[set[str]]:
    """Who (audience/user) is in what after each row: of the engine, held to the reference."""
    engine, reference = Engine(document, {}, T - 1), ReferenceEvaluator(document, {}, T - 1)
    found = []
    for row, clock in rows:
        engine.batch([(row, clock)])
        reference.event(row)
        assert engine.members() == reference.members()
        found.append({f"{audience}/{user}" for audience, user in engine.members()})
    return found


def test_more_conditions_of_a_trait_than_a_word_has_bits() -> None:
    equal: dict[str, Any] = {f"is{i}": {"trait": "plan", "eq": f"p{i}"} for i in range(PLANS)}
    above = {f"over{i}": {"trait": "seats", "gt": i} for i in range(PLANS)}
    found = members_after(
        document({}, audiences={**equal, **above}),
        call(0, plan="p7"), call(1, plan="p129", seats=65), call(2, 1, plan="p64"), call(3, 0, plan="p3", seats=9),
        call(4, seats=None), call(5, plan=None),
    )  # fmt: skip
    over = {f"over{i}/u" for i in range(65)}
    assert found == [{"is7/u"}, {"is129/u"} | over, {"is64/u"} | over, {"is64/u"} | over, {"is64/u"}, set()]


def test_the_longest_retention_of_several_models_holds_for_all() -> None:
    other = {"source": "web", "retention": "20s"}
    audiences = {"pro": {"trait": "plan", "eq": "pro"}}
    rows = call(0, plan="pro"), call(9_999, user="v", plan="x"), call(10_001, user="v", plan="x")
    for models in ({}, other), (other, {}):
        assert members_after(document(*models, audiences=audiences), *rows)[2] == {"pro/u"}


def test_a_call_may_be_of_two_users_by_two_models() -> None:
    audiences = {"pro": {"trait": "plan", "eq": "pro"}, "free": {"trait": "plan", "eq": "free"}}
    models: tuple[dict[str, Any], ...] = ({}, {"foreign_key": "anonymous_id"})
    found = members_after(
        document(*models, audiences=audiences),
        call(0, keys={"anonymous_id": "a"}, plan="pro"), call(1, plan="free"),
        call(2, keys={"anonymous_id": "u"}, user="a", plan="free"),
    )  # fmt: skip
    assert found == [{"pro/u", "pro/a"}, {"free/u", "pro/a"}, {"free/u", "free/a"}]


def test_two_models_may_read_a_call_at_two_times() -> None:
    audiences = {"pro": {"trait": "plan", "eq": "pro"}}
    models: tuple[dict[str, Any], ...] = ({}, {"timestamp": "traits.at"})
    rows = call(9_000, 5_000, plan="pro", at=T + 2_000), call(9_100, 4_000, plan="free", at=T + 6_000)
    for order in models, models[::-1]:
        assert members_after(document(*order, audiences=audiences), *rows) == [{"pro/u"}, set()]
