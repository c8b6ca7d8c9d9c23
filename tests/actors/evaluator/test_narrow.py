"""Narrow pages: 32-bit offsets give what timestamps give, however far apart, late or near their limits events are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.evaluator.compiling import compile_program
from actors.evaluator.layout import NARROW, NARROW_MAX
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from tests.properties.engine import Engine, comparable
from tests.reference.evaluator import ReferenceEvaluator

START_MS = 1_795_392_000_000
LONGEST = NARROW_MAX
SPANS = (1, 1_000, LONGEST - 1, LONGEST)
DOCUMENT = {
    "version": 1,
    "settings": {"dedup": {"horizon": "1h"}},
    "parent_models": [{"id": "users", "primary_key": "user_id"}],
    "event_models": [{
        "id": "view", "parent": "users", "type": "track", "event": "view", "foreign_key": "user_id",
        "timestamp": "timestamp", "retention": "200d",
    }],
    "audiences": [
        {"id": f"a{n}_{span}", "parent": "users", "where": {"event": "view", "at_least": n, "within": f"{span}ms"}}
        for n in (1, 2, 3) for span in SPANS
    ],
}  # fmt: skip
#: Ms that pass, and by how many ms an event is late: about each span, and beyond what an offset can say.
STEPS = st.one_of(
    st.sampled_from([0, 1, 999, 1_000, LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST, 2 * LONGEST + 3]),
    st.integers(0, 3 * LONGEST),
)


def event(number: int, at: int, ts: int) -> dict[str, Any]:
    return {"type": "track", "event": "view", "userId": f"u{number % 2}", "messageId": f"m{number}", "timestamp": ts}


def test_all_counts_share_one_narrow_page() -> None:
    assert compile_program(publish(None, parse_document(DOCUMENT, "<test>", {}))).arrays.page_plain.tolist() == [NARROW]


@given(st.lists(st.tuples(STEPS, STEPS), min_size=1, max_size=12))
def test_offsets_give_what_timestamps_give(log: list[tuple[int, int]]) -> None:
    engine = Engine(DOCUMENT, {}, START_MS)
    reference = ReferenceEvaluator(DOCUMENT, {}, START_MS)
    now = START_MS
    for number, (after, late) in enumerate(log):
        now += after
        row = event(number, now, now - late)
        engine.batch([(row, now)], live=True)
        reference.event(row, now)
        reference.advance(now)
        assert comparable(engine.transitions) == comparable(reference.transitions)
    for after in (1, 1_000, LONGEST, LONGEST, 2 * LONGEST):
        now += after
        engine.advance(now)
        reference.advance(now)
        assert comparable(engine.transitions) == comparable(reference.transitions)
    assert engine.machine.counters()["blocks"] == 0
