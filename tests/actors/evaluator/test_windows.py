"""Counts and aggregates in every kind of window, at each ms of short lives, against counting anew."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.actors.evaluator.lives import (
    FIRST,
    ZONE,
    Node,
    Row,
    Seen,
    by_definition,
    document,
    in_one_wave,
    ms_by_ms,
    rows,
)

#: Windows, and whether an event at ts is inside at t (ts <= t). T is midnight and `since` names it.
WINDOWS: dict[str, tuple[Node, Callable[[int, int], bool]]] = {
    "within": ({"within": "10ms"}, lambda ts, t: t - ts < 10),
    "short": ({"within": "1ms"}, lambda ts, t: t == ts),
    "ago": ({"between_ago": ["3ms", "11ms"]}, lambda ts, t: 3 <= t - ts < 11),
    "ago_1": ({"between_ago": ["1ms", "2ms"]}, lambda ts, t: t - ts == 1),
    "since": ({"since": "2025-11-30T16:00:00Z"}, lambda ts, t: ts >= 0),
    "today": ({"this": "day", "tz": ZONE}, lambda ts, t: (ts >= 0) == (t >= 0)),
}
COMPARED = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le, "eq": operator.eq}


def counts() -> st.SearchStrategy[Node]:
    return st.builds(
        lambda comparison, n: {comparison: max(n, 1) if comparison == "at_least" else n},
        st.sampled_from(["at_least", "at_most", "exactly"]), st.integers(0, 6),
    )  # fmt: skip


def aggregates() -> st.SearchStrategy[Node]:
    return st.builds(
        lambda kind, comparison, value: {kind: "channel" if kind == "distinct" else "amount", comparison: value},
        st.sampled_from(["sum", "avg", "min", "max", "distinct"]), st.sampled_from(sorted(COMPARED)),
        st.sampled_from([0, 1, 2, 0.5, 1.5]),
    )  # fmt: skip


@st.composite
def leaves(draw: st.DrawFn) -> dict[str, Node]:
    """Several conditions, so that they share rings, sums and pages; named after their windows."""
    found = {}
    for number in range(draw(st.integers(1, 8))):
        window = draw(st.sampled_from(sorted(WINDOWS)))
        node = {"event": "view", **draw(st.one_of(counts(), aggregates())), **WINDOWS[window][0]}
        if draw(st.booleans()):
            node["where"] = {"property": "channel", "eq": "web"}
        found[f"{window}.{number}"] = node
    return found


def holds(name: str, node: Node, seen: Seen) -> bool:
    """semantics.md §2, event count and event aggregate."""
    inside = WINDOWS[name.split(".")[0]][1]
    found: list[Row] = [
        row for _, row in seen.rows
        if row.name == "view" and row.ts <= seen.t and inside(row.ts, seen.t)
        and ("where" not in node or row.channel == "web")
    ]  # fmt: skip
    if "at_least" in node:
        return len(found) >= node["at_least"]
    if "at_most" in node:
        return len(found) <= node["at_most"]
    if "exactly" in node:
        return bool(len(found) == node["exactly"])
    value = _aggregate(node, found)
    (comparison,) = COMPARED.keys() & node.keys()
    return value is not None and bool(COMPARED[comparison](value, node[comparison]))


def _aggregate(node: Node, found: list[Row]) -> float | None:
    if "distinct" in node:
        return len({row.channel for row in found} - {None})
    amounts = [row.amount for row in found if row.amount is not None]
    if "sum" in node:
        return sum(amounts)
    if not amounts:
        return None
    if "avg" in node:
        return sum(amounts) / len(amounts)
    return min(amounts) if "min" in node else max(amounts)


@given(leaves(), rows(size=16))
def test_counts_and_aggregates_are_what_counting_anew_gives(nodes: dict[str, Node], log: list[Row]) -> None:
    def judged(name: str, seen: Seen) -> bool:
        return holds(name, nodes[name], seen)

    expected = by_definition(list(nodes), log, judged)
    definitions: Any = document(nodes)
    assert ms_by_ms(definitions, log) == expected
    assert in_one_wave(definitions, log) == expected


def test_a_sum_beyond_float64_is_infinite() -> None:
    total = {"event": "view", "sum": "amount", "within": "20ms"}
    nodes = {name: {**total, name: 100} for name in ("gt", "lt")}
    life = ms_by_ms(document(nodes), [Row("view", 0, 0, "web", 1e308), Row("view", 1, 1, "web", 1e308)])
    assert life[1 - FIRST] == {"gt"}
