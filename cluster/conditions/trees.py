"""Boolean trees of the condition builder: what `&`, `|` and `~` do, for conditions and filters alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self


class Tree:
    """A node of semantics.md §2. Two trees are equal when their nodes are."""

    __slots__ = ("_node",)
    _noun = "node"

    def __init__(self, node: Mapping[str, Any]) -> None:
        self._node: Mapping[str, Any] = node

    @classmethod
    def join(cls, head: str, children: Sequence[Tree]) -> Self:
        """Put children under `all` or `any`; one child stays itself, and a child with the same head is opened up."""
        family = cls._family()
        for child in children:
            if not isinstance(child, family):
                found = child._noun if isinstance(child, Tree) else type(child).__name__
                message = f"Only {cls._noun}s can be joined here; found a {found}. {_advice(child)}"
                raise TypeError(message)
        if not children:
            message = f"An empty list of {cls._noun}s has no meaning; give at least one."
            raise TypeError(message)
        nodes = [child.to_dict() for child in children]
        if len(nodes) == 1:
            return family(nodes[0])  # type: ignore[return-value]
        flat = [part for node in nodes for part in (node[head] if list(node) == [head] else [node])]
        return family({head: flat})  # type: ignore[return-value]

    @classmethod
    def _family(cls) -> type[Tree]:
        """Give Condition or Filter: a joined tree has lost what made its children special."""
        return cls.__mro__[[base.__name__ for base in cls.__mro__].index("Tree") - 1]

    def to_dict(self) -> dict[str, Any]:
        """Give the node, as JSON and YAML write it; it is yours to change."""
        return copy.deepcopy(dict(self._node))

    def __and__(self, other: Tree) -> Self:
        return self.join("all", (self, other))

    def __or__(self, other: Tree) -> Self:
        return self.join("any", (self, other))

    def __rand__(self, other: object) -> NoReturn:
        raise TypeError(_precedence("&", other))

    def __ror__(self, other: object) -> NoReturn:
        raise TypeError(_precedence("|", other))

    def __invert__(self) -> Self:
        return self._family()({"not": self.to_dict()})  # type: ignore[return-value]

    def __bool__(self) -> NoReturn:
        message = (
            f"A {self._noun} is neither true nor false by itself. Join with & | ~ instead of and, or, not, "
            f"and write .between(lo, hi) instead of lo < x < hi."
        )
        raise TypeError(message)

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Tree) else NotImplemented

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __repr__(self) -> str:
        return f"<{self._noun} {json.dumps(self.to_dict(), ensure_ascii=False)}>"


def _advice(child: object) -> str:
    if isinstance(child, Tree):
        return "Filters over an event's columns go into event(...).where(...)."
    return "Put comparisons in parentheses: (trait('ltv') > 300) & (trait('tier') == 'gold')."


def _precedence(operator: str, other: object) -> str:
    return (
        f"Found {other!r} {operator} a condition: Python reads {operator} before > and ==. "
        f"Put each comparison in parentheses: (trait('ltv') > 300) {operator} (…)."
    )
