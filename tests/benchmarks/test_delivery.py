"""The `delivery` case: its log, its checks, which must see what is wrong, and a short run of each part."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks import bench_delivery
from benchmarks.arrivals import arrival_checks, in_order, read_arrivals
from benchmarks.delivery_backlog import catch_up
from benchmarks.delivery_core import WAYS, checks, run
from benchmarks.delivery_line import send
from benchmarks.membership import AUDIENCE, KINDS, Turns
from benchmarks.receiver import Delivery
from benchmarks.workloads import START_MS
from cluster.model.transitions import transition_id

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_users_change_in_turn_and_each_alternates() -> None:
    turns = Turns(5, 17)
    seqs, users, entered = turns.columns(0, 99)

    assert seqs.tolist() == list(range(1, 18))
    assert [sorted(users[start : start + 5]) for start in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert entered.tolist() == [True] * 5 + [False] * 5 + [True] * 5 + [False] * 2
    assert np.array_equal(turns.columns(7, 6)[1], users[7:13])
    assert not Turns(5, 5, leaving=True).columns(0, 5)[2].any()
    assert turns.packed(17, 5) == (b"", b"")


def requests(turns: Turns, size: int = 3) -> list[Delivery]:
    deliveries = []
    for start in range(0, turns.count, size):
        changes = []
        for seq, user, inside in zip(*turns.columns(start, size), strict=True):
            at_ms = START_MS + int(seq)
            at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            id_ = transition_id(AUDIENCE, 1, f"user_{user}", at_ms, 0)
            changes.append({"transition_id": id_, "user_id": f"user_{user}", "kind": KINDS[int(inside)], "at": at})
        head = f"POST /hook HTTP/1.1\r\nwebhook-id: {start}\r\n".encode()
        deliveries.append(Delivery(start * 1_000_000, 0.0, head, json.dumps({"changes": changes}).encode()))
    return deliveries


def passed(deliveries: list[Delivery], turns: Turns) -> list[bool]:
    # Nothing is signed here: that is what bench_latency's tests look at.
    arrivals = replace(read_arrivals(deliveries, SECRET), unsigned=0)
    return [check.passed for check in arrival_checks("sync", arrivals, turns)]


def test_a_log_that_arrived_passes_and_what_is_wrong_is_seen() -> None:
    turns = Turns(6, 24)
    good = requests(turns)

    assert passed([*good, good[2]], turns) == [True] * 4  # a repeat under its id
    assert passed(good[:-1], turns)[0] is False
    assert passed([*good, replace(good[2], head=b"x\r\nwebhook-id: again\r\n")], turns)[0] is False
    assert passed([*good[4:], *good[:4]], turns)[2] is False
    assert passed([*good, replace(good[2], body=good[3].body)], turns)[3] is False
    other = good[0].body.replace(b"entered", b"exited")
    assert passed([replace(good[0], body=other), *good[1:]], turns)[1] is False
    assert read_arrivals(good, SECRET).unsigned == len(good)
    assert read_arrivals(good, SECRET).per_s == pytest.approx(1_000)


def test_order_is_each_users_own() -> None:
    assert in_order(np.array([1, 2, 1, 2]), np.array([5, 1, 6, 2]))
    assert not in_order(np.array([1, 2, 1, 2]), np.array([5, 2, 6, 1]))


def test_every_way_through_the_core_sends_what_was_logged() -> None:
    found = checks(200, 1_400)
    assert [check for check in found if not check.passed] == []
    assert len(found) == 10


def test_parts_of_the_core_are_timed_apart() -> None:
    spent = run(WAYS[0], Turns(500, 2_000), timed=True).spent
    assert set(spent.us_each()) == {"reading", "machine", "records", "batches"}
    assert spent.per_s() > 0


def test_memory_counts_from_the_first_tenth_on() -> None:
    assert bench_delivery.memory_growth([(0.0, 100), (0.1, 200), (0.5, 230), (1.0, 210)]) == 1.15
    assert bench_delivery.memory_growth([(0.0, 100)]) is None


def test_the_whole_case_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CORE_CHANGES_QUICK": 2_000, "CORE_USERS_QUICK": 2_000, "LINE_CHANGES_QUICK": 3_000, "LINE_USERS_QUICK": 1_000,
        "EXIT_USERS_QUICK": 1_000, "ROOM_USERS_QUICK": 2_000,
    }.items():  # fmt: skip
        monkeypatch.setattr(bench_delivery, name, value)
    monkeypatch.setattr(bench_delivery, "_apart", send)  # a process less each
    monkeypatch.setattr(bench_delivery, "_backlog", lambda quick, step: catch_up(6_000, 5, 50, 0.2))
    result = bench_delivery.measure(True, lambda text: None)

    assert [check for check in result.checks if not check.passed] == []
    assert all(figure.value for figure in result.figures)
    assert [plot.name for plot in result.plots] == ["drain"]
