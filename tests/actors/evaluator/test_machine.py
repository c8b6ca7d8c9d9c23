"""The machine alone: what one row does to users of several parents, and the room that departed users give back."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from actors.evaluator import compacting
from actors.evaluator.machine import EvaluatorMachine
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Published
from cluster.wire.envelope import envelope_of
from tests.actors.evaluator.examples import DOCUMENT, event, published

START_MS = 1_795_392_000_000


def machine_of(definitions: Published) -> EvaluatorMachine:
    machine = EvaluatorMachine(definitions, seed=7)
    machine.load([], {}, START_MS)
    return machine


def hits_of(definitions: Published, *events: dict[str, Any]) -> pa.RecordBatch:
    rows = [msgspec.json.encode(each) for each in events]
    return Decoder(EventPlan(definitions.definitions)).decode(envelope_of(rows, 0, source="web")).hits


def test_a_row_is_no_duplicate_of_itself_where_parents_alternate() -> None:
    """Models a and c take the row for a user, b between them for a shop with the same key."""
    definitions = published(
        parent_models=[{**DOCUMENT["parent_models"][0], "id": parent} for parent in ("users", "shops")],
        event_models=[
            {"id": model, "parent": parent, "type": "track", "foreign_key": "user_id", "timestamp": "timestamp"}
            for model, parent in (("a", "users"), ("b", "shops"), ("c", "users"))
        ],
        audiences=[
            {"id": f"{parent}_{model}", "parent": parent, "where": {"event": model, "within": "1m"}}
            for model, parent in (("a", "users"), ("b", "shops"), ("c", "users"))
        ],
    )
    machine = machine_of(definitions)
    result = machine.handle_batch(hits_of(definitions, event("any", "ann", "m1")), START_MS)
    assert result.outcomes.tolist() == [0, 0, 0]
    assert all(machine.is_member(audience, "ann") for audience in ("users_a", "users_c", "shops_b"))
    again = machine.handle_batch(hits_of(definitions, event("any", "ann", "m1")), START_MS)
    assert again.outcomes.tolist() == [1, 1, 1]


def test_what_is_loaded_after_its_windows_are_over_takes_no_room_and_counts_all_the_same() -> None:
    """The longest window is a minute; an event stays an id, and keeps its user in the universe for an hour."""
    none = {"id": "none", "parent": "users", "where": {"not": {"event": "order", "within": "1s"}}}
    definitions = published(audiences=[*DOCUMENT["audiences"], none])
    machine = EvaluatorMachine(definitions, seed=7)
    hits = hits_of(definitions, event("order", "ann", "m1", channel="web"), event("order", "ben", "m2"))
    old = hits.set_column(3, "clock_ms", pa.array([START_MS, START_MS + 1], pa.int64()))
    machine.load([old], {}, START_MS + 60_000)
    assert machine.counters()["blocks"] == 1, "ben's may still count for one ms"
    assert machine.counters()["alive"] == 2
    assert [machine.is_member(audience, "ann") for audience in ("quiet", "none")] == [True, True]
    assert machine.handle_batch(hits, START_MS + 60_000).outcomes.tolist() == [1, 1]
    machine.tick(START_MS + 3_600_000)
    assert machine.counters()["alive"] == 1


def test_the_room_of_users_who_came_once_is_given_back() -> None:
    definitions = published()
    machine = machine_of(definitions)
    base = machine.counters()["state_bytes"]
    count = compacting.DEPARTED_USERS_MIN + 5_000
    hits = hits_of(definitions, event("order", "x", channel="web"))
    for start in range(0, count, 8_192):
        keys = [f"once_{i}" for i in range(start, min(count, start + 8_192))]
        batch = pa.concat_batches([hits] * len(keys))
        batch = batch.set_column(0, "row", pa.array(range(len(keys)), pa.int32()))
        batch = batch.set_column(2, "key", pa.array(keys, pa.string()))
        batch = batch.set_column(6, "message_id", pa.array(keys, pa.string()))
        machine.handle_batch(batch, START_MS)
    machine.handle_batch(hits_of(definitions, event("order", "late", "m1", channel="web")), START_MS + 3_599_000)
    assert machine.counters()["state_bytes"] > 10 * base
    assert not machine.compact(), "all are in the universe yet"
    machine.tick(START_MS + 3_600_000)
    assert not machine.compact(), "the numbering of this instant needs them"
    machine.tick(START_MS + 3_600_001)
    machine.take_touched()
    assert machine.compact()
    assert machine.counters()["users"] == 1
    assert base < machine.counters()["state_bytes"] < base + 1_000, "but for the one who is left"
    assert machine.is_member("hide_promo", "late")
    duplicate = machine.handle_batch(hits_of(definitions, event("order", "late", "m1")), START_MS + 3_600_002)
    assert duplicate.outcomes.tolist() == [1]
    exits = machine.transitions_table(machine.tick(START_MS + 3_604_000)).to_pylist()
    assert [(row["audience_id"], row["user_id"], row["at"] - START_MS) for row in exits] == [
        ("hide_promo", "late", 3_604_000)
    ]


@pytest.mark.parametrize("n", [1, 3, 4, 5, 6])
def test_counts_hold_at_the_border_of_the_two_forms_of_a_ring(n: int) -> None:
    definitions = published(audiences=[
        {"id": "at_least", "parent": "users", "where": {"event": "view", "at_least": n, "within": "10s"}},
        {"id": "at_most", "parent": "users", "where": {"event": "view", "at_most": n, "within": "10s"}},
        {"id": "exactly", "parent": "users", "where": {"event": "view", "exactly": n, "within": "10s"}},
    ])
    machine = machine_of(definitions)

    def now() -> list[bool]:
        return [machine.is_member(name, "ann") for name in ("at_least", "at_most", "exactly")]

    for i in range(n + 2):
        machine.handle_batch(hits_of(definitions, event("view", "ann")), START_MS + i)
        count = i + 1
        assert now() == [count >= n, count <= n, count == n]
    for i in range(n + 2):
        machine.tick(START_MS + i + 10_000)
        count = n + 1 - i
        assert now() == [count >= n, count <= n, count == n]
