"""What a webhook's answer means (Standard Webhooks 1.0.0): any 2xx is success, everything else is not."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from destinations.outcomes import Credentials, Delivered, Gone, Outcome, Permanent, Retry
from destinations.requests import Answer, NoResponse, Request, Response

#: Client errors that seldom mend themselves get a short schedule, then become dead letters.
SHORT_SCHEDULE_ATTEMPTS: Final = 5
#: No destination may hold a sync longer than this by Retry-After.
RETRY_AFTER_MAX_MS: Final = 24 * 3_600_000


def judge_answer(request: Request, answer: Answer) -> tuple[Outcome, ...]:
    """Give the same outcome for every record: a webhook takes a batch whole or not at all."""
    return (_judge(answer),) * request.record_count


def retry_after_ms(response: Response) -> int | None:
    """Give what `Retry-After` asks for (seconds or an HTTP date), cut to a day; None if absent or unreadable."""
    text = response.headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * 1000, RETRY_AFTER_MAX_MS)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(int(when.timestamp() * 1000) - response.received_ms, 0), RETRY_AFTER_MAX_MS)


def _judge(answer: Answer) -> Outcome:
    if isinstance(answer, NoResponse):
        return Retry(f"{answer.code}: {answer.message}")
    status = answer.status
    if 200 <= status < 300:
        return Delivered()
    reason = f"status {status}"
    control = answer.headers.get("webhook-delivery", "").strip().lower()
    if status == 410 or control == "disable":
        return Gone(f"{reason}: the endpoint says it is gone")
    if control == "abort-message":
        return Permanent(f"{reason}: the endpoint aborts this message")
    if status in (401, 403):
        return Credentials(f"{reason}: the endpoint refuses the request's credentials")
    if status == 413:
        return Permanent(f"{reason}: the body is too large; set a smaller batch_size")
    if 300 <= status < 400:
        return Retry(f"{reason}: redirects are not followed; set the final URL", retry_after_ms(answer))
    short = 400 <= status < 500 and status not in (408, 409, 425, 429)
    return Retry(reason, retry_after_ms(answer), SHORT_SCHEDULE_ATTEMPTS if short else None)
