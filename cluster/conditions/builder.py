"""Conditions in Python: the same trees as in YAML, built with operators.

    (event("order_completed").within("5m").where(channel="web")) & (trait("ltv") > 300)

`&`, `|` and `~` join conditions (Python's own `and`, `or`, `not` cannot be taught to, and say so). Everything is
immutable: each method gives a new condition. `to_dict()` gives the node as semantics.md §2 writes it. Names, types
and windows are checked by the server, against the definitions; what is checked here is what Python alone can get wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn, Self, TypeAlias

from cluster.conditions.columns import AGGREGATE_OPERATORS, Column, duration_text, time_text
from cluster.conditions.trees import Tree
from cluster.errors import InputError

__all__ = [
    "Abandoned",
    "Aggregate",
    "Audience",
    "Condition",
    "Event",
    "Filter",
    "Happened",
    "all_of",
    "any_of",
    "audience",
    "event",
    "prop",
    "sequence",
    "trait",
]

Duration: TypeAlias = str | timedelta


class Condition(Tree):
    """A condition over users. Join with `&`, `|`, `~`."""

    _noun = "condition"


class Filter(Tree):
    """A filter over an event's columns, for `.where(...)`. Join with `&`, `|`, `~`."""

    _noun = "filter"


class Trait(Column[Condition]):
    """A trait of the parent model, before its operator."""

    def within_last(self, duration: Duration) -> Condition:
        """Timestamp traits: `t - duration < value <= t`."""
        return self._test("within_last", duration_text(duration))

    def more_than_ago(self, duration: Duration) -> Condition:
        """Timestamp traits: `value <= t - duration`."""
        return self._test("more_than_ago", duration_text(duration))

    def within_next(self, duration: Duration) -> Condition:
        """Timestamp traits: `t < value <= t + duration`."""
        return self._test("within_next", duration_text(duration))


def trait(name: str) -> Trait:
    """Name a trait; an operator or a method makes it a condition: `trait("ltv") > 300`."""
    return Trait("trait", name, Condition)


def prop(name: str) -> Column[Filter]:
    """Name a column of an event model for `.where(...)`: `prop("amount") > 10`."""
    return Column("property", name, Filter)


class Audience(Condition):
    """Membership of another audience."""


def audience(audience_id: str) -> Audience:
    """Be a member of another audience at the same instant."""
    return Audience({"audience": audience_id})


def all_of(*conditions: Condition) -> Condition:
    """Join any number of conditions by `&`; raises TypeError for none."""
    return Condition.join("all", conditions)


def any_of(*conditions: Condition) -> Condition:
    """Join any number of conditions by `|`; raises TypeError for none."""
    return Condition.join("any", conditions)


@dataclass(frozen=True, slots=True)
class _EventParts:
    """What an event condition says so far, as pieces of its node."""

    event: str
    comparison: Mapping[str, Any]
    window: Mapping[str, Any]
    filters: tuple[Filter, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"event": self.event, **self.comparison, **self.window, **self.where()}

    def step(self, role: str) -> dict[str, Any]:
        """Give the node of a sequence's step or a follow-up: an event and a filter, nothing else."""
        extra = [*self.comparison, *self.window]
        if extra:
            message = f"event({self.event!r}) is {role}, which takes .where(...) alone; found .{extra[0]}."
            raise TypeError(message)
        return {"event": self.event, **self.where()}

    def where(self) -> dict[str, Any]:
        return {"where": Filter.join("all", self.filters).to_dict()} if self.filters else {}

    def with_window(self, window: Mapping[str, Any]) -> _EventParts:
        if self.window:
            message = f"event({self.event!r}) has a window already ({_only_key(self.window)}); it takes exactly one."
            raise TypeError(message)
        return replace(self, window=window)

    def with_comparison(self, comparison: Mapping[str, Any]) -> _EventParts:
        if self.comparison:
            found = _only_key(self.comparison)
            message = f"event({self.event!r}) is compared already ({found}); join two conditions with & instead."
            raise TypeError(message)
        return replace(self, comparison=comparison)

    def with_filters(self, filters: tuple[object, ...], equals: Mapping[str, object]) -> _EventParts:
        for found in filters:
            if not isinstance(found, Filter):
                message = (
                    f".where() takes filters such as prop('amount') > 10, or column=value; "
                    f"found a {type(found).__name__}."
                )
                raise TypeError(message)
        more = (*filters, *(prop(name).eq(value) for name, value in equals.items()))
        return replace(self, filters=(*self.filters, *more))  # type: ignore[arg-type]


