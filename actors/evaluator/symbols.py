"""Conditions -> postfix symbols over few kinds of leaves: what is left of the language for the kernels.

`at_least n` is a leaf: true until the n-th latest event stops counting. Much else is the same leaf under another name:

  at_most n          not at_least n + 1;   exactly n is both
  max gt x           at_least 1 whose value is gt x;   max lt x: some value, and none gte x;   min alike
  distinct gte n     at_least n distinct values
  between_ago [A, B] within B of a stream that is A late

So only sums (and averages), sequences and abandonment have leaves of their own, and nothing ever counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from actors.evaluator.layout import OP_AND, OP_AUDIENCE, OP_FALSE, OP_NOT, OP_OR, OP_TRUE, SINCE, THIS, WITHIN
from actors.evaluator.matching.operators import NEGATED
from cluster.admission.plan import presence_column, said_column
from cluster.definitions.model import (
    Abandonment,
    All,
    AnyOf,
    Audience,
    AudienceRef,
    BetweenAgo,
    Condition,
    EventAggregate,
    EventCount,
    EventModel,
    Filter,
    FilterAll,
    Not,
    PropertyTest,
    Sequence,
    Since,
    Step,
    Test,
    TraitTest,
    ValueType,
    Window,
    Within,
)
from cluster.definitions.operators import TIME_RELATIVE

Unit = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class LeafWindow:
    """How long an event counts: `span_ms`, from `since_ms` on (None: whenever), to the end of its `calendar` unit."""

    span_ms: int
    since_ms: int | None = None
    calendar: tuple[Unit, str] | None = None

    @property
    def kind(self) -> int:
        """The layout's code."""
        if self.calendar is not None:
            return THIS
        return WITHIN if self.since_ms is None else SINCE


@dataclass(frozen=True, slots=True)
class Ring:
    """The latest timestamps of the events of a model that match a filter; of distinct values of a column where named.

    Events count from `delay_ms` after their ts.
    """

    model: int
    where: Filter | None
    delay_ms: int
    column: str | None = None


@dataclass(frozen=True, slots=True)
class CountLeaf:
    """At least `n` in the window."""

    ring: Ring
    n: int
    window: LeafWindow


@dataclass(frozen=True, slots=True)
class Sum:
    """The values of a column in one window; `where` holds only where the column has one."""

    model: int
    where: Filter
    column: str
    delay_ms: int
    window: LeafWindow


@dataclass(frozen=True, slots=True)
class SumLeaf:
    """The sum or the average compares."""

    sum: Sum
    average: bool
    comparison: str
    value: float


@dataclass(frozen=True, slots=True)
class SequenceLeaf:
    """Steps (model, filter) in order."""

    steps: tuple[tuple[int, Filter | None], ...]
    within_ms: int


@dataclass(frozen=True, slots=True)
class AbandonLeaf:
    """A first event (model, filter) without a follow-up."""

    first: tuple[int, Filter | None]
    follow_ups: tuple[tuple[int, Filter | None], ...]
    within_ms: int
    after_ms: int


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest row of `models` that says a trait of theirs (`source: identify`), while it is retained."""

    models: tuple[int, ...]
    trait: str
    type: ValueType
    retention_ms: int

    @property
    def value(self) -> str:
        """The models' column of what the row says."""
        return said_column(self.trait)

    @property
    def said(self) -> PropertyTest:
        """What is true of a row that says it, be it null."""
        return PropertyTest(presence_column(self.trait), Test("eq", True, "boolean"))


@dataclass(frozen=True, slots=True)
class LatestLeaf:
    """What the latest row says satisfies `test`, which is false for a missing value."""

    latest: Latest
    test: Test

    @property
    def relative(self) -> bool:
        """Whether it changes as time passes."""
        return self.test.op in TIME_RELATIVE


@dataclass(frozen=True, slots=True)
class TraitKey:
    """A trait condition that only a new snapshot changes."""

    parent: int
    trait: str
    test: Test


@dataclass(frozen=True, slots=True)
class TimeKey:
    """A trait condition that changes as time passes."""

    parent: int
    trait: str
    op: str
    span_ms: int


