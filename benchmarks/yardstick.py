"""The plain-Python yardstick: the same evaluation with dicts, deques and one heap, written for speed alone.

Conditions and filters are compiled to Python source, so that an event costs one call per model and one per audience
that reads a flipped leaf; a user is one list of deques, one of truths and one of trait truths. It handles events in
order of time only (the workload has no late ones), so it may drop what the engine must not.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from cluster.definitions.model import (
    All,
    AnyOf,
    Condition,
    EventCount,
    Filter,
    Not,
    PropertyTest,
    Published,
    Test,
    TraitTest,
    Within,
)

Transition = tuple[int, str, bool, int]
Event = tuple[int, str, int, dict[str, Any]]
_OPERATORS = {"eq": "==", "in": "in", "gt": ">", "gte": ">="}


class _User:
    __slots__ = ("member", "times", "traits", "truth")

    def __init__(self, leaves: int, audiences: int, traits: list[bool]) -> None:
        self.times: list[deque[int] | None] = [None] * leaves
        self.truth = [False] * leaves
        self.traits = traits
        self.member = [False] * audiences


class PlainEvaluator:
    """Evaluates events in order of time; `transitions` grows by (audience number, user, entered, at ms)."""

    def __init__(self, published: Published, traits: dict[str, dict[str, Any]], clock_ms: int) -> None:
        definitions = published.definitions
        self.names = list(definitions.audiences)
        self._leaves: dict[EventCount, int] = {}
        self._trait_tests: dict[TraitTest, int] = {}
        self._readers: list[list[int]] = []
        sources = [self._source(a.where, i) for i, a in enumerate(definitions.audiences.values())]
        self._programs = [eval(f"lambda t, q: {source}") for source in sources]
        leaves = list(self._leaves)
        self._durations = [_duration(leaf) for leaf in leaves]
        self._counts = [leaf.count for leaf in leaves]
        self._matchers = [self._matcher(model) for model in definitions.event_models]
        self._heap: list[tuple[int, str, int]] = []
        self._users: dict[str, _User] = {}
        self.transitions: list[Transition] = []
        judge = eval("lambda row: [" + ", ".join(_test(f"row[{t.trait!r}]", t.test) for t in self._trait_tests) + "]")
        for name, row in traits.items():
            user = self._users[name] = _User(len(leaves), len(self.names), judge(row))
            self._settle(user, name, range(len(self.names)), clock_ms)

    def run(self, events: Iterable[Event]) -> None:
        """Evaluate events: (clock ms, user, model index, columns)."""
        matchers, heap, readers, users = self._matchers, self._heap, self._readers, self._users
        counts, durations, push = self._counts, self._durations, heapq.heappush
        for clock, name, model, columns in events:
            if heap and heap[0][0] <= clock:
                self.advance(clock)
            user = users[name]
            times, truth = user.times, user.truth
            dirty: list[int] = []
            for leaf in matchers[model](columns):
                kept = times[leaf]
                if kept is None:
                    kept = times[leaf] = deque(maxlen=counts[leaf])
                kept.append(clock)
                if not truth[leaf] and len(kept) == counts[leaf]:
                    until = kept[0] + durations[leaf]
                    if until > clock:
                        truth[leaf] = True
                        push(heap, (until, name, leaf))
                        dirty += readers[leaf]
            if dirty:
                self._settle(user, name, dirty, clock)

    def advance(self, clock: int) -> None:
        """Work off what is due at or before `clock`, instant by instant and user by user."""
        heap = self._heap
        while heap and heap[0][0] <= clock:
            due, name, leaf = heapq.heappop(heap)
            user = self._users[name]
            dirty: list[int] = []
            while True:
                kept = user.times[leaf]
                assert kept is not None
                until = kept[0] + self._durations[leaf]
                if until > due:
                    heapq.heappush(heap, (until, name, leaf))
                else:
                    user.truth[leaf] = False
                    dirty += self._readers[leaf]
                if not (heap and heap[0][0] == due and heap[0][1] == name):
                    break
                leaf = heapq.heappop(heap)[2]
            if dirty:
                self._settle(user, name, dirty, due)

    def _settle(self, user: _User, name: str, audiences: Iterable[int], at: int) -> None:
        truth, traits, member, programs = user.truth, user.traits, user.member, self._programs
        for audience in audiences:
            now = programs[audience](truth, traits)
            if now != member[audience]:
                member[audience] = now
                self.transitions.append((audience, name, now, at))

    def _source(self, node: Condition, audience: int) -> str:
        if isinstance(node, All | AnyOf):
            joined = " and " if isinstance(node, All) else " or "
            return "(" + joined.join(self._source(child, audience) for child in node.children) + ")"
        if isinstance(node, Not):
            return f"(not {self._source(node.child, audience)})"
        if isinstance(node, TraitTest):
            return f"q[{self._trait_tests.setdefault(node, len(self._trait_tests))}]"
        assert isinstance(node, EventCount), "the workload has no other heads"
        assert node.comparison == "at_least"
        leaf = self._leaves.setdefault(node, len(self._leaves))
        if leaf == len(self._readers):
            self._readers.append([])
        if audience not in self._readers[leaf]:
            self._readers[leaf].append(audience)
        return f"t[{leaf}]"

    def _matcher(self, model: str) -> Callable[[dict[str, Any]], list[int]]:
        """Compile a function from an event's columns to the leaves it matches; each distinct filter runs once."""
        by_filter: dict[Filter | None, list[int]] = {}
        for leaf, number in self._leaves.items():
            if leaf.event == model:
                by_filter.setdefault(leaf.where, []).append(number)
        lines = ["def match(c):", f"  found = {by_filter.pop(None, [])}[:]"]
        for where, numbers in by_filter.items():
            assert isinstance(where, PropertyTest), "the workload has no other filters"
            lines.append(f"  if {_test(f'c[{where.column!r}]', where.test)}: found += {tuple(numbers)}")
        scope: dict[str, Any] = {}
        exec("\n".join([*lines, "  return found"]), scope)
        matcher: Callable[[dict[str, Any]], list[int]] = scope["match"]
        return matcher


def _duration(leaf: EventCount) -> int:
    assert isinstance(leaf.window, Within)
    return leaf.window.duration_ms


def _test(value: str, test: Test) -> str:
    return f"{value} {_OPERATORS[test.op]} {test.operand!r}"
