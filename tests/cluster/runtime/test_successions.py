"""Who is silent for too long is replaced, once; who starts, lets go or only seems slow is not."""

from __future__ import annotations

import msgspec

from cluster.leases.machine import Lease
from cluster.runtime.successions import Successions

GRACE_MS = 3_000
LEASE = Lease(1, "a", "one", 5_000)


def test_a_lease_that_does_not_change_for_its_term_and_the_grace_is_replaced_once() -> None:
    successions = Successions(GRACE_MS)
    assert not successions.looked(0, LEASE, 1_000)
    assert not successions.looked(0, LEASE, 8_999)
    assert successions.looked(0, LEASE, 9_000)
    assert successions.term(0) == 1
    for now in range(9_000, 200_000, 1_000):
        assert not successions.looked(0, LEASE, now), "its successor may take long to start"
    successor = Lease(2, "b", "two", 5_000)
    assert not successions.looked(0, successor, 200_000)
    assert not successions.looked(0, successor, 207_999)
    assert successions.looked(0, successor, 208_000)
    assert (successions.term(0), successions.term(1)) == (2, 0)


def test_who_renews_starts_or_has_let_go_is_not_replaced() -> None:
    successions = Successions(GRACE_MS)
    for beat in range(100):
        assert not successions.looked(0, msgspec.structs.replace(LEASE, beat=beat), beat * 7_900)
        assert not successions.looked(1, None, beat * 7_900)
        assert not successions.looked(2, msgspec.structs.replace(LEASE, released=True), beat * 7_900)
    assert successions.terms == {}


def test_evaluators_are_judged_apart_and_forgotten() -> None:
    successions = Successions(GRACE_MS)
    for index in (0, 1):
        successions.looked(index, LEASE, 0)
    assert not successions.looked(1, msgspec.structs.replace(LEASE, beat=1), 7_000)
    assert successions.looked(0, LEASE, 8_000)
    assert not successions.looked(1, msgspec.structs.replace(LEASE, beat=1), 8_000)
    successions.forget(0)
    assert successions.term(0) == 0