class _Windowed:
    """The windows and filters that event conditions and aggregates share."""

    __slots__ = ()
    _parts: _EventParts

    def _with(self, parts: _EventParts) -> Self:
        raise NotImplementedError

    def within(self, duration: Duration) -> Self:
        """Count events with `t - duration < ts <= t`."""
        return self._with(self._parts.with_window({"within": duration_text(duration)}))

    def between_ago(self, after: Duration, until: Duration) -> Self:
        """Count events with `t - until < ts <= t - after` (after < until)."""
        return self._with(self._parts.with_window({"between_ago": [duration_text(after), duration_text(until)]}))

    def since(self, time: str | datetime) -> Self:
        """Count events from `time` on: ISO 8601 with a zone, or an aware datetime."""
        return self._with(self._parts.with_window({"since": time_text(time)}))

    def this(self, unit: Literal["day", "week", "month"], tz: str = "UTC") -> Self:
        """Count events since the local start of the day, week (Monday) or month."""
        return self._with(self._parts.with_window({"this": unit, **({"tz": tz} if tz != "UTC" else {})}))

    def where(self, *filters: Filter, **equals: str | float | bool | datetime) -> Self:
        """Count only events that satisfy every filter: `.where(prop("amount") > 10, channel="web")`."""
        return self._with(self._parts.with_filters(filters, equals))


class Happened(_Windowed, Condition):
    """An event condition with its comparison made; it still takes a window and filters."""

    __slots__ = ("_parts",)

    def __init__(self, parts: _EventParts) -> None:
        self._parts = parts

    def _with(self, parts: _EventParts) -> Self:
        return type(self)(parts)

    def to_dict(self) -> dict[str, Any]:
        """Give the node; raises InputError while the window is missing."""
        if not self._parts.window:
            message = f"event({self._parts.event!r}) has no window."
            step = "Add .within('5m'), .between_ago('10m', '1h'), .since(...) or .this('day')."
            raise InputError(message, next_step=step)
        return self._parts.to_dict()

    def __repr__(self) -> str:
        return f"<{self._noun} {self._parts.to_dict()}>"


class Event(Happened):
    """An event that happened, at least once unless a count says otherwise."""

    __slots__ = ()

    def at_least(self, count: int) -> Happened:
        """Say that `count` or more events match."""
        return self._counted("at_least", count)

    def at_most(self, count: int) -> Happened:
        """Say that `count` or fewer events match."""
        return self._counted("at_most", count)

    def exactly(self, count: int) -> Happened:
        """Say that exactly `count` events match."""
        return self._counted("exactly", count)

    def never(self) -> Happened:
        """Say that no event matches: `exactly: 0`."""
        return self._counted("exactly", 0)

    def sum(self, column: str) -> Aggregate:
        """Add up a number column; compare the result: `event("order").sum("amount") > 100`."""
        return Aggregate("sum", column, self._parts)

    def avg(self, column: str) -> Aggregate:
        """Average a number column; compare the result."""
        return Aggregate("avg", column, self._parts)

    def min(self, column: str) -> Aggregate:
        """Take the smallest of a number column; compare the result."""
        return Aggregate("min", column, self._parts)

    def max(self, column: str) -> Aggregate:
        """Take the largest of a number column; compare the result."""
        return Aggregate("max", column, self._parts)

    def distinct(self, column: str) -> Aggregate:
        """Count the different values of a column; compare the result."""
        return Aggregate("distinct", column, self._parts)

    def not_followed_by(self, *follow_ups: Event, after: Duration) -> Abandoned:
        """Abandonment: it happened at least `after` ago, and none of the follow-ups came since."""
        if not follow_ups:
            message = ".not_followed_by() takes at least one event, such as event('order_completed')."
            raise TypeError(message)
        parts = self._parts.with_comparison({})
        steps = [_step(follow_up, "a follow-up") for follow_up in follow_ups]
        return Abandoned(parts, steps[0] if len(steps) == 1 else steps, duration_text(after))

    def _counted(self, comparison: str, count: int) -> Happened:
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            message = f".{comparison}() takes a whole number from 0; found {count!r}."
            raise TypeError(message)
        return Happened(self._parts.with_comparison({comparison: count}))


