"""Abandonment, with one follow-up and with a list, at each ms of short lives, against the sentence that defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.actors.evaluator.lives import Node, Row, Seen, by_definition, document, in_one_wave, ms_by_ms, rows

WEB: Node = {"property": "channel", "eq": "web"}
PAID: Node = {"property": "amount", "gt": 0}
STEPS: list[Node] = [
    {"event": "view"}, {"event": "order"}, {"event": "view", "where": WEB}, {"event": "order", "where": WEB},
    {"event": "view", "where": PAID},
]  # fmt: skip
#: Two models that take every track event, and read its time at different places.
TWO_TIMES: dict[str, Node] = {"sent": {}, "seen": {"timestamp": "properties.seen_at"}}
EITHER: list[Node] = [{"event": "sent"}, {"event": "seen"}, {"event": "sent", "where": WEB}]
#: One event as one model has it: (ts, position, model, row).
Entry = tuple[int, int, str, Row]


def matches(entry: Entry, step: Node) -> bool:
    row, where = entry[3], step.get("where")
    if entry[2] != step["event"]:
        return False
    return where is None or (row.channel == "web" if where == WEB else row.amount is not None and row.amount > 0)


def true_at(node: Node, entries: Sequence[Entry], t: int) -> bool:
    """Some matching a has t-D < ts(a) <= t-A, and no other b that matches a follow-up has ts(a) <= ts(b) <= t."""
    within, after = int(node["within"][:-2]), int(node["after"][:-2])
    steps = node["not_followed_by"]
    answers = [b for b in entries for step in (steps if isinstance(steps, list) else [steps]) if matches(b, step)]
    return any(
        matches(a, node) and t - within < a[0] <= t - after
        and not any(a[0] <= b[0] <= t and b[1] != a[1] for b in answers)
        for a in entries
    )  # fmt: skip


@st.composite
def abandonments(draw: st.DrawFn, steps: Sequence[Node]) -> dict[str, Any]:
    """A few at once, so that they share pages."""
    found = {}
    step = st.sampled_from(list(steps))
    for number in range(draw(st.integers(1, 4))):
        within = draw(st.sampled_from([1, 5, 10, 20]))
        found[f"a{number}"] = {
            **draw(step), "within": f"{within}ms", "after": f"{draw(st.integers(0, within - 1))}ms",
            "not_followed_by": draw(step | st.lists(step, min_size=1, max_size=3)),
        }  # fmt: skip
    return found


#: An answer that came before the late event it answers, and was the user's only one.
ANSWERED: Node = {"event": "view", "within": "20ms", "after": "5ms", "not_followed_by": {"event": "order"}}


@given(abandonments(STEPS), rows(size=12))
@example({"a": ANSWERED}, [Row("order", 0, 0), Row("view", 9, -1)])
@example({"a": ANSWERED}, [Row("order", 0, 0), Row("view", 9, 0)])
@example({"a": ANSWERED}, [Row("order", 0, 0), Row("view", 9, 1)])
def test_abandonment_is_what_its_sentence_says(nodes: dict[str, Node], log: list[Row]) -> None:
    def judged(name: str, seen: Seen) -> bool:
        return true_at(nodes[name], [(row.ts, position, row.name, row) for position, row in seen.rows], seen.t)

    expected = by_definition(list(nodes), log, judged)
    assert ms_by_ms(document(nodes), log) == expected
    assert in_one_wave(document(nodes), log) == expected


#: A row that answers at two times: the later one counts, also for a first event that comes after it.
ANSWERED_TWICE: Node = {
    "event": "sent", "where": WEB, "within": "20ms", "after": "0ms",
    "not_followed_by": [{"event": "sent"}, {"event": "seen"}],
}  # fmt: skip


@given(abandonments(EITHER), rows(size=10))
@example({"a": ANSWERED_TWICE}, [Row("view", 5, 5, "app", None, -3), Row("view", 6, 2, "web", None, -9)])
def test_a_row_with_two_times_does_not_follow_itself_either(nodes: dict[str, Node], log: list[Row]) -> None:
    def judged(name: str, seen: Seen) -> bool:
        sent = [(row.ts, position, "sent", row) for position, row in seen.rows]
        read = [(row.seen_at or 0, position, "seen", row) for position, row in seen.rows]
        return true_at(nodes[name], [*sent, *read], seen.t)

    expected = by_definition(list(nodes), log, judged)
    assert ms_by_ms(document(nodes, **TWO_TIMES), log) == expected
    assert in_one_wave(document(nodes, **TWO_TIMES), log) == expected
