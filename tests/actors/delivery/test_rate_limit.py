from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.delivery.rate_limit import Bucket, Limiter, RateScopes
from destinations.limits import RateLimit


def limit(amount: float, per_ms: int = 1000, **more: object) -> RateLimit:
    return RateLimit("scope", amount, per_ms, **more)  # type: ignore[arg-type]


def taken(limiter: Limiter, now_ms: int, records: int = 1) -> bool:
    if limiter.wait_ms(records, now_ms):
        return False
    limiter.take(records, now_ms)
    return True


def drained(limiter: Limiter, until_ms: int, records: int = 1) -> list[int]:
    """When requests go if there is always one more, woken exactly when told to."""
    now_ms, times = 0, []
    while now_ms < until_ms:
        wait_ms = limiter.wait_ms(records, now_ms)
        if wait_ms:
            now_ms += wait_ms
        else:
            limiter.take(records, now_ms)
            times.append(now_ms)
    return times


def test_no_limit_never_waits() -> None:
    assert all(taken(Limiter("a"), 0) for _ in range(1000))


def test_a_turn_comes_exactly_when_the_wait_is_over() -> None:
    limiter = RateScopes().limiter("a", [limit(2)])

    assert taken(limiter, 1000)
    assert limiter.wait_ms(1, 1000) == 500
    assert not taken(limiter, 1499)
    assert taken(limiter, 1500)


def test_time_that_goes_back_gives_nothing_and_blocks_nobody_for_long() -> None:
    limiter = RateScopes().limiter("a", [limit(1)])

    assert taken(limiter, 5_000_000)
    assert not taken(limiter, 0)
    assert taken(limiter, 1010)


