"""Every head, window and operator of the language becomes its frozen class, operands coerced."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.definitions.model import (
    Abandonment,
    All,
    AnyOf,
    AudienceRef,
    BetweenAgo,
    Condition,
    EventAggregate,
    EventCount,
    FilterAll,
    FilterAny,
    FilterNot,
    Not,
    PropertyTest,
    Sequence,
    Since,
    Step,
    This,
    TraitTest,
    ValueType,
    Window,
    Within,
)
from cluster.definitions.model import Test as OperatorTest
from cluster.limits import COUNT_MAX
from tests.cluster.definitions.sample import changed, condition, faults_of, parse

HOUR = 3_600_000
FROM_WEB = PropertyTest("channel", OperatorTest("eq", "web", "string"))
FROM_WEB_RAW = {"property": "channel", "eq": "web"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"event": "order", "within": "1h"}, EventCount("order", "at_least", 1, Within(HOUR))),
        ({"event": "order", "at_most": 0, "within": "1h"}, EventCount("order", "at_most", 0, Within(HOUR))),
        ({"event": "order", "exactly": COUNT_MAX, "within": "2d"}, EventCount("order", "exactly", COUNT_MAX,
        Within(48 * HOUR))),
        ({"event": "order", "within": "1h", "where": FROM_WEB_RAW}, EventCount("order", "at_least", 1,
        Within(HOUR), FROM_WEB)),
        ({"audience": "quiet"}, AudienceRef("quiet")),
        ({"not": {"audience": "quiet"}}, Not(AudienceRef("quiet"))),
        ({"all": [{"audience": "quiet"}]}, All((AudienceRef("quiet"),))),
        ({"any": [{"audience": "quiet"}, {"audience": "quiet"}]}, AnyOf((AudienceRef("quiet"),
        AudienceRef("quiet")))),
        (
            {"sequence": [{"event": "view"}, {"event": "order", "where": FROM_WEB_RAW}], "within": "1h"},
            Sequence((Step("view"), Step("order", FROM_WEB)), HOUR),
        ),
        (
            {"event": "view", "within": "1h", "not_followed_by": {"event": "order"}, "after": "0s"},
            Abandonment("view", None, HOUR, (Step("order"),), 0),
        ),
        (
            {"event": "order", "where": FROM_WEB_RAW, "within": "1h", "after": "10m",
             "not_followed_by": [{"event": "view"}, {"event": "order", "where": FROM_WEB_RAW}]},
            Abandonment("order", FROM_WEB, HOUR, (Step("view"), Step("order", FROM_WEB)), 600_000),
        ),
        (
            {"event": "order", "distinct": "channel", "gte": 2, "within": "1h", "where": FROM_WEB_RAW},
            EventAggregate("order", "distinct", "channel", "gte", 2.0, Within(HOUR), FROM_WEB),
        ),
    ],
)  # fmt: skip
def test_a_head_becomes_its_class(raw: Any, expected: Condition) -> None:
    assert condition(raw) == expected


@pytest.mark.parametrize("aggregate", ["sum", "avg", "min", "max", "distinct"])
@pytest.mark.parametrize("comparison", ["gt", "gte", "lt", "lte", "eq"])
def test_each_aggregate_takes_each_comparison(aggregate: str, comparison: str) -> None:
    read = condition({"event": "order", aggregate: "amount", comparison: 1, "within": "1h"})
    assert read == EventAggregate("order", aggregate, "amount", comparison, 1.0,
    Within(HOUR))  # type: ignore[arg-type]
    assert isinstance(read, EventAggregate)
    assert type(read.value) is float


@pytest.mark.parametrize(
    ("raw", "window"),
    [
        ({"within": "1h30m"}, Within(5_400_000)),
        ({"between_ago": ["0s", "1h"]}, BetweenAgo(0, HOUR)),
        ({"since": "2026-11-01T00:00:00Z"}, Since(1_793_491_200_000)),
        ({"since": "2026-11-01T02:00:00.0009+02:00"}, Since(1_793_491_200_000)),
        ({"since": "2026-11-01T00:00Z"}, Since(1_793_491_200_000)),
        ({"this": "day"}, This("day", "UTC")),
        ({"this": "week", "tz": "Europe/Berlin"}, This("week", "Europe/Berlin")),
        ({"this": "month", "tz": "UTC"}, This("month", "UTC")),
    ],
)
def test_a_window_becomes_its_class(raw: dict[str, Any], window: Window) -> None:
    assert condition({"event": "order", **raw}) == EventCount("order", "at_least", 1, window)


OPERATORS: list[tuple[str, ValueType, str, Any, Any]] = [
    ("ltv", "number", "is_set", False, False),
    ("ltv", "number", "eq", 1, 1.0),
    ("ltv", "number", "ne", 1.5, 1.5),
    ("ltv", "number", "in", [1, 2], (1.0, 2.0)),
    ("ltv", "number", "not_in", [1], (1.0,)),
    ("ltv", "number", "gt", -1, -1.0),
    ("ltv", "number", "gte", 10**20, 1e20),
    ("ltv", "number", "lt", 0, 0.0),
    ("ltv", "number", "lte", 0, 0.0),
    ("ltv", "number", "between", [1, 2], (1.0, 2.0)),
    ("tier", "string", "eq", "", ""),
    ("tier", "string", "in", ["a", "b"], ("a", "b")),
    ("tier", "string", "contains", "a", "a"),
    ("tier", "string", "not_contains", "a", "a"),
    ("tier", "string", "starts_with", "a", "a"),
    ("tier", "string", "ends_with", "a", "a"),
    ("tier", "string", "matches", "^a+$", "^a+$"),
    ("opted_in", "boolean", "eq", True, True),
    ("opted_in", "boolean", "not_in", [False], (False,)),
    ("last_seen", "timestamp", "gt", "2026-11-01T00:00:00Z", 1_793_491_200_000),
    ("last_seen", "timestamp", "lte", "2026-11-01 00:00:00", 1_793_491_200_000),
    ("last_seen", "timestamp", "eq", 1_793_491_200, 1_793_491_200_000),
    ("last_seen", "timestamp", "between", ["1970-01-01T00:00:00Z", 1_793_491_200_000], (0, 1_793_491_200_000)),
    ("last_seen", "timestamp", "within_last", "1h", HOUR),
    ("last_seen", "timestamp", "more_than_ago", "0s", 0),
    ("last_seen", "timestamp", "within_next", "500d", 500 * 24 * HOUR),
    ("interests", "list", "is_set", True, True),
    ("interests", "list", "has", "a", ("a",)),
    ("interests", "list", "not_has", "a", ("a",)),
    ("interests", "list", "has_any", ["a", "b"], ("a", "b")),
    ("interests", "list", "has_all", ["a"], ("a",)),
]


@pytest.mark.parametrize(("trait", "type_", "op", "raw", "operand"), OPERATORS)
def test_an_operand_is_coerced_to_the_columns_type(
    trait: str, type_: ValueType, op: str, raw: Any, operand: Any
) -> None:
    read = condition({"trait": trait, op: raw})
    assert read == TraitTest(trait, OperatorTest(op, operand, type_))
    assert isinstance(read, TraitTest)
    assert type(read.test.operand) is type(operand)


@pytest.mark.parametrize(
    ("trait", "op", "raw"), [("tier", "eq", "a"), ("tier", "matches", "A"), ("interests", "has_any", ["a"])]
)
def test_ignore_case_is_for_text_and_lists_of_it(trait: str, op: str, raw: Any) -> None:
    for ignore_case in (True, False):
        read = condition({"trait": trait, op: raw, "ignore_case": ignore_case})
        assert isinstance(read, TraitTest)
        assert read.test.ignore_case is ignore_case


def test_a_filter_is_a_tree_over_columns() -> None:
    raw = {"all": [FROM_WEB_RAW, {"any": [{"property": "amount", "gt": 5}, {"not": {"property": "tags",
    "has": "x"}}]}]}
    read = condition({"event": "order", "within": "1h", "where": raw})
    amount, tags = OperatorTest("gt", 5.0, "number"), OperatorTest("has", ("x",), "list")
    where = FilterAll((FROM_WEB, FilterAny((PropertyTest("amount", amount), FilterNot(PropertyTest("tags", tags))))))
    assert read == EventCount("order", "at_least", 1, Within(HOUR), where)


def test_a_window_may_be_as_long_as_the_retention() -> None:
    assert condition({"event": "order", "within": "2d"}) == EventCount("order", "at_least", 1, Within(48 * HOUR))
    assert condition({"event": "view", "between_ago": ["1d", "7d"]})


def test_a_model_without_retention_has_that_of_the_settings() -> None:
    tree = changed("settings.retention", "30m")
    assert {fault.path for fault in faults_of(tree)} == {"audiences[1].where.not.within"}


def test_an_archived_audience_may_refer_to_what_is_not_evaluated() -> None:
    assert parse(changed("audiences.3.where", {"audience": "idea"})).audiences["old"].where == AudienceRef("idea")


def test_a_long_cycle_and_long_chains_are_walked_without_recursion() -> None:
    chain = [{"id": f"a{n}", "parent": "users", "where": {"audience": f"a{n + 1}"}} for n in range(3_000)]
    end = {"id": "a3000", "parent": "users", "where": {"audience": "hide_promo"}}
    tree = changed("audiences.5", end)
    tree["audiences"] += chain
    assert len(parse(tree).audiences) == 3_006
    end["where"] = {"audience": "a0"}
    (fault,) = faults_of(tree)
    assert fault.path == "audiences[5].where"


def test_two_cycles_are_two_faults() -> None:
    tree = changed("audiences.0.where", {"any": [{"audience": "quiet"}, {"audience": "hide_promo"}]})
    tree["audiences"][1]["where"] = {"not": {"audience": "quiet"}}
    assert [fault.path for fault in faults_of(tree)] == ["audiences[1].where", "audiences[0].where"]


def test_conditions_nest_as_deep_as_documents_may() -> None:
    def nested(levels: int) -> Any:
        where: Any = {"trait": "ltv", "gt": 1}
        for _ in range(levels):
            where = {"not": where}
        return where

    assert condition(nested(95))
    (fault,) = faults_of(changed("audiences.0.where", nested(200)))
    assert fault.message == "nested more than 100 levels deep"
