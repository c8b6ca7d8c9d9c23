from __future__ import annotations

import pytest
from segment.analytics.request import MAX_RETRY_AFTER_SECONDS

from destinations.outcomes import Credentials, Delivered, Divide, Permanent, Retry
from destinations.requests import NoResponse, Response
from destinations.segment.response import RETRY_AFTER_MAX_MS, judge


def answer(status: int, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"", 1_000)


@pytest.mark.parametrize(("status", "kind"), [
    (200, Delivered), (400, Divide), (401, Credentials), (404, Permanent), (408, Retry), (410, Retry), (413, Divide),
    (429, Retry), (460, Retry), (500, Retry), (501, Retry), (503, Retry), (505, Retry),
])  # fmt: skip
def test_statuses(status: int, kind: type[object]) -> None:
    assert [type(outcome) for outcome in judge([True, True], answer(status)).outcomes] == [kind, kind]


def test_waits_are_those_that_segment_asks_for_up_to_five_minutes() -> None:
    assert judge([True], answer(429, retry_after="7")).outcomes == (Retry("status 429", 7_000),)
    assert judge([True], answer(429, x_ratelimit_reset="9")).outcomes == (Retry("status 429", 9_000),)
    assert judge([True], answer(429, retry_after="99999")).outcomes == (Retry("status 429", RETRY_AFTER_MAX_MS),)
    assert RETRY_AFTER_MAX_MS == MAX_RETRY_AFTER_SECONDS * 1000
    assert judge([True], answer(501)).outcomes == (Retry("status 501", attempts_max=5),)


def test_a_record_that_was_not_sent_is_refused_whatever_the_answer() -> None:
    for given in (answer(200), answer(503), NoResponse("timeout", "late")):
        assert isinstance(judge([False, True], given).outcomes[0], Permanent)
