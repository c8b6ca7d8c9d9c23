from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.delivery.retries import backoff_ms, next_attempt_ms
from cluster.limits import RETRY_BASE_MS, RETRY_CAP_MS, RETRY_ELAPSED_MAX_MS
from destinations.outcomes import Retry


@given(attempts=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_a_pause_is_jittered_over_the_whole_exponential_range(attempts: int, jitter: float) -> None:
    pause_ms = backoff_ms(attempts, jitter)

    assert 1 <= pause_ms <= min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** (attempts - 1))


def test_pauses_double_up_to_the_cap() -> None:
    assert [backoff_ms(attempts, 0.5) for attempts in (1, 2, 3, 30)] == [500, 1000, 2000, RETRY_CAP_MS // 2]


def test_never_earlier_than_the_destination_asked() -> None:
    assert next_attempt_ms(Retry("503", 60_000), 1, 0, 0, 0.5) == 60_000


def test_given_up_after_the_outcomes_own_attempts() -> None:
    assert next_attempt_ms(Retry("404", None, 3), 2, 0, 0, 0.5) is not None
    assert next_attempt_ms(Retry("404", None, 3), 3, 0, 0, 0.5) is None


def test_given_up_when_the_next_attempt_would_be_after_the_last_moment() -> None:
    retry = Retry("503", 1_000)

    assert next_attempt_ms(retry, 1, 0, RETRY_ELAPSED_MAX_MS - 1_000, 0.0) == RETRY_ELAPSED_MAX_MS
    assert next_attempt_ms(retry, 1, 0, RETRY_ELAPSED_MAX_MS - 999, 0.0) is None
