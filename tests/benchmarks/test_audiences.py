"""The workload of `audiences`: what concerns an event is alike at every size, so that only the size is compared."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from benchmarks.bench_audiences import BASE, Sized, named, plausible
from benchmarks.campaigns import COLUMNS, LEAVES_A_PAIR, REACH, campaign_batches, campaigns
from benchmarks.core import published_of, same_as_plain, snapshot_of
from benchmarks.crowd import event_leaves
from benchmarks.workloads import START_MS
from cluster.definitions.model import PropertyTest, Within


def counts_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    wheres = [audience["where"] for audience in document["audiences"]]
    return [where["all"][0] if "all" in where else where for where in wheres]


@pytest.mark.parametrize(("audiences", "leaves", "pairs"), [(1, 1, 1), (10, 8, 1), (100, 80, 8), (1_000, 800, 80)])
def test_an_event_selects_as_many_leaves_however_many_audiences_there_are(
    audiences: int, leaves: int, pairs: int
) -> None:
    workload = campaigns(audiences)
    assert (workload.leaves, workload.pairs) == (leaves, pairs)
    found = event_leaves(published_of(workload.document).definitions)
    per_pair: Counter[object] = Counter()
    for leaf in found:
        assert isinstance(leaf.where, PropertyTest)
        assert isinstance(leaf.window, Within)
        assert 60_000 <= leaf.window.duration_ms <= 300_000
        per_pair[leaf.event, leaf.where.test.operand] += 1
    assert len(per_pair) == pairs
    # Two drawn alike are one leaf: a few less than counts.
    assert leaves * 0.98 <= len(found) <= leaves
    assert max(per_pair.values()) == min(leaves, LEAVES_A_PAIR)


def test_half_the_audiences_have_a_trait_and_a_fifth_share_their_count() -> None:
    document = campaigns(1_000).document
    assert sum("all" in audience["where"] for audience in document["audiences"]) == 500
    shared = Counter(repr(count) for count in counts_of(document))
    assert sum(times - 1 for times in shared.values()) >= 200
    assert {count["at_least"] for count in counts_of(document)} == {1, 2, 3}


@pytest.mark.parametrize("audiences", [10, 100, 1_000])
def test_a_user_meets_as_many_campaigns_and_all_are_met_alike(audiences: int) -> None:
    workload = campaigns(audiences)
    batches = list(campaign_batches(workload, users=100, events=20_000, events_per_second=50))
    assert sum(batch.num_rows for batch in batches) == 20_000
    met: dict[str, set[tuple[int, str]]] = {}
    pairs: Counter[tuple[int, str]] = Counter()
    for batch in batches:
        columns = (batch.column(name).to_pylist() for name in ("key", "model", "c0"))
        for key, model, value in zip(*columns, strict=True):
            met.setdefault(key, set()).add((model, value))
            pairs[model, value] += 1
    assert {len(one) for one in met.values()} == {min(REACH, workload.pairs)}
    assert len(pairs) == workload.pairs
    if workload.pairs <= REACH:
        assert max(pairs.values()) < 1.2 * min(pairs.values())


def test_events_come_in_order_of_time_at_their_rate_and_again_the_same() -> None:
    workload = campaigns(100)

    def clocks() -> np.ndarray:
        batches = campaign_batches(workload, users=100, events=10_000, events_per_second=50)
        return np.concatenate([np.asarray(batch.column("clock_ms")) for batch in batches])

    first = clocks()
    assert (np.diff(first) >= 0).all()
    assert first[0] >= START_MS
    assert first[-1] - START_MS == pytest.approx(200_000, rel=0.01)
    assert (first == clocks()).all()


def test_the_engine_agrees_with_plain_python_and_a_wrong_answer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = campaigns(40)
    published = published_of(workload.document)
    snapshot = snapshot_of(50, np.random.default_rng(1))
    batches = list(campaign_batches(workload, users=50, events=2_000, events_per_second=2))
    good = same_as_plain("a sample", published, snapshot, batches, COLUMNS)
    assert good.passed, good.detail
    assert not good.detail.startswith("0 ")
    # it forgets all exits by time
    monkeypatch.setattr("benchmarks.core.PlainEvaluator._advance", lambda self, until: None)
    assert not same_as_plain("a sample", published, snapshot, batches, COLUMNS).passed


def sized(audiences: int, transitions: int) -> Sized:
    workload = campaigns(BASE)
    batches = list(campaign_batches(workload, users=10, events=100, events_per_second=1))
    return Sized(audiences, workload, published_of(workload.document), batches, 0.0, [1.0], [transitions])


def test_other_transitions_an_event_than_the_base_are_not_plausible() -> None:
    assert plausible(None, []) == []
    assert plausible(sized(BASE, 600), []) == []
    assert plausible(sized(BASE, 600), [sized(1_000, 630), sized(10_000, 570)])[0].passed
    assert not plausible(sized(BASE, 600), [sized(1_000, 630), sized(10_000, 500)])[0].passed
    assert (named(1), named(10_000)) == ("1 audience", "10,000 audiences")
