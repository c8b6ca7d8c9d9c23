"""Columns of the condition builder: a trait or an event's property, and every operator of semantics.md §2 on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Generic, NoReturn, TypeAlias, TypeVar

from cluster.model.durations import DURATION_FORM, format_duration, parse_duration

Scalar: TypeAlias = str | float | bool | datetime
R = TypeVar("R")

AGGREGATE_OPERATORS: Final = "> >= < <= =="


class Column(Generic[R]):
    """A column before its operator. Comparison operators and methods give the condition or filter."""

    __slots__ = ("_head", "_make", "_name")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, head: str, name: str, make: Callable[[Mapping[str, Any]], R]) -> None:
        if not isinstance(name, str) or not name:
            message = f"A {head} is named by text; found {name!r}."
            raise TypeError(message)
        self._head = head
        self._name = name
        self._make = make

    def _test(self, operator: str, operand: object, *, ignore_case: bool = False) -> R:
        flag = {"ignore_case": True} if ignore_case else {}
        return self._make({self._head: self._name, operator: operand, **flag})

    def __gt__(self, value: float | str | datetime) -> R:
        return self._test("gt", _scalar(value))

    def __ge__(self, value: float | str | datetime) -> R:
        return self._test("gte", _scalar(value))

    def __lt__(self, value: float | str | datetime) -> R:
        return self._test("lt", _scalar(value))

    def __le__(self, value: float | str | datetime) -> R:
        return self._test("lte", _scalar(value))

    def __eq__(self, value: object) -> R:  # type: ignore[override]
        return self._test("eq", _scalar(value))

    def __ne__(self, value: object) -> R:  # type: ignore[override]
        return self._test("ne", _scalar(value))

    def eq(self, value: object, *, ignore_case: bool = False) -> R:
        """Equal; `==` with `ignore_case`."""
        return self._test("eq", _scalar(value), ignore_case=ignore_case)

    def ne(self, value: object, *, ignore_case: bool = False) -> R:
        """Not equal, or missing."""
        return self._test("ne", _scalar(value), ignore_case=ignore_case)

    def in_(self, *values: Scalar, ignore_case: bool = False) -> R:
        """One of the values: `.in_("gold", "silver")`, or `.in_(["gold", "silver"])`."""
        return self._test("in", _scalars(values), ignore_case=ignore_case)

    def not_in(self, *values: Scalar, ignore_case: bool = False) -> R:
        """None of the values, or missing."""
        return self._test("not_in", _scalars(values), ignore_case=ignore_case)

    def between(self, low: float | str | datetime, high: float | str | datetime) -> R:
        """From `low` to `high`, both included."""
        return self._test("between", [_scalar(low), _scalar(high)])

    def is_set(self, value: bool = True) -> R:
        """Have a value (`False`: be missing)."""
        return self._test("is_set", value)

    def contains(self, text: str, *, ignore_case: bool = False) -> R:
        """Strings: hold `text` anywhere."""
        return self._test("contains", text, ignore_case=ignore_case)

    def not_contains(self, text: str, *, ignore_case: bool = False) -> R:
        """Strings: hold `text` nowhere, or be missing."""
        return self._test("not_contains", text, ignore_case=ignore_case)

    def starts_with(self, text: str, *, ignore_case: bool = False) -> R:
        """Strings: start with `text`."""
        return self._test("starts_with", text, ignore_case=ignore_case)

    def ends_with(self, text: str, *, ignore_case: bool = False) -> R:
        """Strings: end with `text`."""
        return self._test("ends_with", text, ignore_case=ignore_case)

    def matches(self, pattern: str, *, ignore_case: bool = False) -> R:
        """Strings: match an RE2 pattern anywhere; anchor with ^ and $."""
        return self._test("matches", pattern, ignore_case=ignore_case)

    def has(self, element: str, *, ignore_case: bool = False) -> R:
        """Lists: hold the element."""
        return self._test("has", element, ignore_case=ignore_case)

    def not_has(self, element: str, *, ignore_case: bool = False) -> R:
        """Lists: do not hold the element, or be missing."""
        return self._test("not_has", element, ignore_case=ignore_case)

    def has_any(self, *elements: str, ignore_case: bool = False) -> R:
        """Lists: hold at least one of the elements."""
        return self._test("has_any", _scalars(elements), ignore_case=ignore_case)

    def has_all(self, *elements: str, ignore_case: bool = False) -> R:
        """Lists: hold every one of the elements."""
        return self._test("has_all", _scalars(elements), ignore_case=ignore_case)

    def _unfinished(self) -> str:
        return f"{self._head} {self._name!r} has no operator yet: compare it, or call .is_set(), before joining it."

    def __and__(self, other: object) -> NoReturn:
        raise TypeError(self._unfinished())

    def __or__(self, other: object) -> NoReturn:
        raise TypeError(self._unfinished())

    def __rand__(self, other: object) -> NoReturn:
        message = f"Found {other!r} & {self._head}({self._name!r}): put each comparison in parentheses."
        raise TypeError(message)

    def __ror__(self, other: object) -> NoReturn:
        message = f"Found {other!r} | {self._head}({self._name!r}): put each comparison in parentheses."
        raise TypeError(message)

    def __invert__(self) -> NoReturn:
        raise TypeError(self._unfinished())

    def __bool__(self) -> NoReturn:
        raise TypeError(self._unfinished())

    def __repr__(self) -> str:
        return f"<{self._head} {self._name!r}>"


def duration_text(duration: object) -> str:
    """Give a duration as documents write it; raises TypeError or ValueError with what is allowed."""
    if isinstance(duration, timedelta):
        return format_duration(duration // timedelta(milliseconds=1))
    if not isinstance(duration, str):
        message = f"A duration is text or a timedelta; found {duration!r}, allowed: {DURATION_FORM}."
        raise TypeError(message)
    try:
        parse_duration(duration)
    except ValueError as error:
        message = f"{duration!r}: {error}; allowed: {DURATION_FORM}."
        raise ValueError(message) from None
    return duration


def time_text(time: object) -> str:
    """Give a time as ISO 8601; a datetime must know its zone, text is taken as it is."""
    if isinstance(time, str):
        return time
    if not isinstance(time, datetime):
        message = f"A time is text such as 2026-11-01T00:00:00Z or a datetime with a zone; found {time!r}."
        raise TypeError(message)
    if time.tzinfo is None:
        message = f"{time!r} has no zone; give it one, for instance tzinfo=datetime.UTC."
        raise TypeError(message)
    return time.isoformat()


def _scalar(value: object) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if value is None:
        message = "Nothing equals None: a missing value is .is_set(False)."
        raise TypeError(message)
    if not isinstance(value, str | int | float | bool):
        message = f"An operand is text, a number, a boolean or a datetime; found a {type(value).__name__}. "
        raise TypeError(message + "For several values use .in_(...).")
    return value


def _scalars(values: tuple[object, ...]) -> list[object]:
    if len(values) == 1 and isinstance(values[0], list | tuple | set | frozenset):
        values = tuple(values[0])
    if not values:
        message = "The list of operands is empty; give at least one value."
        raise TypeError(message)
    return [_scalar(value) for value in values]
