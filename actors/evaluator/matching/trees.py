"""Filters as trees of literals, and the literals by which each filter is found.

A filter is *covered* by literals of which at least one is true wherever the filter is. So an index from literals to
filters finds every filter that may match a row, and only what a literal does not say by itself, the *rest*, is
tested, on the rows that the literal selected. Equalities are the literals of choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from actors.evaluator.matching.operators import NEGATED
from cluster.definitions.model import Filter, FilterAll, FilterAny, FilterNot, PropertyTest, Test

PATTERNS: Final = ("contains", "starts_with", "ends_with", "matches")
_EQUALITIES: Final = ("eq", "in", "has", "has_any")

#: How well a literal narrows, best first: an equality, a pattern (once per distinct value), a range, a negation.
_EQUALITY, _PATTERN, _RANGE, _NEGATION = range(4)


@dataclass(frozen=True, slots=True)
class Literal:
    """A test whose operator is none of the negated ones, or its complement. `has_all` is never a literal."""

    column: str
    test: Test
    positive: bool

    @property
    def values(self) -> tuple[Any, ...]:
        """Give the operands of a test of equality, casefolded where it ignores case, each once."""
        operand = self.test.operand
        many = operand if isinstance(operand, tuple) else (operand,)
        return tuple(dict.fromkeys(str(v).casefold() for v in many) if self.test.ignore_case else dict.fromkeys(many))


@dataclass(frozen=True, slots=True)
class Branch:
    """True when every child is (`every`), or when some child is. Two children or more."""

    every: bool
    children: tuple[Node, ...]


Node: TypeAlias = Literal | Branch
#: A value of a column, for equality: (column, ignores case, value).
Key: TypeAlias = tuple[str, bool, Any]


@dataclass(frozen=True, slots=True)
class Cover:
    """Where the filter is true some literal is; it is true where some literal and `rest` (None: nothing) are.

    Compared by `rank`, then by `weight`: the number of filters that its values would have to tell apart.
    """

    literals: tuple[Literal, ...]
    rest: Node | None
    rank: int
    weight: int


def tree_of(where: Filter, positive: bool = True) -> Node:
    """Give the filter (or its complement) with negation at the literals only, nested branches of one kind joined."""
    if isinstance(where, FilterNot):
        return tree_of(where.child, not positive)
    if isinstance(where, PropertyTest):
        return _literal(where.column, where.test, positive)
    every = isinstance(where, FilterAll) == positive
    assert isinstance(where, FilterAll | FilterAny)
    return _joined(every, [tree_of(child, positive) for child in where.children])


def _joined(every: bool, nodes: Iterable[Node]) -> Node:
    children: dict[Node, None] = {}
    for node in nodes:
        children.update(dict.fromkeys(node.children if isinstance(node, Branch) and node.every == every else (node,)))
    return Branch(every, tuple(children)) if len(children) > 1 else next(iter(children))


def _literal(column: str, test: Test, positive: bool) -> Node:
    if test.op == "has_all":
        operands = test.operand if isinstance(test.operand, tuple) else (test.operand,)
        each = [replace(test, op="has", operand=(operand,)) for operand in operands]
        return _joined(positive, [Literal(column, one, positive) for one in each])
    if test.op in NEGATED:
        return Literal(column, replace(test, op=NEGATED[test.op]), not positive)
    if test.op == "is_set" and test.operand is False:
        return Literal(column, replace(test, operand=True), not positive)
    return Literal(column, test, positive)


def _is_equality(literal: Literal) -> bool:
    return literal.positive and literal.test.op in _EQUALITIES


def _keys(literal: Literal) -> list[Key]:
    return [(literal.column, literal.test.ignore_case, value) for value in literal.values]


def literals_of(node: Node) -> Iterable[Literal]:
    """Give every literal of a tree."""
    if isinstance(node, Literal):
        yield node
    else:
        for child in node.children:
            yield from literals_of(child)


def covers_of(trees: Sequence[Node | None]) -> list[Cover | None]:
    """Give each filter's cover, None where it has none or the tree is None (no filter).

    Between equalities, the one whose values the fewest of `trees` name is taken: a filter on channel `web` and on
    one of ten thousand products is found by the product.
    """
    named = Counter(
        key
        for tree in trees
        if tree is not None
        for literal in literals_of(tree)
        if _is_equality(literal)
        for key in _keys(literal)
    )
    return [None if tree is None else _cover(tree, named) for tree in trees]


def _cover(node: Node, named: Mapping[Key, int]) -> Cover | None:
    if isinstance(node, Literal):
        return _cover_of_literal(node, named)
    covers = [_cover(child, named) for child in node.children]
    if not node.every:
        found = [cover for cover in covers if cover is not None]
        return _united(node, found) if len(found) == len(covers) else None
    usable = [(cover.rank, cover.weight, place) for place, cover in enumerate(covers) if cover is not None]
    if not usable:
        return None
    place = min(usable)[2]
    best = covers[place]
    assert best is not None
    others = [child for i, child in enumerate(node.children) if i != place]
    return replace(best, rest=_joined(True, others if best.rest is None else [*others, best.rest]))


def _united(node: Branch, covers: list[Cover]) -> Cover:
    return Cover(
        tuple(dict.fromkeys(literal for cover in covers for literal in cover.literals)),
        None if all(cover.rest is None for cover in covers) else node,
        max(cover.rank for cover in covers),
        sum(cover.weight for cover in covers),
    )


def _cover_of_literal(literal: Literal, named: Mapping[Key, int]) -> Cover | None:
    if _is_equality(literal):
        return Cover((literal,), None, _EQUALITY, sum(named[key] for key in _keys(literal)))
    if literal.test.op in PATTERNS and literal.positive:
        return Cover((literal,), None, _PATTERN, 1)
    if literal.positive or literal.test.op == "is_set":
        return Cover((literal,), None, _RANGE, 1)
    # A row's elements never show what is not among them.
    return None if literal.test.type == "list" else Cover((literal,), None, _NEGATION, 1)


def equality_keys(filters: Sequence[Filter | None]) -> list[tuple[str, Any] | None]:
    """Give for each filter of one event model the (column, value) by which the index finds it; O(nodes).

    None: no filter, one found under several values, or by something else than an equality. Values are casefolded
    where the test ignores case. What rows select together has equal keys.
    """
    covers = covers_of([None if where is None else tree_of(where) for where in filters])
    return [None if cover is None else _key_of(cover) for cover in covers]


def _key_of(cover: Cover) -> tuple[str, Any] | None:
    if len(cover.literals) != 1 or not _is_equality(cover.literals[0]):
        return None
    literal = cover.literals[0]
    return (literal.column, literal.values[0]) if len(literal.values) == 1 else None


def equality_key(where: Filter | None) -> tuple[str, Any] | None:
    """As `equality_keys` of one filter alone: between several equalities its model's other filters may decide."""
    return equality_keys([where])[0]