class Abandoned(Condition):
    """An event with nothing after it; it needs `.within(D)` longer than `after`, given before or after."""

    __slots__ = ("_after", "_follow_ups", "_parts")

    def __init__(self, parts: _EventParts, follow_ups: object, after: str) -> None:
        self._parts = parts
        self._follow_ups = follow_ups
        self._after = after

    def within(self, duration: Duration) -> Abandoned:
        """Look at events with `t - duration < ts`."""
        return Abandoned(
            self._parts.with_window({"within": duration_text(duration)}), self._follow_ups, self._after
        )

    def where(self, *filters: Filter, **equals: str | float | bool | datetime) -> Abandoned:
        """Look only at events that satisfy every filter."""
        return Abandoned(self._parts.with_filters(filters, equals), self._follow_ups, self._after)

    def to_dict(self) -> dict[str, Any]:
        """Give the node; raises InputError without `.within(D)`."""
        if list(self._parts.window) != ["within"]:
            message = f"event({self._parts.event!r}).not_followed_by(...) needs .within(D) as its window."
            raise InputError(message, next_step="Add .within('1h'), longer than `after`.")
        return {**self._parts.to_dict(), "not_followed_by": self._follow_ups, "after": self._after}

    def __repr__(self) -> str:
        return f"<{self._noun} {self._parts.to_dict()} not followed by {self._follow_ups}, after {self._after}>"


class Aggregate(_Windowed):
    """An aggregate over an event's column, before it is compared."""

    __slots__ = ("_column", "_kind", "_parts")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kind: str, column: str, parts: _EventParts) -> None:
        self._kind = kind
        self._column = column
        self._parts = parts

    def _with(self, parts: _EventParts) -> Self:
        return type(self)(self._kind, self._column, parts)

    def _compared(self, operator: str, value: object) -> Happened:
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = f"event({self._parts.event!r}).{self._kind}() is compared with a number; found {value!r}."
            raise TypeError(message)
        return Happened(self._parts.with_comparison({self._kind: self._column, operator: value}))

    def __gt__(self, value: float) -> Happened:
        return self._compared("gt", value)

    def __ge__(self, value: float) -> Happened:
        return self._compared("gte", value)

    def __lt__(self, value: float) -> Happened:
        return self._compared("lt", value)

    def __le__(self, value: float) -> Happened:
        return self._compared("lte", value)

    def __eq__(self, value: object) -> Happened:  # type: ignore[override]
        return self._compared("eq", value)

    def __ne__(self, value: object) -> NoReturn:
        message = f"An aggregate has no `!=`; allowed: {AGGREGATE_OPERATORS}. Write ~({self._kind} == value)."
        raise TypeError(message)

    def __bool__(self) -> NoReturn:
        message = f"Compare {self._kind}({self._column!r}) with a number first, for instance > 100."
        raise TypeError(message)

    def __repr__(self) -> str:
        return f"event({self._parts.event!r}).{self._kind}({self._column!r})"


@dataclass(frozen=True, slots=True)
class SequenceOf:
    """Events in order, before their window: call `.within(D)`."""

    steps: tuple[Mapping[str, Any], ...]

    def within(self, duration: Duration) -> Condition:
        """Say that all steps lie within `duration`."""
        return Condition({"sequence": list(self.steps), "within": duration_text(duration)})

    def __bool__(self) -> NoReturn:
        message = "A sequence needs its window: sequence(event('a'), event('b')).within('30m')."
        raise TypeError(message)


def event(event_model_id: str) -> Event:
    """Name an event model; with a window it is a condition: `event("order_completed").within("5m")`."""
    return Event(_EventParts(event_model_id, {}, {}))


def sequence(*steps: Event) -> SequenceOf:
    """Put events in order: `sequence(event("a"), event("b")).within("30m")`."""
    if not steps:
        message = "sequence() takes at least one event, such as event('product_viewed')."
        raise TypeError(message)
    return SequenceOf(tuple(_step(step, "a step of a sequence") for step in steps))


def _step(step: object, role: str) -> dict[str, Any]:
    if not isinstance(step, Event):
        found = type(step).__name__
        message = f"{role} is an event with .where(...) at most, such as event('order_completed'); found {found}."
        raise TypeError(message)
    return step._parts.step(role)


def _only_key(parts: Mapping[str, Any]) -> str:
    return next(iter(parts))