@given(amount=st.floats(0.5, 500), steps=st.lists(st.integers(0, 300), max_size=60))
def test_no_period_sees_more_than_the_amount(amount: float, steps: list[int]) -> None:
    limiter = RateScopes().limiter("a", [limit(amount)])
    now_ms, times = 0, []
    for step in steps:
        now_ms += step
        while taken(limiter, now_ms):
            times.append(now_ms)

    for start in times:
        assert sum(start <= at < start + 1000 for at in times) <= max(1, -(-amount // 1))


@pytest.mark.parametrize(
    ("amount", "per_ms", "records"),
    [(3, 1000, 1), (30, 60_000, 1), (500, 1000, 1), (250_000, 3_600_000, 1), (0.5, 1000, 1), (6_000, 60_000, 7)],
)
def test_over_a_minute_or_longer_a_limit_is_used_up_to_two_percent(amount: float, per_ms: int, records: int) -> None:
    counts = "records" if records > 1 else "requests"
    limiter = RateScopes().limiter("a", [limit(amount, per_ms, counts=counts)])
    over_ms = max(60_000, per_ms) * 2

    total = len(drained(limiter, over_ms, records)) * records
    assert 0.98 <= total / (amount / per_ms * over_ms) <= 1.02


def test_a_timer_that_comes_late_costs_no_throughput() -> None:
    limiter = RateScopes().limiter("a", [limit(10)])
    now_ms, count = 0, 0
    while now_ms < 60_000:
        wait_ms = limiter.wait_ms(1, now_ms)
        now_ms += wait_ms + 7 if wait_ms else 0
        if not wait_ms:
            limiter.take(1, now_ms)
            count += 1

    assert 588 <= count <= 612


def test_what_costs_more_than_the_bucket_holds_goes_and_is_paid_afterwards() -> None:
    limiter = RateScopes().limiter("a", [limit(1_000, counts="records")])

    assert taken(limiter, 0, 500)
    assert limiter.wait_ms(500, 0) == 500


@given(amount=st.integers(1, 50), way_ms=st.lists(st.integers(0, 10), min_size=10, max_size=10))
def test_a_destination_that_counts_sees_no_more_though_requests_come_nearer_on_their_way(
    amount: int, way_ms: list[int]
) -> None:
    went = drained(RateScopes().limiter("a", [limit(amount)]), 20_000)
    came = sorted(when + way_ms[index % len(way_ms)] for index, when in enumerate(went))

    assert all(later - earlier >= 1000 for earlier, later in zip(came, came[amount:], strict=False))
    assert len(went) >= 0.98 * 20 * amount


@given(steps=st.lists(st.integers(1, 900), min_size=5, max_size=60))
def test_who_comes_late_makes_up_for_it_within_the_period(steps: list[int]) -> None:
    limiter = RateScopes().limiter("a", [limit(20)])
    now_ms, went = 0, []
    for step in steps:
        while taken(limiter, now_ms):
            went.append(now_ms)
        now_ms += step

    assert all(later - earlier >= 1000 for earlier, later in zip(went, went[20:], strict=False))
    # However late each time, at most one period's part is lost.
    assert len(went) >= 20 * (now_ms // (1010 + max(steps)))


def test_who_had_nothing_ready_for_a_moment_makes_up_for_it() -> None:
    limiter = RateScopes().limiter("a", [limit(20)])
    went = drained(limiter, 2_000)
    limiter.leave()
    later = [now_ms for now_ms in range(2_600, 4_000) if taken(limiter, now_ms)]

    # 600 ms without a request: what they allowed goes as fast as it is asked for.
    assert later[:10] == list(range(2_600, 2_610))
    times = went + later
    assert all(later - earlier >= 1010 for earlier, later in zip(times, times[20:], strict=False))


def test_a_burst_that_a_limit_states_is_not_exceeded_after_a_moment_without_requests() -> None:
    limiter = RateScopes().limiter("a", [limit(20, burst=3)])
    drained(limiter, 2_000)
    limiter.leave()

    assert sum(taken(limiter, 2_900) for _ in range(20)) == 3


def test_a_quiet_time_allows_no_more_than_the_burst() -> None:
    limiter = RateScopes().limiter("a", [limit(20)])
    while taken(limiter, 0):
        pass
    limiter.leave()

    assert [taken(limiter, 5_000) for _ in range(4)] == [True, True, False, False]


def test_a_request_fits_every_limit_and_waits_for_the_slowest() -> None:
    limiter = RateScopes().limiter("a", [limit(100), RateLimit("account", 1, 10_000)])

    assert taken(limiter, 0)
    assert limiter.wait_ms(1, 0) == 10_100


def test_syncs_of_a_scope_share_it_in_turn_whoever_asks_oftener() -> None:
    scopes = RateScopes()
    syncs = [scopes.limiter(f"sync {number}", [limit(10)]) for number in range(3)]
    served = [0, 0, 0]
    for now_ms in range(0, 60_000):
        for index in (0, 0, 0, 1, 2, 0):
            if taken(syncs[index], now_ms):
                served[index] += 1

    assert 588 <= sum(served) <= 612
    assert max(served) - min(served) <= 6


def test_who_waits_and_never_comes_loses_its_place() -> None:
    scopes = RateScopes()
    gone, here = scopes.limiter("gone", [limit(1)]), scopes.limiter("here", [limit(1)])
    assert taken(here, 0)
    assert not taken(gone, 0)
    assert not taken(here, 1_000)
    assert taken(here, 2_010)

    assert not taken(gone, 2_010)
    gone.leave()
    assert taken(here, 3_020)


def test_a_changed_amount_goes_on_with_what_was_counted() -> None:
    scopes = RateScopes()
    assert taken(scopes.limiter("a", [limit(1)]), 0)
    faster = scopes.limiter("a", [limit(2)])

    assert faster.wait_ms(1, 0) > 0


def test_quiet_holds_the_scope() -> None:
    bucket = Bucket(limit(100))
    bucket.quiet(700)

    assert bucket.wait_ms("a", 1, 100) == 600


def test_owners_that_differ_on_a_limit_have_the_strictest_until_it_is_gone() -> None:
    scopes = RateScopes()
    loose, strict = scopes.limiter("loose", [limit(20)]), scopes.limiter("strict", [limit(2)])
    assert len(drained(loose, 10_000)) <= 21
    again = scopes.limiter("loose", [limit(20)])
    assert again.wait_ms(1, 10_000) > 0, "what was taken still counts"
    assert strict.wait_ms(1, 10_000) > 0
    scopes.forget("strict")
    times = [now_ms for now_ms in range(12_000, 14_000) if taken(again, now_ms)]
    assert len(times) >= 35
    scopes.limiter("loose", [limit(5)])
    assert len([now_ms for now_ms in range(20_000, 24_000) if taken(again, now_ms)]) <= 21
    scopes.forget("loose")
    scopes.forget("nobody")
    assert scopes._buckets == {}