EventLeaf: TypeAlias = CountLeaf | SumLeaf | SequenceLeaf | AbandonLeaf | LatestLeaf
Structure: TypeAlias = Ring | Sum | SequenceLeaf | AbandonLeaf | Latest
Symbol: TypeAlias = EventLeaf | TraitKey | TimeKey | int

#: No count gets there: what is compared with more is compared with infinity.
_COUNTS_MAX: Final = 2.0**62
_NEGATED_COMPARISON: Final = {"lt": "gte", "lte": "gt"}
_MIRRORED: Final = {"gt": "lt", "gte": "lte", "lt": "gt", "lte": "gte", "eq": "eq"}


def structure_of(leaf: EventLeaf) -> Structure:
    """Give what holds a leaf's events."""
    if isinstance(leaf, CountLeaf):
        return leaf.ring
    if isinstance(leaf, LatestLeaf):
        return leaf.latest
    return leaf.sum if isinstance(leaf, SumLeaf) else leaf


@dataclass(slots=True)
class Symbols:
    """Turns the conditions of one document into symbols; `audience_index` numbers what `audience` may name.

    `said` has the traits that come with identify calls, by the parent's number and name.
    """

    models: dict[str, tuple[int, EventModel]]
    parent_index: dict[str, int]
    audience_index: dict[str, int]
    said: dict[tuple[int, str], Latest]
    #: Every leaf met, in order.
    leaves: dict[EventLeaf, None] = field(default_factory=dict)
    traits: dict[TraitKey, None] = field(default_factory=dict)
    times: dict[TimeKey, None] = field(default_factory=dict)

    def of(self, node: Condition, audience: Audience) -> list[Symbol]:
        """Write a tree as postfix symbols; O(nodes)."""
        if isinstance(node, All | AnyOf):
            return _joined([self.of(child, audience) for child in node.children], isinstance(node, All))
        if isinstance(node, Not):
            return [*self.of(node.child, audience), OP_NOT]
        if isinstance(node, TraitTest):
            return self._trait(node, self.parent_index[audience.parent])
        if isinstance(node, AudienceRef):
            return [OP_AUDIENCE - self.audience_index[node.audience]]
        if isinstance(node, EventCount):
            return self._count(node)
        if isinstance(node, EventAggregate):
            return self._aggregate(node)
        if isinstance(node, Sequence):
            return [self._leaf(SequenceLeaf(tuple(map(self._step, node.steps)), node.within_ms))]
        return [self._leaf(self._abandonment(node))]

    def _leaf(self, leaf: EventLeaf) -> EventLeaf:
        self.leaves[leaf] = None
        return leaf

    def _trait(self, node: TraitTest, parent: int) -> list[Symbol]:
        latest = self.said.get((parent, node.trait))
        if latest is not None:
            test, negated = _positive(node.test)
            leaf = self._leaf(LatestLeaf(latest, test))
            return [leaf, OP_NOT] if negated else [leaf]
        if node.test.op in TIME_RELATIVE:
            assert isinstance(node.test.operand, int)
            time = TimeKey(parent, node.trait, node.test.op, node.test.operand)
            self.times[time] = None
            return [time]
        key = TraitKey(parent, node.trait, node.test)
        self.traits[key] = None
        return [key]

    def _step(self, step: Step) -> tuple[int, Filter | None]:
        return self.models[step.event][0], step.where

    def _abandonment(self, node: Abandonment) -> AbandonLeaf:
        follow_ups = tuple(self._step(step) for step in node.not_followed_by)
        return AbandonLeaf((self.models[node.event][0], node.where), follow_ups, node.within_ms, node.after_ms)

    def _window(self, window: Window, retention_ms: int) -> tuple[int, LeafWindow]:
        """Give how late events begin to count, and how long they do. Windows reach back to the retention at most."""
        if isinstance(window, Within):
            return 0, LeafWindow(window.duration_ms)
        if isinstance(window, BetweenAgo):
            return window.after_ms, LeafWindow(window.until_ms)
        if isinstance(window, Since):
            return 0, LeafWindow(retention_ms, since_ms=window.time_ms)
        return 0, LeafWindow(retention_ms, calendar=(window.unit, window.tz))

    def _at_least(
        self, event: str, where: Filter | None, window: Window, n: int, column: str | None = None
    ) -> list[Symbol]:
        if n <= 0:
            return [OP_TRUE]
        number, model = self.models[event]
        delay_ms, spans = self._window(window, model.retention_ms)
        if column is not None:
            where = _and(where, PropertyTest(column, Test("is_set", True, model.columns[column].type)))
        # One value at least is one event with a value.
        ring = Ring(number, where, delay_ms, column if n > 1 else None)
        return [self._leaf(CountLeaf(ring, n, spans))]

    def _count(self, node: EventCount) -> list[Symbol]:
        def at_least(n: int) -> list[Symbol]:
            return self._at_least(node.event, node.where, node.window, n)

        if node.comparison == "at_least":
            return at_least(node.count)
        too_many = [*at_least(node.count + 1), OP_NOT]
        return too_many if node.comparison == "at_most" else [*at_least(node.count), *too_many, OP_AND]

    def _aggregate(self, node: EventAggregate) -> list[Symbol]:
        if node.aggregate == "distinct":
            return self._distinct(node)
        if node.aggregate in ("min", "max"):
            return self._extreme(node)
        number, model = self.models[node.event]
        delay_ms, window = self._window(node.window, model.retention_ms)
        where = _and(node.where, PropertyTest(node.column, Test("is_set", True, "number")))
        total = Sum(number, where, node.column, delay_ms, window)
        return [self._leaf(SumLeaf(total, node.aggregate == "avg", node.comparison, node.value))]

    def _distinct(self, node: EventAggregate) -> list[Symbol]:
        def at_least(n: int) -> list[Symbol]:
            return self._at_least(node.event, node.where, node.window, n, node.column)

        if not abs(node.value) < _COUNTS_MAX:
            holds = ("lt", "lte") if node.value > 0 else ("gt", "gte")
            return [OP_TRUE if node.comparison in holds else OP_FALSE]
        above = at_least(math.floor(node.value) + 1)
        reached = at_least(math.ceil(node.value))
        if node.comparison == "eq":
            return [*reached, *above, OP_NOT, OP_AND] if node.value == math.floor(node.value) else [OP_FALSE]
        if node.comparison in ("gt", "lte"):
            return above if node.comparison == "gt" else [*above, OP_NOT]
        return reached if node.comparison == "gte" else [*reached, OP_NOT]

    def _extreme(self, node: EventAggregate) -> list[Symbol]:
        """Max compares as some value does, unless some other one is in the way; min is max with the signs turned."""
        turned = node.aggregate == "min"

        def some(comparison: str) -> list[Symbol]:
            op = _MIRRORED[comparison] if turned else comparison
            test = PropertyTest(node.column, Test(op, node.value, "number"))
            return self._at_least(node.event, _and(node.where, test), node.window, 1)

        def any_value() -> list[Symbol]:
            return self._at_least(node.event, node.where, node.window, 1, node.column)

        comparison = _MIRRORED[node.comparison] if turned else node.comparison
        if comparison in ("gt", "gte"):
            return some(comparison)
        if comparison == "eq":
            return [*some("eq"), *some("gt"), OP_NOT, OP_AND]
        return [*any_value(), *some(_NEGATED_COMPARISON[comparison]), OP_NOT, OP_AND]


def _positive(test: Test) -> tuple[Test, bool]:
    """Give a test as one that is false for a missing value, and whether it is that one's complement."""
    if test.op == "is_set":
        return replace(test, operand=True), test.operand is False
    op = NEGATED.get(test.op)
    return (test, False) if op is None else (replace(test, op=op), True)


def _and(where: Filter | None, test: PropertyTest) -> Filter:
    if where is None:
        return test
    return FilterAll((*where.children, test)) if isinstance(where, FilterAll) else FilterAll((where, test))


def _joined(parts: list[list[Symbol]], every: bool) -> list[Symbol]:
    result = list(parts[0])
    for part in parts[1:]:
        result += [*part, OP_AND if every else OP_OR]
    return result
