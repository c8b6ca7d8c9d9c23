from __future__ import annotations

import random

from actors.delivery.concurrency import AdaptiveLimit, ConcurrencyScopes
from destinations.limits import ConcurrencyLimit


class Server:
    """Answers in `base_ms` up to `capacity` requests at once; beyond that each waits for the others."""

    def __init__(self, base_ms: float, capacity: int, *, refuses: bool = False) -> None:
        self.base_ms, self.capacity, self.refuses = base_ms, capacity, refuses

    def rounds(self, limit: AdaptiveLimit, count: int) -> list[int]:
        chance, now_ms, limits = random.Random(3), 0.0, []
        for _ in range(count):
            flying = limit.limit
            crowded = flying > self.capacity
            latency_ms = self.base_ms * max(1.0, flying / self.capacity) ** 2 * chance.uniform(0.95, 1.05)
            now_ms += latency_ms
            for index in range(flying):
                limit.answered(
                    latency_ms, refused=self.refuses and crowded and index == 0, in_flight=flying, now_ms=int(now_ms)
                )
            limits.append(limit.limit)
        return limits


def test_it_grows_to_its_bound_while_calm() -> None:
    assert Server(50, 1000).rounds(AdaptiveLimit(32), 100)[-1] == 32


def test_refusals_keep_it_around_what_the_destination_takes() -> None:
    limits = Server(50, 10, refuses=True).rounds(AdaptiveLimit(64), 400)[50:]

    assert min(limits) >= 5
    assert max(limits) <= 11


def test_refusals_that_come_together_cut_once() -> None:
    limit = AdaptiveLimit(16)
    for flying in (4, 3, 2, 1):
        limit.answered(5, refused=True, in_flight=flying, now_ms=100)

    assert limit.limit == 2


def test_a_rising_latency_keeps_it_from_its_bound() -> None:
    limits = Server(50, 10).rounds(AdaptiveLimit(64), 400)[50:]

    assert max(limits) < 30
    assert min(limits) >= 5


def test_who_does_not_use_it_up_does_not_raise_it() -> None:
    limit = AdaptiveLimit(32)
    for now_ms in range(0, 10_000, 50):
        limit.answered(50, refused=False, in_flight=1, now_ms=now_ms)

    assert limit.limit == 4


def test_it_never_falls_below_one_and_comes_back() -> None:
    limit = AdaptiveLimit(8)
    for now_ms in range(50):
        limit.answered(1, refused=True, in_flight=1, now_ms=now_ms)
    assert limit.limit == 1
    for now_ms in range(100, 200):
        limit.answered(1, refused=False, in_flight=limit.limit, now_ms=now_ms)
    assert limit.limit == 8


def test_a_scope_bounds_the_requests_of_all_its_syncs_and_wakes_who_waited() -> None:
    scopes, woken = ConcurrencyScopes(), []
    first, second = (
        scopes.shared(name, [ConcurrencyLimit("list", 1)], lambda name=name: woken.append(name)) for name in "ab"
    )
    assert first.free()
    first.take()
    assert not second.free()
    first.give_back()

    assert woken == ["b"]
    assert second.free()
