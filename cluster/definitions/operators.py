"""Operators and their operands (semantics.md §2, the table of operators), checked against a column's type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cluster.definitions.faults import Faults, Place, show
from cluster.definitions.model import Test, ValueType
from cluster.model.durations import DURATION_FORM, parse_duration
from cluster.model.values import coerce_timestamp

_EQUALITY = ("eq", "ne", "in", "not_in")
_ORDER = ("gt", "gte", "lt", "lte", "between")
#: Operators by type, in the order of the table.
OPERATORS: Final[dict[str, tuple[str, ...]]] = {
    "string": (
        "is_set", *_EQUALITY, "contains", "not_contains", "starts_with", "ends_with", "matches",
    ),
    "number": ("is_set", *_EQUALITY, *_ORDER),
    "boolean": ("is_set", *_EQUALITY),
    "timestamp": ("is_set", *_EQUALITY, *_ORDER, "within_last", "more_than_ago", "within_next"),
    "list": ("is_set", "has", "has_any", "has_all", "not_has"),
}
#: True or false as time passes, with no new data: for traits only.
TIME_RELATIVE: Final = ("within_last", "more_than_ago", "within_next")
ALL_OPERATORS: Final = tuple(dict.fromkeys(op for ops in OPERATORS.values() for op in ops))
_MANY = frozenset({"in", "not_in", "has_any", "has_all"})
_IGNORE_CASE_TYPES = frozenset({"string", "list"})
_NOTHING = object()


def parse_test(
    node: Mapping[str, Any], place: Place, subject: str, type_: ValueType | None, faults: Faults
) -> Test | None:
    """Read `{subject: name, OP: operand, ignore_case: …}`; None when it has a fault, which is then noted.

    `subject` is `trait` or `property`. `type_` None (the column itself is at fault) checks what can be checked.
    """
    keys = [key for key in node if key != subject]
    ops = [key for key in keys if key in ALL_OPERATORS]
    usable = _operators_of(type_, subject)
    sound = True
    for key in keys:
        if key not in ALL_OPERATORS and key != "ignore_case":
            hint = faults.suggestion(key, (*usable, "ignore_case"))
            allowed = ", ".join((*usable, "ignore_case"))
            faults.add((*place, key), f"unknown operator {show(key)}{hint}", allowed=allowed)
            sound = False
    if len(ops) != 1:
        if ops or sound:
            found = ", ".join(ops) if ops else "none"
            faults.add(place, f"a {subject} condition has exactly one operator", found=found, allowed=", ".join(usable))
        return None
    op = ops[0]
    if type_ is not None and op not in usable:
        faults.add((*place, op), _misfit(op, type_, subject), allowed=", ".join(usable), found=op)
        return None
    ignore_case = _ignore_case(node, place, type_, faults)
    if ignore_case is None or type_ is None:
        return None
    operand = _operand(node[op], op, type_, (*place, op), faults)
    if operand is _NOTHING or not sound:
        return None
    if op == "matches" and not _regex_is_valid(str(operand), ignore_case, (*place, op), faults):
        return None
    return Test(op=op, operand=operand, type=type_, ignore_case=ignore_case)


def _operators_of(type_: ValueType | None, subject: str) -> tuple[str, ...]:
    ops = ALL_OPERATORS if type_ is None else OPERATORS[type_]
    return ops if subject == "trait" else tuple(op for op in ops if op not in TIME_RELATIVE)


def _misfit(op: str, type_: ValueType, subject: str) -> str:
    if op in TIME_RELATIVE and type_ == "timestamp" and subject == "property":
        return f"operator {op} is for traits only"
    return f"operator {op} does not fit a {type_} column"


def _ignore_case(node: Mapping[str, Any], place: Place, type_: ValueType | None, faults: Faults) -> bool | None:
    value = node.get("ignore_case", False)
    if not isinstance(value, bool):
        faults.add((*place, "ignore_case"), "ignore_case is a boolean", allowed="true, false")
        return None
    if value and type_ is not None and type_ not in _IGNORE_CASE_TYPES:
        message = f"ignore_case does not fit a {type_} column"
        faults.add((*place, "ignore_case"), message, allowed="string and list columns")
        return None
    return value


def _operand(raw: object, op: str, type_: ValueType, place: Place, faults: Faults) -> Any:
    """Give the coerced operand, or _NOTHING after noting its fault."""
    if op == "is_set":
        return _scalar(raw, "boolean", place, faults)
    if op in TIME_RELATIVE:
        return _duration(raw, op, place, faults)
    element = "string" if type_ == "list" else type_
    if op == "between":
        if not isinstance(raw, list) or len(raw) != 2:
            faults.add(place, "between takes a list of two values", allowed="[lo, hi], both ends included")
            return _NOTHING
        return _scalars(raw, element, place, faults)
    if op in _MANY:
        if not isinstance(raw, list):
            faults.add(place, f"{op} takes a list", allowed=f"a list of at least one {element}")
            return _NOTHING
        if not raw:
            faults.add(place, "the list of operands is empty", allowed=f"a list of at least one {element}")
            return _NOTHING
        return _scalars(raw, element, place, faults)
    value = _scalar(raw, element, place, faults)
    return value if type_ != "list" or value is _NOTHING else (value,)


def _scalars(raw: list[Any], type_: ValueType, place: Place, faults: Faults) -> tuple[Any, ...] | object:
    values = tuple(_scalar(item, type_, (*place, index), faults) for index, item in enumerate(raw))
    return _NOTHING if any(value is _NOTHING for value in values) else values


def _duration(raw: object, op: str, place: Place, faults: Faults) -> int | object:
    try:
        duration_ms = parse_duration(raw)
    except ValueError as error:
        faults.add(place, str(error), allowed=DURATION_FORM)
        return _NOTHING
    if duration_ms == 0 and op != "more_than_ago":
        faults.add(place, f"{op} needs a duration above 0", allowed=DURATION_FORM)
        return _NOTHING
    return duration_ms


def _text(raw: object) -> str | object:
    return raw if isinstance(raw, str) else _NOTHING


def _number(raw: object) -> float | object:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return _NOTHING
    try:
        number = float(raw)
    except OverflowError:
        return _NOTHING
    return number if math.isfinite(number) else _NOTHING


def _boolean(raw: object) -> bool | object:
    return raw if isinstance(raw, bool) else _NOTHING


def _timestamp(raw: object) -> int | object:
    at_ms = coerce_timestamp(raw)
    return _NOTHING if at_ms is None else at_ms


_READ: Final[dict[str, tuple[Callable[[object], Any], str]]] = {
    "string": (_text, "text (in quotes where it looks like a number or a boolean)"),
    "number": (_number, "a number, not in quotes"),
    "boolean": (_boolean, "true, false"),
    "timestamp": (_timestamp, "a time such as 2026-11-01T00:00:00Z, or a number of seconds or ms since 1970"),
}


def _scalar(raw: object, type_: ValueType, place: Place, faults: Faults) -> Any:
    read, allowed = _READ[type_]
    value = read(raw)
    if value is _NOTHING:
        faults.add(place, f"the operand is no {type_}", allowed=allowed)
    return value


def _regex_is_valid(pattern: str, ignore_case: bool, place: Place, faults: Faults) -> bool:
    try:
        pc.match_substring_regex(pa.array([""]), pattern, ignore_case=ignore_case)
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        allowed = "RE2 syntax (no look-around, no back-references)"
        faults.add(place, f"not a valid regular expression: {reason}", allowed=allowed)
        return False
    return True
