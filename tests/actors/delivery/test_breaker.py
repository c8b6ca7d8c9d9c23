from __future__ import annotations

from actors.delivery.bounds import BREAKER_CAP_MS, BREAKER_FAILURES, BREAKER_FIRST_MS
from actors.delivery.breaker import NEVER, Breaker


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(BREAKER_FAILURES):
        assert breaker.closed
        breaker.failed(0, 0.0)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = opened()

    assert breaker.state == "open"
    assert breaker.ready_ms() == BREAKER_FIRST_MS // 2


def test_a_success_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(3 * BREAKER_FAILURES):
        breaker.failed(0, 0.5)
        breaker.succeeded()

    assert breaker.closed


def test_one_probe_at_a_time_and_its_answer_decides() -> None:
    breaker = opened()
    breaker.sent()
    assert breaker.state == "half_open"
    assert breaker.ready_ms() == NEVER
    breaker.failed(10_000, 0.0)
    assert breaker.ready_ms() == 10_000 + BREAKER_FIRST_MS

    breaker.sent()
    assert breaker.succeeded()
    assert breaker.closed


def test_late_failures_of_what_went_before_do_not_lengthen_the_pause() -> None:
    breaker = opened()
    breaker.failed(1_000, 0.0)

    assert breaker.ready_ms() == BREAKER_FIRST_MS // 2


def test_the_pause_is_capped() -> None:
    breaker = opened()
    for _ in range(60):
        breaker.sent()
        breaker.failed(0, 1.0)

    assert breaker.ready_ms() == BREAKER_CAP_MS
