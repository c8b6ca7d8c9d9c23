"""The plain-Python yardstick: the same evaluation with dicts, deques and one heap, written for speed alone.

What it does per event: look up the leaves of the event's model, run each property filter once, append to a deque
per (user, leaf), re-evaluate the audiences that read a flipped leaf, and push exits on one heap. It handles events
in order of time only (the workload has no late ones), so it may drop what the engine must not.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from cluster.definitions.model import (
    All,
    AnyOf,
    Condition,
    EventCount,
    FilterAll,
    FilterAny,
    FilterNot,
    Not,
    PropertyTest,
    Published,
    TraitTest,
    Within,
)

Transition = tuple[str, str, bool, int]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, operand: value == operand,
    "in": lambda value, operand: value in operand,
    "gt": lambda value, operand: value is not None and value > operand,
    "gte": lambda value, operand: value is not None and value >= operand,
}


class PlainEvaluator:
    """Evaluates events (clock, user, model index, columns) in order of time; `transitions` grows."""

    def __init__(self, published: Published, traits: dict[str, dict[str, Any]], clock_ms: int) -> None:
        definitions = published.definitions
        self._models = list(definitions.event_models)
        self._leaves: list[EventCount] = []
        self._index: dict[Any, int] = {}
        self._readers: dict[int, list[int]] = defaultdict(list)
        self._names: list[str] = []
        self._programs: list[Callable[[set[int], dict[str, Any]], bool]] = []
        for audience in definitions.audiences.values():
            number = len(self._names)
            self._names.append(audience.id)
            self._programs.append(self._compile(audience.where, number))
        self._by_model: list[list[tuple[int, int, int, Callable[[dict[str, Any]], bool] | None]]] = [
            [] for _ in self._models
        ]
        for number, leaf in enumerate(self._leaves):
            assert isinstance(leaf.window, Within)
            test = _filter(leaf.where) if leaf.where is not None else None
            model = self._models.index(leaf.event)
            self._by_model[model].append((number, leaf.count, leaf.window.duration_ms, test))
        self._durations = [leaf.window.duration_ms for leaf in self._leaves if isinstance(leaf.window, Within)]
        self._counts = [leaf.count for leaf in self._leaves]
        self._traits = traits
        self._true: dict[str, set[int]] = {}
        self._times: dict[tuple[str, int], deque[int]] = {}
        self._member: dict[str, set[int]] = {}
        self._heap: list[tuple[int, str, int]] = []
        self.transitions: list[Transition] = []
        for user, row in traits.items():
            self._settle(user, range(len(self._names)), clock_ms, row)

    def run(self, events: Iterable[tuple[int, str, int, dict[str, Any]]]) -> None:
        """Evaluate events; each (clock ms, user, model index, columns)."""
        by_model, times, heap, readers = self._by_model, self._times, self._heap, self._readers
        for clock, user, model, columns in events:
            if heap and heap[0][0] <= clock:
                self.advance(clock)
            true = self._true.get(user)
            if true is None:
                true = self._true[user] = set()
            dirty = None
            for leaf, count, duration, test in by_model[model]:
                if test is not None and not test(columns):
                    continue
                kept = times.get((user, leaf))
                if kept is None:
                    kept = times[user, leaf] = deque(maxlen=count)
                kept.append(clock)
                if leaf not in true and len(kept) == count and kept[0] + duration > clock:
                    true.add(leaf)
                    heapq.heappush(heap, (kept[0] + duration, user, leaf))
                    dirty = readers[leaf] if dirty is None else dirty + readers[leaf]
            if dirty is not None:
                self._settle(user, dirty, clock, self._traits.get(user, {}))

    def advance(self, clock: int) -> None:
        """Work off what is due at or before `clock`, instant by instant and user by user."""
        heap = self._heap
        while heap and heap[0][0] <= clock:
            due, user, leaf = heapq.heappop(heap)
            dirty: list[int] = []
            while True:
                until = self._times[user, leaf][0] + self._durations[leaf]
                if until > due:
                    heapq.heappush(heap, (until, user, leaf))
                else:
                    self._true[user].discard(leaf)
                    dirty += self._readers[leaf]
                if not (heap and heap[0][0] == due and heap[0][1] == user):
                    break
                leaf = heapq.heappop(heap)[2]
            if dirty:
                self._settle(user, dirty, due, self._traits.get(user, {}))

    def _settle(self, user: str, audiences: Iterable[int], at: int, traits: dict[str, Any]) -> None:
        true = self._true.get(user)
        if true is None:
            true = self._true[user] = set()
        member = self._member.get(user)
        if member is None:
            member = self._member[user] = set()
        for audience in audiences:
            now = self._programs[audience](true, traits)
            if now != (audience in member):
                (member.add if now else member.discard)(audience)
                self.transitions.append((self._names[audience], user, now, at))

    def _compile(self, node: Condition, audience: int) -> Callable[[set[int], dict[str, Any]], bool]:
        if isinstance(node, All | AnyOf):
            parts = [self._compile(child, audience) for child in node.children]
            if isinstance(node, AnyOf):
                return lambda true, traits: any(part(true, traits) for part in parts)
            if len(parts) == 2:
                first, second = parts
                return lambda true, traits: first(true, traits) and second(true, traits)
            return lambda true, traits: all(part(true, traits) for part in parts)
        if isinstance(node, Not):
            inner = self._compile(node.child, audience)
            return lambda true, traits: not inner(true, traits)
        if isinstance(node, TraitTest):
            compare, operand, name = _COMPARE[node.test.op], node.test.operand, node.trait
            return lambda true, traits: compare(traits.get(name), operand)
        assert isinstance(node, EventCount), "the workload has no other heads"
        assert node.comparison == "at_least"
        leaf = self._index.setdefault(node, len(self._leaves))
        if leaf == len(self._leaves):
            self._leaves.append(node)
        if audience not in self._readers[leaf]:
            self._readers[leaf].append(audience)
        return lambda true, traits: leaf in true


def _filter(where: Any) -> Callable[[dict[str, Any]], bool]:
    if isinstance(where, PropertyTest):
        compare, operand, column = _COMPARE[where.test.op], where.test.operand, where.column
        return lambda columns: compare(columns.get(column), operand)
    if isinstance(where, FilterNot):
        inner = _filter(where.child)
        return lambda columns: not inner(columns)
    assert isinstance(where, FilterAll | FilterAny)
    parts = [_filter(child) for child in where.children]
    combine = all if isinstance(where, FilterAll) else any
    return lambda columns: combine(part(columns) for part in parts)
