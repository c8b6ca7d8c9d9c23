"""Abandonment, with one follow-up and with a list, at each ms of short lives, against the sentence that defines it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.actors.evaluator.lives import Node, Row, Seen, by_definition, document, in_one_wave, ms_by_ms, rows

WEB: Node = {"property": "channel", "eq": "web"}
PAID: Node = {"property": "amount", "gt": 0}
STEPS: list[Node] = [
    {"event": "view"}, {"event": "order"}, {"event": "view", "where": WEB}, {"event": "order", "where": WEB},
    {"event": "view", "where": PAID},
]  # fmt: skip


def matches(row: Row, step: Node) -> bool:
    if row.name != step["event"]:
        return False
    where = step.get("where")
    return where is None or (row.channel == "web" if where == WEB else row.amount is not None and row.amount > 0)


def follow_ups(node: Node) -> list[Node]:
    after = node["not_followed_by"]
    return after if isinstance(after, list) else [after]


def true_at(node: Node, seen: Seen) -> bool:
    """Some matching a has t-D < ts(a) <= t-A, and no other b that matches a follow-up has ts(a) <= ts(b) <= t."""
    within, after = int(node["within"][:-2]), int(node["after"][:-2])
    return any(
        matches(a, node) and seen.t - within < a.ts <= seen.t - after
        and not any(
            matches(b, step) and a.ts <= b.ts <= seen.t and other != position
            for other, b in seen.rows for step in follow_ups(node)
        )
        for position, a in seen.rows
    )  # fmt: skip


@st.composite
def abandonments(draw: st.DrawFn) -> dict[str, Any]:
    """A few at once, so that they share pages."""
    found = {}
    for number in range(draw(st.integers(1, 4))):
        within = draw(st.sampled_from([1, 5, 10, 20]))
        step = draw(st.sampled_from(STEPS))
        several = st.lists(st.sampled_from(STEPS), min_size=1, max_size=3)
        found[f"a{number}"] = {
            **step, "within": f"{within}ms", "after": f"{draw(st.integers(0, within - 1))}ms",
            "not_followed_by": draw(st.sampled_from(STEPS) | several),
        }  # fmt: skip
    return found


@given(abandonments(), rows(size=12))
def test_abandonment_is_what_its_sentence_says(nodes: dict[str, Node], log: list[Row]) -> None:
    def judged(name: str, seen: Seen) -> bool:
        return true_at(nodes[name], seen)

    expected = by_definition(list(nodes), log, judged)
    assert ms_by_ms(document(nodes), log) == expected
    assert in_one_wave(document(nodes), log) == expected
