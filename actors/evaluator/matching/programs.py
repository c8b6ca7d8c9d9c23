"""What is left to be tested of a filter -> instructions, patterns and ranges (`kernels/filter_layout.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.matching.facets import KINDS, Facets, Pattern, Ranges, pattern_of, value_ranges
from actors.evaluator.matching.trees import Literal, Node
from cluster.definitions.model import Test

PATTERN_OPS: Final = {
    "contains": at.CONTAINS,
    "starts_with": at.STARTS,
    "ends_with": at.ENDS,
    "matches": at.REGEX,
}


class Patterns:
    """The patterns of one model: rows of P_WIDTH, and the regular expressions among them."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, int]] = []
        self.text = bytearray()
        #: pattern -> (place of its facet, test)
        self.regexes: dict[int, tuple[int, Test]] = {}
        self._numbers: dict[tuple[int, Pattern], int] = {}

    def add(self, facet: int, pattern: Pattern, positive: bool, node: int) -> int:
        """Add a pattern that leads to a node (-1: none). Give its number."""
        op, text, ignore_case = pattern
        number = len(self.rows)
        start = len(self.text)
        if op == "matches":
            self.regexes[number] = (facet, Test(op, text, "string", ignore_case))
        else:
            self.text += text.encode()
        self.rows.append((PATTERN_OPS[op], start, len(self.text), int(positive), node))
        self._numbers.setdefault((facet, pattern), number)
        return number

    def number(self, facet: int, pattern: Pattern) -> int:
        """Give the number of a pattern, whether or not it leads to a node."""
        known = self._numbers.get((facet, pattern))
        return self.add(facet, pattern, True, -1) if known is None else known


class Programs:
    """The programs of one model. Equal ranges and equal programs are kept once."""

    def __init__(self, facets: Facets, places: Mapping[int, int], patterns: Patterns) -> None:
        self._facets = facets
        #: id of a facet -> its place
        self._places = places
        self._patterns = patterns
        self.code: list[tuple[int, ...]] = []
        self.ranges: Ranges = []
        self._range_places: dict[tuple[tuple[int, int], ...], tuple[int, int]] = {}
        self._entries: dict[Node, int] = {}

    def entry(self, node: Node) -> int:
        """Give the first instruction of the program that tests a tree; O(its literals)."""
        known = self._entries.get(node)
        if known is not None:
            return known
        entry = self._entries[node] = self._emit(node, at.ACCEPT, at.REJECT, len(self.code))
        return entry

    def _emit(self, node: Node, yes: int, no: int, last: int) -> int:
        """Write a tree backwards, each child after the one it goes on to. Give where it begins."""
        if isinstance(node, Literal):
            kind, facet, start, stop = self._leaf(node)
            targets = (yes, no) if node.positive else (no, yes)
            self.code.append((kind, facet, start, stop, *targets, last))
            return len(self.code) - 1
        going_on = yes if node.every else no
        # What costs most is tested last, and so written first.
        for child in sorted(node.children, key=_cost, reverse=True):
            targets = (going_on, no) if node.every else (yes, going_on)
            going_on = self._emit(child, *targets, last)
        return going_on

    def _leaf(self, literal: Literal) -> tuple[int, int, int, int]:
        """Give the instruction for the literal's test, negated or not."""
        facet = self._facets.of(literal)
        place = self._places[id(facet)]
        if literal.test.op == "is_set":
            if facet.kind == at.STRING:
                return (at.STRING, place, *self._keep([(1, facet.highest)]))
            return (at.IS_SET, place, 0, 0)
        if facet.kind == at.PATTERN:
            return (at.PATTERN, place, self._patterns.number(place, pattern_of(literal.test)), 0)
        if facet.kind in (at.STRING, at.LIST):
            return (facet.kind, place, *self._keep([(c, c) for c in sorted(map(facet.class_of, literal.values))]))
        return (KINDS[literal.test.type], place, *self._keep(value_ranges(literal)))

    def _keep(self, ranges: Ranges) -> tuple[int, int]:
        key = tuple(ranges)
        known = self._range_places.get(key)
        if known is None:
            known = self._range_places[key] = (len(self.ranges), len(self.ranges) + len(key))
            self.ranges += key
        return known


def _cost(node: Node) -> int:
    if isinstance(node, Literal):
        kind = PATTERN_OPS.get(node.test.op)
        return 0 if kind is None else 2 if kind == at.REGEX else 1
    return max(map(_cost, node.children))
