"""The condition language: truth at t from scratch, and the instants that may change it (semantics.md §2)."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.reference.operators import TIME_RELATIVE, filter_holds, holds, operator_of, time_relative_edges
from tests.reference.values import MISSING, duration_ms
from tests.reference.windows import edges, in_window

AGGREGATES = ("sum", "avg", "min", "max", "distinct")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
}


@dataclasses.dataclass(frozen=True)
class AcceptedEvent:
    """One row of the log as one event model took it: the same row may be there once for each model."""

    model: str
    ts: int
    position: int
    values: Mapping[str, Any]
    #: What an identify call says of its user: the traits that it has, null and wrongly typed ones as MISSING.
    said: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class User:
    """What is known of one key of one parent. `traits` is None without a row in the current snapshot."""

    key: str
    parent: str
    traits: Mapping[str, Any] | None = None
    events: list[AcceptedEvent] = dataclasses.field(default_factory=list)
    members: set[str] = dataclasses.field(default_factory=set)
    done_until: int = 0
    matched: dict[str, list[AcceptedEvent]] = dataclasses.field(default_factory=dict)

    def add(self, event: AcceptedEvent) -> None:
        """Take one more event; what was remembered about matches no longer holds."""
        self.events.append(event)
        self.matched.clear()


class Language:
    """Conditions under one definitions document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.models = {model["id"]: model for model in document.get("event_models", [])}
        self.parents = {parent["id"]: parent for parent in document.get("parent_models", [])}
        self.audiences = {
            audience["id"]: audience
            for audience in document.get("audiences", [])
            if audience.get("status", "published") in ("published", "paused")
        }
        own = document.get("settings", {}).get("retention", "7d")
        self.retention_ms = {
            name: duration_ms(model.get("retention", own)) for name, model in self.models.items()
        }
        self._settings_retention_ms = duration_ms(own)

    def universe_ms(self, parent: str) -> int:
        """How long an event keeps its key in the parent's universe: the longest of its event models'."""
        spans = [self.retention_ms[name] for name, model in self.models.items() if model["parent"] == parent]
        return max(spans, default=self._settings_retention_ms)

    def said_columns(self, parent: str) -> dict[str, Any]:
        """The traits that identify calls say."""
        columns = self.parents[parent].get("traits", {}).get("columns", {})
        return {name: column for name, column in columns.items() if column.get("source") == "identify"}

    def said_ms(self, parent: str) -> int:
        """How long a call counts: the longest retention of the parent's models of such calls."""
        return max(
            self.retention_ms[name]
            for name, model in self.models.items()
            if model["parent"] == parent and model.get("type") == "identify"
        )

    def said(self, user: User, trait: str, t: int) -> Any:
        """Of the calls that have the trait and still count, the last by (ts, position) says it."""
        span_ms = self.said_ms(user.parent)
        calls = [event for event in user.events if trait in event.said and t - span_ms < event.ts <= t]
        return max(calls, key=order).said[trait] if calls else MISSING

    def members(self, user: User, t: int) -> set[str]:
        """The audiences the user is in at t: a function of the set of events, the traits and t."""
        if not self.in_universe(user, t):
            return set()
        known: dict[str, bool] = {}
        return {
            name
            for name, audience in self.audiences.items()
            if audience["parent"] == user.parent and self._member(name, user, t, known)
        }

    def in_universe(self, user: User, t: int) -> bool:
        """A row in the snapshot, or an event until exactly its greatest ts plus the retention."""
        if user.traits is not None:
            return True
        return bool(user.events) and t < max(e.ts for e in user.events) + self.universe_ms(user.parent)

    def _member(self, name: str, user: User, t: int, known: dict[str, bool]) -> bool:
        if name not in known:
            known[name] = self._true(self.audiences[name]["where"], user, t, known)
        return known[name]

    def _true(self, node: Mapping[str, Any], user: User, t: int, known: dict[str, bool]) -> bool:
        if "all" in node:
            return all(self._true(child, user, t, known) for child in node["all"])
        if "any" in node:
            return any(self._true(child, user, t, known) for child in node["any"])
        if "not" in node:
            return not self._true(node["not"], user, t, known)
        if "audience" in node:
            return self._member(node["audience"], user, t, known)
        if "trait" in node:
            return self._trait(node, user, t)
        if "sequence" in node:
            return self._sequence(node, user, t)
        if "not_followed_by" in node:
            return self._abandonment(node, user, t)
        if any(name in node for name in AGGREGATES):
            return self._aggregate(node, user, t)
        return self._count(node, user, t)

    def _trait(self, node: Mapping[str, Any], user: User, t: int) -> bool:
        column = self.parents[user.parent]["traits"]["columns"][node["trait"]]
        if column.get("source") == "identify":
            return holds(node, self.said(user, node["trait"], t), column["type"], t)
        value = MISSING if user.traits is None else user.traits.get(node["trait"])
        return holds(node, value, column["type"], t)

    def matching(self, step: Mapping[str, Any], user: User) -> list[AcceptedEvent]:
        """All events of the user that fit the step's model and filter, whatever their age."""
        where = step.get("where")
        name = json.dumps([step["event"], where], sort_keys=True, default=str)
        if name not in user.matched:
            columns = self.models[step["event"]].get("columns", {})
            user.matched[name] = [
                event
                for event in user.events
                if event.model == step["event"] and filter_holds(where, event.values, columns)
            ]
        return user.matched[name]

    def _retained(self, event: AcceptedEvent, t: int) -> bool:
        """Windows reach back at most as far as their event model's retention: `ts > t-R`."""
        return event.ts > t - self.retention_ms[event.model]

    def _counting(self, node: Mapping[str, Any], user: User, t: int) -> list[AcceptedEvent]:
        return [
            event
            for event in self.matching(node, user)
            if self._retained(event, t) and in_window(node, event.ts, t)
        ]

    def _count(self, node: Mapping[str, Any], user: User, t: int) -> bool:
        found = len(self._counting(node, user, t))
        if "at_most" in node:
            return bool(found <= node["at_most"])
        if "exactly" in node:
            return bool(found == node["exactly"])
        return bool(found >= node.get("at_least", 1))

    def _aggregate(self, node: Mapping[str, Any], user: User, t: int) -> bool:
        (name,) = [key for key in AGGREGATES if key in node]
        (comparison,) = [key for key in COMPARISONS if key in node]
        found = [event.values.get(node[name]) for event in self._counting(node, user, t)]
        result = aggregate(name, [value for value in found if value is not MISSING])
        return result is not None and COMPARISONS[comparison](result, node[comparison])

    def _sequence(self, node: Mapping[str, Any], user: User, t: int) -> bool:
        candidates = [
            sorted(
                (
                    event
                    for event in self.matching(step, user)
                    if self._retained(event, t) and in_window(node, event.ts, t)
                ),
                key=order,
            )
            for step in node["sequence"]
        ]
        return in_order(candidates)

    def _abandonment(self, node: Mapping[str, Any], user: User, t: int) -> bool:
        within_ms, after_ms = duration_ms(node["within"]), duration_ms(node["after"])
        follow_ups = [
            event
            for step in _listed(node["not_followed_by"])
            for event in self.matching(step, user)
            if self._retained(event, t)
        ]
        return any(
            t - within_ms < first.ts <= t - after_ms
            and self._retained(first, t)
            and not any(
                first.ts <= event.ts <= t and event.position != first.position for event in follow_ups
            )  # "One event (one row of the log) never follows itself"
            for first in self.matching(node, user)
        )

    def due_times(self, user: User) -> set[int]:
        """Every instant at which some membership of the user may change by itself, past ones included.

        Too many are harmless: at an instant where nothing changes, nothing is written.
        """
        found = {event.ts + self.retention_ms[event.model] for event in user.events}
        found |= {event.ts + self.universe_ms(user.parent) for event in user.events}
        found |= {event.ts + self.said_ms(user.parent) for event in user.events if event.said}
        for name, audience in self.audiences.items():
            if audience["parent"] == user.parent:
                for node in leaves_of(name, json.dumps(audience["where"], sort_keys=True, default=str)):
                    found.update(self._leaf_due_times(node, user))
        return found

    def _leaf_due_times(self, node: Mapping[str, Any], user: User) -> Iterator[int]:
        if "trait" in node:
            values = [event.said.get(node["trait"]) for event in user.events]
            values.append(MISSING if user.traits is None else user.traits.get(node["trait"]))
            for value in values:
                if operator_of(node) in TIME_RELATIVE and value is not MISSING:
                    yield from time_relative_edges(node, value)
        elif "sequence" in node:
            for step in node["sequence"]:
                for event in self.matching(step, user):
                    yield from edges(node, event.ts)
        else:
            for event in self.matching(node, user):
                yield from edges(node, event.ts)
                if "after" in node:
                    yield event.ts + duration_ms(node["after"])


