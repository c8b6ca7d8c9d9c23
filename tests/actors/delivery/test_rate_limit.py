from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.delivery.rate_limit import TokenBucket


def test_no_rate_never_waits() -> None:
    bucket = TokenBucket(None)

    assert all(bucket.take(0) for _ in range(1000))
    assert bucket.wait_ms(0) == 0


def test_a_token_is_there_exactly_when_the_wait_is_over() -> None:
    bucket = TokenBucket(2.0)

    assert bucket.take(1000)
    assert bucket.wait_ms(1000) == 500
    assert not bucket.take(1499)
    assert bucket.take(1500)


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1.0)

    assert bucket.take(5000)
    assert not bucket.take(0)
    assert bucket.take(1000)


@given(rate=st.floats(0.5, 500), steps=st.lists(st.integers(0, 300), max_size=60))
def test_no_second_sees_more_than_the_rate_and_its_small_burst(rate: float, steps: list[int]) -> None:
    bucket = TokenBucket(rate)
    now_ms, taken = 0, []
    for step in steps:
        now_ms += step
        while bucket.take(now_ms):
            taken.append(now_ms)

    for start in taken:
        in_second = sum(start <= at < start + 1000 for at in taken)
        assert in_second <= rate + max(1.0, rate / 10) + 1
