from __future__ import annotations

import pytest

from destinations.answers import SHORT_SCHEDULE_ATTEMPTS, retry_after_ms
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Permanent, Retry
from destinations.requests import NoResponse, Response
from destinations.webhook.response import judge_answer

NOW_MS = 1_764_518_400_000


def answer(status: int, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"", NOW_MS)


@pytest.mark.parametrize(("status", "kind"), [
    (200, Delivered), (204, Delivered), (299, Delivered), (301, Retry), (304, Retry), (400, Retry), (401, Credentials),
    (403, Credentials), (404, Retry), (408, Retry), (410, Gone), (413, Divide), (422, Retry), (429, Retry),
    (500, Retry), (503, Retry), (599, Retry),
])  # fmt: skip
def test_the_outcome_follows_the_status(status: int, kind: type[object]) -> None:
    assert type(judge_answer(answer(status))) is kind


def test_client_errors_have_a_short_schedule_and_throttling_has_not() -> None:
    assert judge_answer(answer(404)) == Retry("status 404", None, SHORT_SCHEDULE_ATTEMPTS)
    assert judge_answer(answer(429, retry_after="7")) == Retry("status 429", 7_000)


def test_no_answer_is_tried_again_on_the_whole_schedule() -> None:
    assert judge_answer(NoResponse("timeout", "no answer within 15000 ms")) == Retry(
        "timeout: no answer within 15000 ms"
    )


def test_the_endpoint_may_say_disable_or_abort() -> None:
    assert isinstance(judge_answer(answer(500, webhook_delivery="disable")), Gone)
    assert isinstance(judge_answer(answer(500, webhook_delivery="abort-message")), Permanent)


@pytest.mark.parametrize(("text", "after_ms"), [
    ("120", 120_000),
    ("0", 0),
    ("99999999999999", 86_400_000),
    ("Sun, 30 Nov 2025 16:00:30 GMT", 30_000),
    ("Sun, 30 Nov 2025 15:00:00 GMT", 0),
    ("Sun, 30 Nov 2025 16:00:30", 30_000),
    ("soon", None),
    ("-5", None),
    ("", None),
])  # fmt: skip
def test_retry_after_is_read_as_seconds_or_a_date(text: str, after_ms: int | None) -> None:
    assert retry_after_ms(answer(503, retry_after=text)) == after_ms
