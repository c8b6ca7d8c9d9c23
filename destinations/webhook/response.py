"""What a webhook's answer means (Standard Webhooks 1.0.0): any 2xx is success, everything else is not."""

from __future__ import annotations

from destinations.answers import SHORT_SCHEDULE_ATTEMPTS, retry_after_ms
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Outcome, Permanent, Retry
from destinations.requests import Answer, NoResponse


def judge_answer(answer: Answer) -> Outcome:
    """Give the outcome of every record of the request."""
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
        return Divide(f"{reason}: the body is too large")
    if 300 <= status < 400:
        return Retry(f"{reason}: redirects are not followed; set the final URL", retry_after_ms(answer))
    short = 400 <= status < 500 and status not in (408, 409, 425, 429)
    return Retry(reason, retry_after_ms(answer), SHORT_SCHEDULE_ATTEMPTS if short else None)
