"""The yardstick makes the engine's transitions, whatever the definitions of the workloads' kind and the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench_engine import (
    engine_rows,
    hit_batches,
    plain_events,
    plain_rows,
    published_of,
    run_engine,
    run_plain,
    snapshot_of,
)
from benchmarks.workloads import CHANNELS, START_MS, Workload, engine_document, engine_workload
from benchmarks.yardstick import PlainEvaluator
from benchmarks.yardstick_source import SLOT_MASK, Source, rule_of

USERS = ["ann", "bob"]
#: Below, at and above the span of a slot of the wheel; seconds, as documents say them.
WINDOWS_S = (1, 2, 5, 20)


def counts(at_least: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    wheres = st.none() | st.sampled_from(CHANNELS[:2]).map(lambda channel: {"property": "channel", "eq": channel}) \
        | st.sampled_from([10, 50]).map(lambda amount: {"property": "amount", "gte": amount})
    fields = {"event": st.sampled_from(["e0", "e1"]), "at_least": at_least,
              "within": st.sampled_from(WINDOWS_S).map(lambda seconds: f"{seconds}s"), "where": wheres}
    return st.fixed_dictionaries(fields).map(lambda node: {key: value for key, value in node.items() if value})


def conditions() -> st.SearchStrategy[dict[str, Any]]:
    parts = st.tuples(
        counts(st.integers(1, 3)),
        st.none() | counts(st.integers(1, 2)).map(lambda count: {"not": count}),
        st.none() | st.sampled_from([{"trait": "ltv", "gt": 100}, {"trait": "tier", "in": ["gold"]}]),
    )
    return parts.map(lambda nodes: {"all": [node for node in nodes if node]} if any(nodes[1:]) else nodes[0])


#: What an event is, and the ms since the one before: often none, often as long as a window or next to it.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, SLOT_MASK, SLOT_MASK + 1, 400, 999, 1_000, 1_001, 2_000, 3_333]),
        st.integers(0, 1), st.integers(0, 1), st.integers(0, 2), st.sampled_from([0, 10, 49, 50, 99]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


def workload_of(audiences: Sequence[dict[str, Any]], events: Sequence[tuple[int, int, int, int, int]]) -> Workload:
    document = engine_document(0, 2, np.random.default_rng(1))
    document["audiences"] = [{"id": f"a{i}", "parent": "users", "where": where} for i, where in enumerate(audiences)]
    gaps, users, models, channels, amounts = np.array(events).T
    return Workload(
        document=document,
        traits=pa.table({"user_id": USERS, "ltv": [50.0, 150.0], "tier": ["gold", "bronze"]}),
        clocks=START_MS + 1 + np.cumsum(gaps).astype(np.int64),
        users=users.astype(np.int32),
        models=models.astype(np.int16),
        channels=channels.astype(np.int8),
        amounts=amounts.astype(np.float64),
        user_names=USERS,
    )


def same(workload: Workload) -> bool:
    published = published_of(workload)
    engine = run_engine(published, snapshot_of(workload), hit_batches(workload))
    expected, events = engine_rows(workload, published, engine), plain_events(workload)
    found = [run_plain(workload, published, events, heap=heap)[1] for heap in (False, True)]
    return all(np.array_equal(plain_rows(workload, plain), expected) for plain in found)


@given(st.lists(conditions(), min_size=1, max_size=6), EVENTS)
@settings(max_examples=30, deadline=None)
def test_the_yardstick_makes_the_engines_transitions(
    audiences: list[dict[str, Any]], events: list[tuple[int, int, int, int, int]]
) -> None:
    assert same(workload_of(audiences, events))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_workload_of_the_figure_gives_the_same_at_any_seed(seed: int) -> None:
    assert same(engine_workload(users=300, events=6_000, events_per_second=40, seed=seed))


def test_events_may_come_in_any_cut_and_time_may_be_asked_for_between() -> None:
    workload = engine_workload(users=50, events=3_000, audiences=20, events_per_second=10)
    published, events = published_of(workload), plain_events(workload)
    _, whole = run_plain(workload, published, events)
    traits = {row.pop("user_id"): row for row in workload.traits.to_pylist()}
    cut = PlainEvaluator(published, traits, START_MS)
    for start in range(0, len(workload), 700):
        part = slice(start, start + 700)
        cut.run(events.clocks[part], events.users[part], events.models[part],
                {name: column[part] for name, column in events.columns.items()})
        cut.advance(events.clocks[part][-1])
    assert len(cut.transitions) > 500
    assert cut.transitions == whole.transitions


@pytest.mark.parametrize(
    "where",
    [
        {"any": [{"event": "e0", "at_least": 1, "within": "1m"}, {"trait": "ltv", "gt": 3}]},
        {"event": "e0", "at_most": 1, "within": "1m"},
        {"trait": "ltv", "gt": 3},
    ],
)
def test_what_it_cannot_evaluate_it_does_not_take(where: dict[str, Any]) -> None:
    published = published_of(workload_of([where], [(0, 0, 0, 0, 0)]))
    with pytest.raises(AssertionError):
        PlainEvaluator(published, {}, START_MS)


def test_nothing_of_a_filter_is_left_in_a_step() -> None:
    nodes = [{"event": "e0", "at_least": 1, "within": "5s", "where": {"property": "channel", "eq": "web"}}]
    definitions = published_of(workload_of(nodes, [(0, 0, 0, 0, 0)])).definitions
    source = Source([rule_of(0, definitions.audiences["a0"].where)], wheel_mask=15)
    assert source.step("step", source.kinds).splitlines()[1:] == [
        "  pass",
        "  u.t0_0 = t",
        "  if u.m0: u.m0 = 2",
        "  else:",
        "    e = t + 5000",
        "    u.m0 = 1",
        "    emit((t, 1, u))",
        "    wheel[e >> 8 & 15].extend((e & 255, u, lapse0))",
    ]
