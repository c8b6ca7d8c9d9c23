"""What every vendor's answers have in common: JSON bodies, Retry-After, and the plain meaning of a status."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from destinations.outcomes import Credentials, Divide, Failure, Permanent, Retry
from destinations.requests import Answer, NoResponse, Response

#: No destination may hold a sync longer than this by Retry-After.
RETRY_AFTER_MAX_MS: Final = 24 * 3_600_000
#: Client errors that seldom mend themselves get a short schedule, then become dead letters.
SHORT_SCHEDULE_ATTEMPTS: Final = 5


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


def json_object(answer: Answer) -> dict[str, Any] | None:
    """Give the body where it is a JSON object; None for anything else, HTML of a proxy included."""
    if not isinstance(answer, Response):
        return None
    try:
        value = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def plain_failure(answer: Answer) -> Failure | None:
    """Give what an answer means whose vendor says nothing special; None for any 2xx.

    No answer, 408, 425, 429 and 5xx: try again, as Retry-After says. 401 and 403: credentials. 413: both
    halves. 3xx and 409: a short schedule. Every other 4xx is permanent: the same bytes will not be taken later.
    """
    if isinstance(answer, NoResponse):
        return Retry(f"{answer.code}: {answer.message}")
    status = answer.status
    if 200 <= status < 300:
        return None
    reason = f"status {status}"
    if status in (401, 403):
        return Credentials(f"{reason}: the API refuses the request's credentials")
    if status >= 500 or status in (408, 425, 429):
        return Retry(reason, retry_after_ms(answer))
    if status < 400 or status == 409:
        return Retry(reason, retry_after_ms(answer), SHORT_SCHEDULE_ATTEMPTS)
    if status == 413:
        return Divide(f"{reason}: the request is too large")
    return Permanent(reason)
