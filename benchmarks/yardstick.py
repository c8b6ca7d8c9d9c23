"""The plain-Python yardsticks: the fastest evaluation of the workloads that we could write without leaving Python.

Two of them, alike but for where due times wait: in a heap (`heapq`), as a program of Python's own parts has them; or
in a timing wheel, which is what a heap becomes when one has read how engines do it, and three times as fast.

Source is generated for the definitions at hand (yardstick_source.py): a function for each class of events (event
model, value of the column compared by equality, limits reached by the other), with no loop and no filter left in it.
The wheel's open slot is dealt to one list a ms; a user has one awaited time an audience,
looked at when it comes, and put off where an event came since. Users are looked up for some hundred events in a row,
so that the cache misses of the look-ups overlap.

It does without what the engine must not: events in order of time only, no duplicates, traits that never change,
windows below 17 minutes, runs below 6 days, no store, transitions that name a record and ms since the start.

Tried, on the engine case with the wheel: one list a ms for its two levels (0.88), slots
of 1,024 ms (0.85), of 64 ms (0.95), a list or an `array` a user for the record (with one list a ms, 0.8), transitions
as tuples (0.89), look-ups one by one (0.9), reading records ahead of their events (0.87); within the noise: `+=` for
`extend`, bound methods, a dictionary of amounts for `bisect`, a negated count's state also beside the times of its bar,
huge pages. What is left is memory: with 10,000 users for 100,000 an event takes little more than half the time.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

from benchmarks.yardstick_source import (
    OTHER,
    SLOT_BITS,
    SLOT_MASK,
    Kind,
    Rule,
    Source,
    duration_ms,
    rule_of,
)
from cluster.definitions.model import PropertyTest, Published, Test

#: (audience number, user, entered, at ms)
Transition = tuple[int, str, bool, int]
_Step = Callable[[Any, int], None]
#: Events whose users are looked up in one go.
_CHUNK_ROWS = 512
#: Slots of the wheel: 2 ** 20 ms.
_SLOTS = 1 << 20 - SLOT_BITS


class PlainEvaluator:
    """Evaluates events in order of time, the first not before `clock_ms`."""

    def __init__(
        self, published: Published, traits: Mapping[str, Mapping[str, Any]], clock_ms: int, *, heap: bool = False
    ) -> None:
        definitions = published.definitions
        self.names = list(definitions.audiences)
        rules = [rule_of(number, audience.where) for number, audience in enumerate(definitions.audiences.values())]
        counts = [found for rule in rules for found in (rule.count, rule.unless) if found is not None]
        assert max(map(duration_ms, counts)) < (_SLOTS - 1) << SLOT_BITS
        self._start_ms, self._now = clock_ms, 0
        self._made: list[Any] = []
        self._wheel: list[list[Any]] = [[] for _ in range(_SLOTS)]
        self._near: list[list[Any]] = [[] for _ in range(SLOT_MASK + 1)]
        self._heap: list[Any] | None = [] if heap else None
        self._scope: dict[str, Any] = {"wheel": self._wheel, "near": self._near, "emit": self._made.extend}
        if heap:
            # The number keeps records, which have no order, from being compared.
            self._scope |= {"wheel": self._heap, "near": count().__next__, "push": heappush}
        self._source = Source(rules, _SLOTS - 1, heap=heap)
        self._equal, self._limited = self._column("eq"), self._column("gte")
        exec("\n".join([self._source.record(), *map(self._source.lapse, rules)]), self._scope)
        self._limits: list[list[float]] = []
        self._steps: list[dict[Any, list[_Step]]] = []
        for model in definitions.event_models:
            self._compile(model)
        self._users: dict[str, Any] = {}
        self._add_users(traits, rules)

    def run(
        self, clocks: Sequence[int], users: Sequence[str], models: Sequence[int], columns: Mapping[str, Sequence[Any]]
    ) -> None:
        """Evaluate events, columns of one length: clock ms, user, index of the event model, what filters read."""
        start_ms, now, advance, find = self._start_ms, self._now, self._advance, self._users.__getitem__
        steps, limits = self._steps, self._limits
        equal = columns[self._equal] if self._equal else [None] * len(clocks)
        limited = columns[self._limited] if self._limited else [0.0] * len(clocks)
        for first in range(0, len(clocks), _CHUNK_ROWS):
            part = slice(first, first + _CHUNK_ROWS)
            found = list(map(find, users[part]))
            chosen = [steps[model][value][bisect(limits[model], amount)]
                      for model, value, amount in zip(models[part], equal[part], limited[part], strict=True)]
            for clock, user, step in zip(clocks[part], found, chosen, strict=True):
                t = clock - start_ms
                if t > now:
                    advance(t)
                    now = t
                step(user, t)

    def advance(self, clock_ms: int) -> None:
        """Work off what is due at or before a time, instant by instant."""
        self._advance(clock_ms - self._start_ms)

    @property
    def transitions(self) -> list[Transition]:
        """All transitions so far, in the order they were made."""
        made, start_ms = self._made, self._start_ms
        return [(code >> 1, user.name, bool(code & 1), at + start_ms)
                for at, code, user in zip(made[::3], made[1::3], made[2::3], strict=True)]

    def _advance(self, until: int) -> None:
        if self._heap is not None:
            self._pop(self._heap, until)
            return
        near, now = self._near, self._now
        while now < until:
            now += 1
            if not now & SLOT_MASK:
                slot = self._wheel[now >> SLOT_BITS & _SLOTS - 1]
                for place, user, lapse in zip(slot[::3], slot[1::3], slot[2::3], strict=True):
                    near[place].extend((user, lapse))
                slot.clear()
            due = near[now & SLOT_MASK]
            if due:
                for user, lapse in zip(due[::2], due[1::2], strict=True):
                    lapse(user, now)
                due.clear()
        self._now = now

    def _pop(self, heap: list[Any], until: int) -> None:
        while heap and heap[0][0] <= until:
            at, _, user, lapse = heappop(heap)
            lapse(user, at)
        self._now = max(self._now, until)

    def _add_users(self, traits: Mapping[str, Mapping[str, Any]], rules: Sequence[Rule]) -> None:
        tests = {test for rule in rules for test in rule.tests}
        for name, row in traits.items():
            user = self._users[name] = self._scope["make"](name)
            failed = {test for test in tests if not _holds(test.test, row[test.trait])}
            for rule in rules:
                if not failed.isdisjoint(rule.tests):
                    setattr(user, f"m{rule.number}", OTHER)

    def _column(self, op: str) -> str | None:
        """Give the one column that filters compare by this operator."""
        tests = [where for _, where in self._source.kinds if where is not None]
        assert all(isinstance(where, PropertyTest) and where.test.op in {"eq", "gte"} for where in tests)
        found = {where.column for where in tests if isinstance(where, PropertyTest) and where.test.op == op}
        assert len(found) <= 1, "the workloads compare one column by equality and one by limits"
        return next(iter(found), None)

    def _compile(self, model: str) -> None:
        """Compile the functions for an event model, by value and number of limits reached."""
        kinds = [kind for kind in self._source.kinds if kind[0] == model]
        limits = sorted({operand for kind in kinds for operand in _operands(kind, "gte")})
        values = sorted({operand for kind in kinds for operand in _operands(kind, "eq")})
        steps = _Steps()
        for value in [None, *values]:
            steps[value] = []
            for level in range(len(limits) + 1):
                met = {("eq", value), *(("gte", limit) for limit in limits[:level])}
                matched = [kind for kind in kinds if kind[1] is None or _compared(kind) in met]
                name = f"step_{len(self._steps)}_{len(steps)}_{level}"
                exec(self._source.step(name, matched), self._scope)
                steps[value].append(self._scope[name])
        self._limits.append(limits)
        self._steps.append(steps)


class _Steps(dict[Any, list[_Step]]):
    """Functions by value; a value that no filter names has those of None."""

    def __missing__(self, value: Any) -> list[_Step]:
        return self[None]


def _compared(kind: Kind) -> tuple[str, Any]:
    assert isinstance(kind[1], PropertyTest)
    return kind[1].test.op, kind[1].test.operand


def _operands(kind: Kind, op: str) -> list[Any]:
    return [operand for found, operand in [_compared(kind)] if found == op] if kind[1] is not None else []


def _holds(test: Test, value: Any) -> bool:
    assert test.op in {"gt", "in"}, "the workloads have no other tests of traits"
    operand: Any = test.operand
    return bool(value > operand if test.op == "gt" else value in operand)
