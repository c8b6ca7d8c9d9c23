"""Operators and filters (semantics.md §2, the table of OP)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.reference.values import MISSING, coerce, duration_ms, read_timestamp

#: A negated operator is the exact complement of its positive one: TRUE for a missing value.
NEGATED = {"ne": "eq", "not_in": "in", "not_contains": "contains", "not_has": "has"}
PLAIN = (
    "is_set", "eq", "in", "contains", "starts_with", "ends_with", "matches", "gt", "gte", "lt", "lte",
    "between", "within_last", "more_than_ago", "within_next", "has", "has_any", "has_all",
)  # fmt: skip
OPERATORS = (*PLAIN, *NEGATED)
TIME_RELATIVE = ("within_last", "more_than_ago", "within_next")


def operator_of(node: Mapping[str, Any]) -> str:
    """The one operator in a trait or property node."""
    (found,) = [key for key in node if key in OPERATORS]
    return found


def holds(node: Mapping[str, Any], value: Any, declared: str, t: int) -> bool:
    """Does the value (already coerced, or MISSING) satisfy the node's operator at time t?"""
    op = operator_of(node)
    operand = node[op]
    if op == "is_set":
        return bool((value is not MISSING) == operand)
    if op in NEGATED:
        return not _positive(NEGATED[op], operand, value, declared, bool(node.get("ignore_case")), t)
    return _positive(op, operand, value, declared, bool(node.get("ignore_case")), t)


def _positive(op: str, operand: Any, value: Any, declared: str, ignore_case: bool, t: int) -> bool:
    if value is MISSING:
        return False
    if op == "matches":
        return _matches(operand, value, ignore_case)
    if op in TIME_RELATIVE:
        return _time_relative(op, duration_ms(operand), value, t)
    if declared == "list":
        return _list_operator(op, operand, value, _folder(ignore_case))
    if declared == "string":
        fold = _folder(ignore_case)
        operand = [fold(each) for each in operand] if isinstance(operand, list) else fold(operand)
        return _TEXT[op](fold(value), operand)
    read = read_timestamp if declared == "timestamp" else lambda each: coerce(each, declared)
    operand = [read(each) for each in operand] if isinstance(operand, list) else read(operand)
    return _ORDERED[op](value, operand)


_TEXT: dict[str, Callable[[str, Any], bool]] = {
    "eq": lambda value, operand: value == operand,
    "in": lambda value, operand: value in operand,
    "contains": lambda value, operand: operand in value,
    "starts_with": lambda value, operand: value.startswith(operand),
    "ends_with": lambda value, operand: value.endswith(operand),
}
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, operand: value == operand,
    "in": lambda value, operand: value in operand,
    "gt": lambda value, operand: value > operand,
    "gte": lambda value, operand: value >= operand,
    "lt": lambda value, operand: value < operand,
    "lte": lambda value, operand: value <= operand,
    "between": lambda value, operand: operand[0] <= value <= operand[1],  # both ends included
}


def _folder(ignore_case: bool) -> Callable[[str], str]:
    return str.casefold if ignore_case else str


def _list_operator(op: str, operand: Any, value: tuple[str, ...], fold: Callable[[str], str]) -> bool:
    have = {fold(each) for each in value}
    if op == "has":
        return fold(operand) in have
    wanted = {fold(each) for each in operand}
    return bool(wanted & have) if op == "has_any" else wanted <= have


def _time_relative(op: str, span_ms: int, value: int, t: int) -> bool:
    if op == "within_last":
        return t - span_ms < value <= t
    if op == "more_than_ago":
        return value <= t - span_ms
    return t < value <= t + span_ms


def time_relative_edges(node: Mapping[str, Any], value: int) -> list[int]:
    """The instants at which a time-relative trait test of this value may change."""
    op = operator_of(node)
    span_ms = duration_ms(node[op])
    return {
        "within_last": [value, value + span_ms],
        "more_than_ago": [value + span_ms],
        "within_next": [value - span_ms, value],
    }[op]


@functools.lru_cache(maxsize=100_000)
def _matches(pattern: str, value: str, ignore_case: bool) -> bool:
    found = pc.match_substring_regex(pa.scalar(value, pa.string()), pattern, ignore_case=ignore_case)
    return bool(found.as_py())


def filter_holds(
    node: Mapping[str, Any] | None, values: Mapping[str, Any], columns: Mapping[str, Any], t: int = 0
) -> bool:
    """A filter is a tree of all, any, not over property tests; none at all is true."""
    if node is None:
        return True
    if "all" in node:
        return all(filter_holds(child, values, columns, t) for child in node["all"])
    if "any" in node:
        return any(filter_holds(child, values, columns, t) for child in node["any"])
    if "not" in node:
        return not filter_holds(node["not"], values, columns, t)
    name = node["property"]
    return holds(node, values.get(name), columns[name]["type"], t)
