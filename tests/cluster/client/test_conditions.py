"""A condition built in Python is the condition that YAML says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from cluster import audience, event, prop, sequence, trait
from cluster.conditions import Condition, all_of, any_of
from cluster.definitions.model import Definitions
from cluster.definitions.parsing import parse_document
from cluster.errors import InputError
from destinations.registry import KINDS

DOCUMENT = """
version: 1
parent_models:
  - id: users
    primary_key: user_id
    traits:
      columns:
        ltv: {type: number}
        tier: {type: string}
        last_seen: {type: timestamp}
        opted_in: {type: boolean}
        interests: {type: list}
event_models:
  - &model
    id: a
    parent: users
    foreign_key: user_id
    columns:
      channel: {path: properties.channel, type: string}
      amount: {path: properties.amount, type: number}
  - {<<: *model, id: b}
  - {<<: *model, id: c}
audiences:
  - {id: vip, parent: users, where: {trait: ltv, gt: 1000}}
"""

#: What YAML says, and the same in Python.
SAME: list[tuple[str, Callable[[], Condition]]] = [
    ("{event: a, within: 5m}", lambda: event("a").within("5m")),
    ("{event: a, within: 90s}", lambda: event("a").within(timedelta(seconds=90))),
    ("{event: a, at_least: 3, within: 5m}", lambda: event("a").at_least(3).within("5m")),
    ("{event: a, at_most: 2, within: 5m}", lambda: event("a").within("5m").at_most(2)),
    ("{event: a, exactly: 1, within: 5m}", lambda: event("a").exactly(1).within("5m")),
    ("{event: a, exactly: 0, within: 5m}", lambda: event("a").never().within("5m")),
    ("{event: a, between_ago: [10m, 1h]}", lambda: event("a").between_ago("10m", "1h")),
    ("{event: a, since: '2026-11-01T00:00:00Z'}", lambda: event("a").since("2026-11-01T00:00:00Z")),
    ("{event: a, since: '2026-11-01T00:00:00Z'}", lambda: event("a").since(datetime(2026, 11, 1, tzinfo=UTC))),
    ("{event: a, this: day, tz: Europe/Berlin}", lambda: event("a").this("day", tz="Europe/Berlin")),
    ("{event: a, this: week}", lambda: event("a").this("week")),
    (
        "{event: a, within: 5m, where: {property: channel, eq: web}}",
        lambda: event("a").within("5m").where(channel="web"),
    ),
    (
        "{event: a, within: 5m, where: {all: [{property: amount, gt: 10}, {property: channel, eq: web}]}}",
        lambda: event("a").where(prop("amount") > 10, channel="web").within("5m"),
    ),
    (
        "{event: a, within: 5m, where: {any: [{not: {property: amount, is_set: true}}, "
        "{property: channel, in: [web, app]}]}}",
        lambda: event("a").within("5m").where(~prop("amount").is_set() | prop("channel").in_("web", "app")),
    ),
    ("{event: a, sum: amount, gt: 100, within: 1h}", lambda: (event("a").sum("amount") > 100).within("1h")),
    ("{event: a, avg: amount, gte: 1.5, within: 1h}", lambda: event("a").within("1h").avg("amount") >= 1.5),
    ("{event: a, min: amount, lt: 1, within: 1h}", lambda: event("a").min("amount").within("1h") < 1),
    ("{event: a, max: amount, lte: 1, within: 1h}", lambda: event("a").max("amount").within("1h") <= 1),
    ("{event: a, distinct: channel, eq: 2, within: 1h}", lambda: event("a").distinct("channel").within("1h") == 2),
    (
        "{sequence: [{event: a}, {event: b, where: {property: channel, eq: web}}], within: 30m}",
        lambda: sequence(event("a"), event("b").where(channel="web")).within("30m"),
    ),
    (
        "{event: a, within: 1h, not_followed_by: {event: b}, after: 10m}",
        lambda: event("a").within("1h").not_followed_by(event("b"), after="10m"),
    ),
    (
        "{event: a, where: {property: amount, gt: 5}, within: 1h, after: 10m, "
        "not_followed_by: [{event: b}, {event: c, where: {property: channel, ne: app}}]}",
        lambda: event("a")
        .not_followed_by(event("b"), event("c").where(prop("channel") != "app"), after="10m")
        .where(prop("amount") > 5)
        .within("1h"),
    ),
    ("{audience: vip}", lambda: audience("vip")),
    ("{not: {audience: vip}}", lambda: ~audience("vip")),
    ("{trait: ltv, gt: 300}", lambda: trait("ltv") > 300),
    ("{trait: ltv, gte: 300}", lambda: trait("ltv") >= 300),
    ("{trait: ltv, lt: 300}", lambda: trait("ltv") < 300),
    ("{trait: ltv, lte: 300}", lambda: trait("ltv") <= 300),
    ("{trait: ltv, eq: 300}", lambda: trait("ltv") == 300),
    ("{trait: ltv, ne: 300}", lambda: trait("ltv") != 300),
    ("{trait: ltv, gt: 300}", lambda: 300 < trait("ltv")),  # noqa: SIM300
    ("{trait: ltv, between: [1, 2]}", lambda: trait("ltv").between(1, 2)),
    ("{trait: opted_in, eq: true}", lambda: trait("opted_in") == True),  # noqa: E712
    ("{trait: opted_in, is_set: false}", lambda: trait("opted_in").is_set(False)),
    ("{trait: tier, in: [gold, silver]}", lambda: trait("tier").in_("gold", "silver")),
    ("{trait: tier, not_in: [gold]}", lambda: trait("tier").not_in(["gold"])),
    ("{trait: tier, eq: gold, ignore_case: true}", lambda: trait("tier").eq("gold", ignore_case=True)),
    ("{trait: tier, ne: gold}", lambda: trait("tier").ne("gold")),
    ("{trait: tier, contains: ol}", lambda: trait("tier").contains("ol")),
    ("{trait: tier, not_contains: ol}", lambda: trait("tier").not_contains("ol")),
    ("{trait: tier, starts_with: g}", lambda: trait("tier").starts_with("g")),
    ("{trait: tier, ends_with: d}", lambda: trait("tier").ends_with("d")),
    ("{trait: tier, matches: '^g.*d$'}", lambda: trait("tier").matches("^g.*d$")),
    ("{trait: interests, has: shoes}", lambda: trait("interests").has("shoes")),
    ("{trait: interests, not_has: shoes}", lambda: trait("interests").not_has("shoes")),
    ("{trait: interests, has_any: [shoes, hats]}", lambda: trait("interests").has_any("shoes", "hats")),
    ("{trait: interests, has_all: [shoes, hats]}", lambda: trait("interests").has_all("shoes", "hats")),
    ("{trait: last_seen, within_last: 7d}", lambda: trait("last_seen").within_last("7d")),
    ("{trait: last_seen, more_than_ago: 7d}", lambda: trait("last_seen").more_than_ago(timedelta(days=7))),
    ("{trait: last_seen, within_next: 7d}", lambda: trait("last_seen").within_next("7d")),
    (
        "{trait: last_seen, gt: '2026-11-01T00:00:00Z'}",
        lambda: trait("last_seen") > datetime(2026, 11, 1, tzinfo=UTC),
    ),
    (
        "{all: [{event: a, within: 5m}, {trait: ltv, gt: 300}, "
        "{not: {any: [{audience: vip}, {event: b, within: 1h}]}}]}",
        lambda: event("a").within("5m") & (trait("ltv") > 300) & ~(audience("vip") | event("b").within("1h")),
    ),
]


def definitions_with(where: object) -> Definitions:
    document = yaml.safe_load(DOCUMENT)
    document["audiences"].append({"id": "built", "parent": "users", "where": where})
    return parse_document(document, "", KINDS)


@pytest.mark.parametrize(("text", "build"), SAME, ids=[text for text, _ in SAME])
def test_builds_the_condition_that_yaml_says(text: str, build: Callable[[], Condition]) -> None:
    from_yaml = definitions_with(yaml.safe_load(text))
    from_python = definitions_with(build().to_dict())
    assert from_python.audiences["built"].where == from_yaml.audiences["built"].where


def test_nested_all_and_any_are_one_list() -> None:
    a, b, c, d = (audience(name) for name in "abcd")
    assert ((a & b) & (c & d)).to_dict() == {"all": [{"audience": name} for name in "abcd"]}
    assert (a | (b | c)).to_dict() == any_of(a, b, c).to_dict() == {"any": [{"audience": name} for name in "abc"]}
    assert (a & (b | c)).to_dict() == {"all": [{"audience": "a"}, {"any": [{"audience": "b"}, {"audience": "c"}]}]}


def test_joining_one_condition_gives_it_back() -> None:
    assert all_of(audience("a")) == audience("a")


def test_a_condition_is_never_changed_by_what_is_made_from_it() -> None:
    base = event("a").within("5m")
    narrowed = base.where(channel="web")
    node = narrowed.to_dict()
    node["event"] = "other"
    assert base.to_dict() == {"event": "a", "within": "5m"}
    assert narrowed.to_dict()["event"] == "a"


def test_filters_of_several_calls_add_up() -> None:
    built = event("a").within("5m").where(channel="web").where(prop("amount") > 1)
    assert built.to_dict()["where"] == {"all": [{"property": "channel", "eq": "web"}, {"property": "amount", "gt": 1}]}


MISUSES: list[tuple[str, Callable[[], object]]] = [
    ("instead of and, or, not", lambda: event("a").within("5m") and event("b").within("5m")),
    ("instead of and, or, not", lambda: not audience("a")),
    ("between", lambda: 1 < trait("ltv") < 5),  # type: ignore[operator]
    ("parentheses", lambda: audience("a") & trait("ltv") > 5),  # type: ignore[operator]
    ("parentheses", lambda: 5 & audience("a")),
    ("no operator yet", lambda: trait("ltv") & audience("a")),
    ("no operator yet", lambda: bool(trait("opted_in"))),
    ("no operator yet", lambda: ~trait("opted_in")),
    (r"\.where\(", lambda: audience("a") & (prop("amount") > 1)),  # type: ignore[operator]
    ("takes filters", lambda: event("a").where(trait("ltv") > 3)),  # type: ignore[arg-type]
    ("window already", lambda: event("a").within("5m").since("2026-11-01T00:00:00Z")),
    ("whole number", lambda: event("a").at_least(-1)),
    ("whole number", lambda: event("a").at_least(1.5)),  # type: ignore[arg-type]
    ("compared with a number", lambda: event("a").sum("amount") > "100"),  # type: ignore[operator]
    ("no `!=`", lambda: event("a").sum("amount") != 100),
    ("with a number first", lambda: bool(event("a").sum("amount"))),
    ("alone", lambda: sequence(event("a").within("5m"))),
    ("an event with", lambda: sequence(audience("vip"))),  # type: ignore[arg-type]
    ("at least one event", lambda: sequence()),
    ("at least one event", lambda: event("a").not_followed_by(after="10m")),
    ("needs its window", lambda: bool(sequence(event("a")))),
    ("is_set", lambda: trait("ltv") == None),  # noqa: E711
    ("no zone", lambda: event("a").since(datetime(2026, 11, 1))),  # noqa: DTZ001
    ("in_", lambda: trait("tier") == ["gold"]),
    ("empty", lambda: trait("tier").in_()),
    ("empty", lambda: all_of()),
    ("timedelta", lambda: event("a").within(5)),  # type: ignore[arg-type]
    ("named by text", lambda: trait("")),
]


@pytest.mark.parametrize(("says", "misuse"), MISUSES)
def test_misuse_raises_a_type_error_with_the_next_step(says: str, misuse: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=says):
        misuse()


def test_a_duration_without_unit_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="needs a unit"):
        event("a").within("5")


@pytest.mark.parametrize(
    "incomplete",
    [
        event("a"),
        event("a").at_least(2),
        event("a").sum("amount") > 3,
        event("a").not_followed_by(event("b"), after="1m"),
    ],
)
def test_a_condition_without_its_window_says_so_when_used(incomplete: Condition) -> None:
    with pytest.raises(InputError, match="within"):
        incomplete & audience("vip")
    assert "a" in repr(incomplete)


def test_equal_conditions_are_equal_and_hash_alike() -> None:
    assert event("a").within("5m") == event("a").within("5m")
    assert hash(audience("vip")) == hash(audience("vip"))
    assert audience("vip") != audience("other")
