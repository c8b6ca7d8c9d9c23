"""Facets: the ways in which a model's filters look at its columns, and what each test asks of them.

See `kernels/filter_layout.py` for what a class is. A facet collects the constants of all tests first; only then its
classes have numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.matching.trees import PATTERNS, Literal
from cluster.definitions.model import Test
from cluster.errors import InternalError

#: First and last, both included; ascending and disjoint.
Ranges: TypeAlias = list[tuple[Any, Any]]
#: (op, text, ignores case), and for those that select filters whether they do where it is true.
Pattern: TypeAlias = tuple[str, str, bool]

#: What a column is looked at as, but for patterns.
KINDS: Final = {
    "number": at.NUMBER,
    "timestamp": at.TIME,
    "boolean": at.BOOLEAN,
    "string": at.STRING,
    "list": at.LIST,
}
_ORDERED: Final = (at.NUMBER, at.TIME)
_EQUALITIES: Final = ("eq", "in", "is_set")
#: Where all that is asked is equality, values are hashed, not searched for.
_BY_EQUALITY: Final = {at.NUMBER: at.NUMBER_VALUE, at.TIME: at.TIME_VALUE}
_TIME_MIN, _TIME_MAX = -(2**63), 2**63 - 1


@dataclass(slots=True)
class Facet:
    """One way to look at a column. `folded`: its texts are casefolded first."""

    column: str
    kind: int
    folded: bool
    #: constant -> its place; the places of ordered ones are given by `close`
    constants: dict[Any, int] = field(default_factory=dict)
    #: class range -> the filters that it selects
    spans: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    #: (pattern, selects where true) -> the filters that it selects
    selecting: dict[tuple[Pattern, bool], list[int]] = field(default_factory=dict)

    @property
    def indexed(self) -> bool:
        """Say whether it selects filters."""
        return bool(self.spans or self.selecting)

    @property
    def highest(self) -> int:
        """Give the greatest class."""
        if self.kind == at.BOOLEAN:
            return 2
        return 2 * len(self.constants) + 2 if self.kind in _ORDERED else len(self.constants) + 1

    def close(self) -> None:
        """Give the constants their places: from here on there are no more."""
        if self.kind in _ORDERED:
            self.constants = {value: place for place, value in enumerate(sorted(self.constants))}

    def class_of(self, value: Any) -> int:
        """Give the class of a constant."""
        if self.kind == at.BOOLEAN:
            return 2 if value else 1
        place = self.constants[value]
        return 2 + 2 * place if self.kind in _ORDERED else 1 + place

    def classes(self, literal: Literal) -> Ranges:
        """Give the classes for which a literal is true."""
        if literal.test.op == "is_set" and self.kind == at.LIST:
            # The classes between are those of elements.
            return [(self.highest, self.highest)] if literal.positive else [(0, 0)]
        ranges = _classes(self, literal)
        return ranges if literal.positive else _complement(ranges, self.highest)


def _classes(facet: Facet, literal: Literal) -> Ranges:
    test = literal.test
    if test.op == "is_set":
        return [(1, facet.highest)]
    if test.op in ("eq", "in", "has", "has_any"):
        return [(c, c) for c in sorted(facet.class_of(value) for value in literal.values)]
    low, high = _bounds(test)
    greatest = facet.highest - 1  # not NaN
    first = 1 if low is None else facet.class_of(low) + (test.op == "gt")
    last = greatest if high is None else facet.class_of(high) - (test.op == "lt")
    return [(first, last)] if first <= last else []


def _bounds(test: Test) -> tuple[Any, Any]:
    """Give the ends of an ordered test, None where it has none."""
    operand: Any = test.operand
    if test.op == "between":
        return operand[0], operand[1]
    if test.op in ("gt", "gte"):
        return operand, None
    if test.op in ("lt", "lte"):
        return None, operand
    message = f"operator {test.op} on {test.type} is not evaluated on events"
    raise InternalError(message)


def _complement(ranges: Ranges, highest: int) -> Ranges:
    result = []
    free = 0
    for first, last in ranges:
        if free < first:
            result.append((free, first - 1))
        free = last + 1
    return [*result, (free, highest)] if free <= highest else result


def value_ranges(literal: Literal) -> Ranges:
    """Give the keys of the numbers and times (or 0 and 1) for which an ordered or boolean test is true."""
    test, kind = literal.test, KINDS[literal.test.type]
    if test.op in ("eq", "in"):
        return [(key, key) for key in sorted(key_of(value, kind) for value in literal.values)]
    low, high = _bounds(test)
    lowest, highest = (_number_key(-math.inf), _number_key(math.inf)) if kind == at.NUMBER else (_TIME_MIN, _TIME_MAX)
    first = lowest if low is None else key_of(low, kind) + (test.op == "gt")
    last = highest if high is None else key_of(high, kind) - (test.op == "lt")
    return [(first, last)] if first <= last else []


def key_of(value: Any, kind: int) -> int:
    """Give a number, time or boolean as kernels compare it."""
    return _number_key(value) if kind in (at.NUMBER, at.NUMBER_VALUE) else int(value)


def _number_key(value: float) -> int:
    """Do as `calls.ordered_key` does."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value + 0.0))  # -0.0 becomes 0.0
    key: int = bits ^ ((bits >> 63) & at.POSITIVE)
    return key


class Facets:
    """The facets of one model's filters."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, int, bool], Facet] = {}

    def of(self, literal: Literal) -> Facet:
        """Give the facet by which a literal looks at its column."""
        test = literal.test
        kind = at.PATTERN if test.op in PATTERNS else KINDS[test.type]
        if test.op in _EQUALITIES:
            kind = _BY_EQUALITY.get(kind, kind)
        folded = test.ignore_case and test.op not in ("matches", "is_set")
        key = (literal.column, kind, folded)
        facet = self._by_key.get(key)
        if facet is None:
            facet = self._by_key[key] = Facet(*key)
        return facet

    def add(self, literal: Literal, selects: bool) -> None:
        """Collect the constants of a literal, of one that selects no filters only where it needs classes."""
        facet = self.of(literal)
        if facet.kind in (at.BOOLEAN, at.PATTERN) or literal.test.op == "is_set":
            return
        if facet.kind in (at.STRING, at.LIST):
            values: Iterable[Any] = literal.values
        elif not selects:
            return
        elif literal.test.op in ("eq", "in"):
            values = literal.values
        else:
            values = [end for end in _bounds(literal.test) if end is not None]
        for value in values:
            facet.constants.setdefault(value, len(facet.constants))

    @property
    def all(self) -> list[Facet]:
        """Give the facets in the order in which they were named first."""
        return list(self._by_key.values())

    def close(self) -> None:
        """Give all constants their places. Only after every `add`."""
        for facet in self._by_key.values():
            facet.close()


def select(facet: Facet, literal: Literal, filter_index: int) -> None:
    """Let a facet select a filter where a literal is true."""
    if facet.kind == at.PATTERN:
        facet.selecting.setdefault((pattern_of(literal.test), literal.positive), []).append(filter_index)
        return
    for span in facet.classes(literal):
        facet.spans.setdefault(span, []).append(filter_index)


def pattern_of(test: Test) -> Pattern:
    """Give what is searched for; a regular expression as it is written, all else casefolded where case is ignored."""
    text = str(test.operand)
    return (test.op, text.casefold() if test.ignore_case and test.op != "matches" else text, test.ignore_case)
