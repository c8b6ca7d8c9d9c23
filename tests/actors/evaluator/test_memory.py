"""What users cost: bounded by the leaves, given back when windows have passed, no slower for being many events."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.evaluator import compacting
from actors.evaluator.machine import EvaluatorMachine
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish

START_MS = 1_795_392_000_000
WEB = {"property": "channel", "eq": "web"}
#: One audience of each kind of leaf; the longest window is ten minutes.
KINDS: dict[str, Any] = {
    "count": {"event": "view", "at_least": 3, "within": "1m"},
    "many": {"event": "view", "at_least": 500, "within": "10m"},
    "late": {"event": "view", "between_ago": ["10s", "10m"]},
    "today": {"event": "view", "this": "day", "tz": "Europe/Berlin"},
    "sum": {"event": "view", "sum": "amount", "gt": 50, "within": "5m"},
    "late_sum": {"event": "view", "sum": "amount", "lt": 50, "between_ago": ["10s", "5m"]},
    "distinct": {"event": "view", "distinct": "channel", "gte": 2, "within": "5m"},
    "sequence": {"sequence": [{"event": "view"}, {"event": "view", "where": WEB}], "within": "5m"},
    "abandoned": {"event": "view", "where": WEB, "within": "5m", "after": "1s",
                  "not_followed_by": {"event": "order"}},
}  # fmt: skip


def defined(kinds: dict[str, Any]) -> Published:
    columns = {"channel": {"path": "properties.channel", "type": "string"},
               "amount": {"path": "properties.amount", "type": "number"}}  # fmt: skip
    model = {"parent": "users", "type": "track", "foreign_key": "user_id", "retention": "10m", "columns": columns}
    document = {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id"}],
        "event_models": [{**model, "id": name, "event": name} for name in ("view", "order")],
        "audiences": [{"id": kind, "parent": "users", "where": where} for kind, where in kinds.items()],
    }
    return publish(None, parse_document(document, "memory", {}))


@pytest.mark.parametrize("value", [1e19, 1e300, -1e300])
@pytest.mark.parametrize("comparison", ["gt", "gte", "lt", "lte", "eq"])
def test_a_count_that_is_never_reached_is_as_infinity(comparison: str, value: float) -> None:
    distinct = {"event": "view", "distinct": "channel", comparison: value, "within": "1m"}
    machine = EvaluatorMachine(defined({"d": distinct}))
    machine.handle_batch(views(["u", "u"], np.array([START_MS, START_MS])), 0)
    assert machine.is_member("d", "u") is (comparison in (("lt", "lte") if value > 0 else ("gt", "gte")))


def views(users: list[str], clocks: np.ndarray, times: np.ndarray | None = None) -> pa.RecordBatch:
    count = len(users)
    channels = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(count, dtype=np.int32) % 2), pa.array(["web", "app"])
    )
    return pa.RecordBatch.from_pydict({
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "model": pa.array(np.zeros(count, np.int16)),
        "key": pa.array(users),
        "clock_ms": pa.array(clocks),
        "ts_ms": pa.array(clocks if times is None else times),
        "ts_relative": pa.array(np.zeros(count, np.bool_)),
        "message_id": pa.nulls(count, pa.string()),
        "source": pa.array(np.full(count, -1, np.int16)),
        "c0": channels,
        "c1": pa.array(np.ones(count)),
    })  # fmt: skip


def test_memory_for_windows_is_back_at_its_base_when_the_longest_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "DEPARTED_USERS_MIN", 100)
    monkeypatch.setattr(compacting, "FREE_WORDS_MIN", 1 << 12)
    machine = EvaluatorMachine(defined(KINDS))
    machine.handle_batch(views(["first"], np.array([START_MS])), 0)
    base = machine.counters()["state_bytes"]
    rng = np.random.default_rng(3)
    clocks = START_MS + np.sort(rng.integers(0, 600_000, 60_000))
    machine.handle_batch(views([f"u{i}" for i in rng.integers(0, 5_000, 60_000)], clocks), 0)
    assert machine.counters()["blocks"] >= 5_000
    assert machine.counters()["state_bytes"] > 2 * base
    machine.tick(START_MS + 25 * 3_600_000)
    counters = machine.counters()
    assert (counters["blocks"], counters["window_words"], counters["timers"], counters["alive"]) == (0, 0, 0, 0)
    machine.tick(START_MS + 25 * 3_600_000 + 1)
    assert machine.compact()
    assert machine.counters()["state_bytes"] <= base


@pytest.mark.parametrize("kind", ["count", "many", "today", "distinct"])
def test_leaves_that_keep_n_do_not_grow_with_the_events_of_a_user(kind: str) -> None:
    machine = EvaluatorMachine(defined({kind: KINDS[kind]}))
    sizes = []
    for part in range(20):
        machine.handle_batch(views(["u"] * 10_000, START_MS + part * 10_000 + np.arange(10_000)), 0)
        sizes.append(machine.counters()["window_words"])
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("late_ms", [0, 40])
def test_an_event_costs_no_more_for_the_events_before_it(kind: str, late_ms: int) -> None:
    """One user sends all of them, none leaves its window; some come late by a few places."""
    machine = EvaluatorMachine(defined({kind: KINDS[kind]}))
    rng = np.random.default_rng(5)
    took = []
    for part in range(30):
        clocks = START_MS + part * 5_000 + np.arange(10_000) // 2
        batch = views(["u"] * 10_000, clocks, clocks - rng.integers(0, late_ms + 1, 10_000))
        began = time.thread_time()
        machine.handle_batch(batch, 0)
        took.append(time.thread_time() - began)
    assert statistics.median(took[-6:]) < 5 * statistics.median(took[3:9]) + 0.002


def test_a_wave_in_slices_makes_the_transitions_of_one_in_one_piece() -> None:
    """Half are due in one ms, half within a second; some of them have events while others wait."""
    first = np.concatenate([np.full(600, START_MS), START_MS + np.arange(600)])
    users = [f"u{i}" for i in range(1_200)]
    again = views(users[100:1_100:7], np.full(143, START_MS + 60_300))
    histories = []
    for wave_users in (None, 25):
        machine = EvaluatorMachine(defined(KINDS))
        tables = [machine.transitions_table(machine.handle_batch(views(users, np.sort(first)), 0).transitions)]
        now = START_MS + 60_300
        tables.append(machine.transitions_table(machine.tick(now, wave_users)))
        assert machine.behind == (wave_users is not None)
        result = machine.handle_batch(again, now, wave_users=wave_users)
        tables.append(machine.transitions_table(result.transitions))
        for later in (START_MS + 60_900, START_MS + 120_900):
            turns = 0
            while turns == 0 or machine.behind:
                tables.append(machine.transitions_table(machine.tick(later, wave_users)))
                assert wave_users is None or machine.wave_work <= wave_users
                turns += 1
        histories.append(sorted(str(row) for table in tables for row in table.to_pylist()))
    assert len(histories[0]) > 2_400
    assert histories[1] == histories[0]


def test_who_is_asked_for_in_the_middle_of_a_wave_is_up_to_date() -> None:
    machine = EvaluatorMachine(defined({"count": {"event": "view", "within": "1m"}}))
    users = [f"u{i}" for i in range(500)]
    machine.handle_batch(views(users, np.full(500, START_MS)), 0)
    machine.tick(START_MS + 60_000, wave_users=100)
    assert machine.behind
    waiting = next(user for user in users if machine.is_member("count", user))
    (change,) = machine.transitions_table(machine.settle_users("users", [waiting], machine.clock_ms)).to_pylist()
    assert (change["user_id"], change["kind"], change["at"]) == (waiting, "exited", START_MS + 60_000)
    assert not machine.is_member("count", waiting)