@functools.lru_cache(maxsize=10_000)
def leaves_of(name: str, where_text: str) -> tuple[Mapping[str, Any], ...]:
    """The leaves of an audience's condition, but those of audiences it names: these have their own."""
    del name
    return tuple(_leaves(json.loads(where_text)))


def _leaves(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "all" in node or "any" in node:
        for child in node.get("all", node.get("any", ())):
            yield from _leaves(child)
    elif "not" in node:
        yield from _leaves(node["not"])
    elif "audience" not in node:
        yield node


def _listed(steps: Any) -> list[Mapping[str, Any]]:
    return steps if isinstance(steps, list) else [steps]


def order(event: AcceptedEvent) -> tuple[int, int]:
    """Order inside a sequence: by (ts, position in the log)."""
    return (event.ts, event.position)


def in_order(candidates: Sequence[Sequence[AcceptedEvent]]) -> bool:
    """Is there one event a step, strictly later in order each, every row used once?"""
    chosen = _earliest(candidates)
    if chosen is None:
        return False
    if len({event.position for event in chosen}) == len(chosen):
        return True
    # One row can have two times, under two models: only then can the earliest choice use it twice.
    return _search(candidates, (), frozenset())


def _earliest(candidates: Sequence[Sequence[AcceptedEvent]]) -> list[AcceptedEvent] | None:
    chosen: list[AcceptedEvent] = []
    for step in candidates:
        after = order(chosen[-1]) if chosen else None
        later = [event for event in step if after is None or order(event) > after]
        if not later:
            return None
        chosen.append(later[0])
    return chosen


def _search(
    candidates: Sequence[Sequence[AcceptedEvent]], after: tuple[int, ...], used: frozenset[int]
) -> bool:
    if not candidates:
        return True
    return any(
        _search(candidates[1:], order(event), used | {event.position})
        for event in candidates[0]
        if order(event) > after and event.position not in used
    )


def aggregate(name: str, values: list[Any]) -> float | int | None:
    """Over no values sum and distinct are 0; avg, min and max are undefined (None)."""
    if name == "distinct":
        return len(set(values))
    if name == "sum":
        return math.fsum(values)
    if not values:
        return None
    if name == "avg":
        return math.fsum(values) / len(values)
    extreme: float = min(values) if name == "min" else max(values)
    return extreme
