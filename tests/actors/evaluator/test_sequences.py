"""Sequences at each ms of short lives, against trying every choice of events."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.actors.evaluator.lives import Node, Row, Seen, by_definition, document, in_one_wave, ms_by_ms, rows

WEB: Node = {"property": "channel", "eq": "web"}
STEPS: list[Node] = [
    {"event": "view"}, {"event": "order"}, {"event": "view", "where": WEB}, {"event": "order", "where": WEB},
]  # fmt: skip
#: One event as one model has it: (ts, position, model, row).
Entry = tuple[int, int, str, Row]


def serves(entry: Entry, step: Node) -> bool:
    return entry[2] == step["event"] and ("where" not in step or entry[3].channel == "web")


def true_at(entries: Sequence[Entry], steps: Sequence[Node], t: int, within: int) -> bool:
    """There are events e1..em, one a step, in order of (ts, position), all in the window; a row serves one step."""
    inside = sorted((entry for entry in entries if t - within < entry[0] <= t), key=lambda entry: entry[:2])
    return any(
        all(serves(entry, step) for entry, step in zip(chosen, steps, strict=True))
        and len({entry[1] for entry in chosen}) == len(steps)
        for chosen in itertools.combinations(inside, len(steps))
    )


def sequences(steps: Sequence[Node]) -> st.SearchStrategy[dict[str, Any]]:
    """A few sequences at once, so that they share pages."""
    one = st.builds(
        lambda chosen, within: {"sequence": chosen, "within": f"{within}ms"},
        st.lists(st.sampled_from(list(steps)), min_size=1, max_size=4), st.sampled_from([1, 5, 10, 20, 20]),
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=3).map(lambda found: {f"a{i}": node for i, node in enumerate(found)})


def within_ms(node: Node) -> int:
    return int(node["within"][:-2])


#: A late first step makes chains of all that came after it.
FIRST_LATE: Node = {"sequence": [STEPS[0], STEPS[1], STEPS[1]], "within": "10ms"}
TWICE: Node = {"sequence": [STEPS[0], STEPS[0]], "within": "10ms"}


@given(sequences(STEPS), rows(size=10))
@example({"a": TWICE}, [Row("view", 0, 0), Row("view", 5, 0)])
@example({"a": TWICE}, [Row("view", 0, 0), Row("view", 12, 3)])
@example({"a": FIRST_LATE}, [Row("order", 6, 6), Row("order", 7, 7), Row("order", 8, 8), Row("view", 9, 5)])
def test_a_sequence_is_true_while_some_choice_of_events_is(nodes: dict[str, Node], log: list[Row]) -> None:
    def judged(name: str, seen: Seen) -> bool:
        entries = [(row.ts, position, row.name, row) for position, row in seen.rows]
        return true_at(entries, nodes[name]["sequence"], seen.t, within_ms(nodes[name]))

    expected = by_definition(list(nodes), log, judged)
    assert ms_by_ms(document(nodes), log) == expected
    assert in_one_wave(document(nodes), log) == expected


#: Two models that take every track event, and read its time at different places.
TWO_TIMES: dict[str, Node] = {"sent": {}, "seen": {"timestamp": "properties.seen_at"}}
EITHER: list[Node] = [{"event": "sent"}, {"event": "seen"}, {"event": "sent", "where": WEB}]


@given(sequences(EITHER), rows(size=7))
def test_a_row_with_two_times_serves_one_step_all_the_same(nodes: dict[str, Node], log: list[Row]) -> None:
    def judged(name: str, seen: Seen) -> bool:
        sent = [(row.ts, position, "sent", row) for position, row in seen.rows]
        read = [(row.seen_at or 0, position, "seen", row) for position, row in seen.rows]
        return true_at([*sent, *read], nodes[name]["sequence"], seen.t, within_ms(nodes[name]))

    expected = by_definition(list(nodes), log, judged)
    assert ms_by_ms(document(nodes, **TWO_TIMES), log) == expected
    assert in_one_wave(document(nodes, **TWO_TIMES), log) == expected
