"""Meta's error envelope: what its codes mean, and how long its usage headers ask to wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from destinations.answers import SHORT_SCHEDULE_ATTEMPTS, json_object, plain_failure
from destinations.outcomes import Credentials, Divide, Failure, Gone, Permanent, Retry
from destinations.requests import Answer, Response

#: Codes by what they mean (the marketing API's error and rate-limiting references).
THROTTLED: Final = frozenset({4, 17, 32, 341, 613, *range(80000, 80015)})
TRANSIENT: Final = frozenset({1, 2, 368, 5000, 21009})
TOKEN: Final = frozenset({102, 190})
PERMISSION: Final = frozenset({3, 10, *range(200, 300)})
#: The account's or the audience's owner must act: terms not accepted, audience not shared, upload blocked.
OWNER: Final = {
    2655: "the ad account has not accepted the Custom Audience terms",
    1487301: "the audience is not shared",
}
DELETED: Final = 1487366
BAD_PARAMETER: Final = 100
MISSING_OBJECT_SUBCODE: Final = 33
BLOCKED_UPLOAD_SUBCODE: Final = 1713230

#: From here on (percent of a limit) requests are spaced out.
SLOW_FROM_PERCENT: Final = 75
SLOWEST_MS: Final = 60_000
#: How long a throttled caller is blocked where no header says: the limited tier's block of the account.
BLOCKED_MS: Final = 300_000
BLOCKED_MAX_MS: Final = 24 * 3_600_000


def failure_of(answer: Answer) -> Failure | None:
    """Give what an answer means for all of its records; None where Meta took the request."""
    body = json_object(answer)
    error = (body or {}).get("error")
    if isinstance(answer, Response) and isinstance(error, dict) and _code(error, "code") is not None:
        return _of_error(answer, error)
    failure = plain_failure(answer)
    if failure is None and body is None:
        return Retry("the answer is not JSON")
    if failure is None and error is not None:
        return Retry("an error that cannot be read", attempts_max=SHORT_SCHEDULE_ATTEMPTS)
    return failure


def quiet_ms(answer: Answer) -> int:
    """Give how long the usage headers ask everybody under the account to pause; 0 below three quarters of a limit."""
    if not isinstance(answer, Response):
        return 0
    worst = max(_percents(answer), default=0.0)
    if worst < SLOW_FROM_PERCENT:
        return 0
    share = min(1.0, (worst - SLOW_FROM_PERCENT) / (100 - SLOW_FROM_PERCENT))
    return max(_regain_ms(answer), int(SLOWEST_MS * share))


def trace_id(answer: Answer) -> str:
    """Give Meta's own name for a request."""
    if not isinstance(answer, Response):
        return ""
    return answer.headers.get("x-fb-trace-id") or answer.headers.get("x-fb-request-id") or ""


def _of_error(answer: Response, error: dict[str, Any]) -> Failure:
    code, subcode = _code(error, "code"), _code(error, "error_subcode")
    reason = f"code {code}" + (f", subcode {subcode}" if subcode else "")
    if code in THROTTLED:
        return Retry(f"{reason}: throttled", _regain_ms(answer) or BLOCKED_MS)
    if code in TOKEN:
        return Credentials(f"{reason}: the access token is not valid")
    if code in PERMISSION:
        return Credentials(f"{reason}: the access token lacks a permission")
    if code in OWNER:
        return Credentials(f"{reason}: {OWNER[code]}")
    if code == DELETED or (code == BAD_PARAMETER and subcode == MISSING_OBJECT_SUBCODE):
        return Gone(f"{reason}: the custom audience is gone, or this token may not see it; a resync fills a new one")
    if subcode == BLOCKED_UPLOAD_SUBCODE:
        return Credentials(f"{reason}: Meta blocks uploads to this audience")
    if code in TRANSIENT or error.get("is_transient") is True or answer.status >= 500 or answer.status == 429:
        return Retry(reason)
    if answer.status == 401:
        return Credentials(reason)
    if code == BAD_PARAMETER:
        return Divide(f"{reason}: Meta refuses the request's data")
    return Permanent(reason)


def _code(error: dict[str, Any], name: str) -> int | None:
    value = error.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _usages(answer: Response) -> Iterator[dict[str, Any]]:
    for name in ("x-business-use-case-usage", "x-ad-account-usage", "x-app-usage"):
        try:
            value = msgspec.json.decode(answer.headers.get(name, ""))
        except msgspec.DecodeError:
            continue
        if isinstance(value, dict):
            yield value
            for entries in value.values():
                if isinstance(entries, list):
                    yield from (entry for entry in entries if isinstance(entry, dict))


def _percents(answer: Response) -> Iterator[float]:
    for usage in _usages(answer):
        for name in ("call_count", "total_cputime", "total_time", "acc_id_util_pct"):
            value = usage.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield float(value)


def _regain_ms(answer: Response) -> int:
    minutes = [usage.get("estimated_time_to_regain_access") for usage in _usages(answer)]
    known = [value for value in minutes if isinstance(value, int | float) and not isinstance(value, bool)]
    return min(int(max(known, default=0) * 60_000), BLOCKED_MAX_MS)
