"""Audiences of a share of the users in plain Python, written for speed: a list a user, one heap, generated code.

Events come in order of time. What is due is made before the event that passes it, stamped with its own ms.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

from benchmarks.peers.flows.generating import NEVER, PAST, Layout, judge_source, step_source

#: (at ms, audience's number, user's row, entered 1 or 0)
Transition = tuple[int, int, int, int]
#: (clock ms, user, model, channel, amount)
Event = tuple[int, str, int, str, float]
_Step = Callable[[list[int], int], None]
#: All of a heap entry's bits below its time.
_BELOW_TIME = (1 << 40) - 1


class Audiences:
    """The users of a share and their memberships; `made` grows by transitions and is emptied by its reader.

    At most 256 audiences and 2**32 users: a heap entry is one integer of due ms, row and audience.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table
        self._layout = Layout(table)
        self._users: dict[str, list[int]] = {}
        self._by_row: dict[int, list[int]] = {}
        self._heap = [NEVER << 40]  # never empty: no test for that in the loop
        self.made: list[Transition] = []
        self._thresholds = [_thresholds(table, model) for model in range(table["models"])]
        scope: dict[str, Any] = {"emit": self.made.append, "push": heappush, "heap": self._heap}
        self._judges = [self._compiled(scope, judge_source(table, self._layout, f"judge_{a}", a), f"judge_{a}")
                        for a in range(len(table["audiences"]))]
        self._steps = [self._model_steps(scope, model) for model in range(table["models"])]

    def begin(self, traits: Iterable[tuple[int, str, dict[str, Any]]]) -> None:
        """Take users (row, name, traits by column) at the start, before any event."""
        layout, start_ms = self._layout, self._table["start_ms"]
        for row, name, columns in traits:
            user = [PAST] * layout.size
            user[0] = row
            for audience in range(layout.audiences):
                user[layout.member(audience)] = 0
                user[layout.due(audience)] = NEVER
            for index, test in enumerate(self._table["traits"]):
                user[layout.trait + index] = NEVER if _holds(test, columns[test["column"]]) else PAST
            self._users[name] = self._by_row[row] = user
            for judge in self._judges:
                judge(user, start_ms)

    def apply(self, events: Iterable[Event]) -> None:
        """Evaluate events in order of time."""
        heap, users, steps, thresholds = self._heap, self._users, self._steps, self._thresholds
        for clock, name, model, channel, amount in events:
            if heap[0] >> 40 <= clock:
                self.advance(clock)
            steps[model][channel][bisect(thresholds[model], amount)](users[name], clock)

    def advance(self, clock_ms: int) -> None:
        """Make every change that is due at or before a time, in due order."""
        heap, judges, by_row, due = self._heap, self._judges, self._by_row, self._layout.due(0)
        limit = clock_ms << 40 | _BELOW_TIME
        while heap[0] <= limit:
            entry = heappop(heap)
            user, audience, at = by_row[entry >> 8 & 0xFFFFFFFF], entry & 0xFF, entry >> 40
            if user[due + audience] == at:  # else an earlier entry took its place
                user[due + audience] = NEVER
                judges[audience](user, at)

    def _model_steps(self, scope: dict[str, Any], model: int) -> dict[str, list[_Step]]:
        """Compile a function for each channel and number of thresholds reached."""
        mine = [(number, leaf) for number, leaf in enumerate(self._table["leaves"]) if leaf["model"] == model]
        limits = self._thresholds[model]
        steps: dict[str, list[_Step]] = _Steps(lambda: steps[""])
        for code, channel in enumerate(["", *sorted({leaf["channel"] for _, leaf in mine if "channel" in leaf})]):
            steps[channel] = []
            for level in range(len(limits) + 1):
                matched = [number for number, leaf in mine if _matches(leaf, channel, limits[:level])]
                name = f"step_{model}_{code}_{level}"
                steps[channel].append(
                    self._compiled(scope, step_source(self._table, self._layout, name, matched), name))
        return steps

    def _compiled(self, scope: dict[str, Any], source: str, name: str) -> _Step:
        exec(source, scope)
        step: _Step = scope[name]
        return step


class _Steps(dict[str, list[_Step]]):
    """Steps by channel; a channel that no filter names has those of no channel."""

    def __init__(self, other: Callable[[], list[_Step]]) -> None:
        super().__init__()
        self._other = other

    def __missing__(self, channel: str) -> list[_Step]:
        self[channel] = self._other()
        return self[channel]


def _thresholds(table: dict[str, Any], model: int) -> list[float]:
    return sorted({x["amount_from"] for x in table["leaves"] if x["model"] == model and "amount_from" in x})


def _matches(leaf: dict[str, Any], channel: str, reached: list[float]) -> bool:
    if "channel" in leaf:
        return bool(leaf["channel"] == channel)
    return "amount_from" not in leaf or leaf["amount_from"] in reached


def _holds(test: dict[str, Any], value: Any) -> bool:
    if value is None:
        return False
    return bool(value > test["above"]) if "above" in test else value in test["texts"]
