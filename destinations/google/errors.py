"""Google's error model: status, reasons, and the members that violations name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from destinations.answers import json_object, plain_failure, retry_after_ms
from destinations.outcomes import Credentials, Divide, Failure, Gone, Retry
from destinations.requests import Answer, Response

#: The account, its terms or its lists must change before anything can be taken.
STOPPING: Final = frozenset({
    "TERMS_AND_CONDITIONS_NOT_SIGNED", "OPERATING_ACCOUNT_LOGIN_ACCOUNT_MISMATCH", "INVALID_USER_LIST_TYPE",
    "NOT_ALLOWLISTED", "EU_POLITICAL_ADVERTISING_DECLARATION_REQUIRED", "PERMISSION_DENIED", "INVALID_DESTINATION",
    "ADVERTISER_TOS_NOT_ACCEPTED", "DESTINATION_ACCOUNT_TYPE_MISMATCH", "MEMBERSHIP_DURATION_TOO_LONG",
    "UNSUPPORTED_INGESTED_USER_LIST_INFO_CONFIG", "USER_LIST_TYPE_NOT_SUPPORTED_FOR_ACCOUNT",
})  # fmt: skip
LIST_GONE: Final = "INVALID_USER_LIST_ID"
TOO_MANY: Final = "TOO_MANY_AUDIENCE_MEMBERS"
NAME_TAKEN: Final = "DISPLAY_NAME_ALREADY_USED"

#: Quotas by the minute come back within one; quotas by the day at midnight of the Pacific coast.
MINUTE_MS: Final = 60_000
_QUOTA_ZONE: Final = ZoneInfo("America/Los_Angeles")

_MEMBER: Final = re.compile(r"audience_?[mM]embers\[([0-9]{1,6})\]")
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{1,80}")


@dataclass(frozen=True, slots=True)
class ApiError:
    """What an error body says. `members` are reasons by the index of the member that they are about."""

    status: str
    reasons: frozenset[str]
    members: dict[int, str]
    quota: str
    request_id: str


def read_error(answer: Answer) -> ApiError:
    """Read an error body; what is not there is empty."""
    error = (json_object(answer) or {}).get("error")
    error = error if isinstance(error, dict) else {}
    details = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    reasons: set[str] = set()
    members: dict[int, str] = {}
    for violation in _violations(details):
        reason = _reason(violation.get("reason"))
        match = _MEMBER.match(violation["field"]) if isinstance(violation.get("field"), str) else None
        if match is not None:
            members.setdefault(int(match[1]), reason or "INVALID_ARGUMENT")
        elif reason:
            reasons.add(reason)
    quota = request_id = ""
    for detail in details:
        reasons.update(filter(None, [_reason(detail.get("reason"))]))
        metadata = detail.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("quota_limit"), str):
            quota = metadata["quota_limit"]
        if isinstance(detail.get("requestId"), str):
            request_id = detail["requestId"]
    return ApiError(_reason(error.get("status")), frozenset(reasons), members, quota, request_id)


def failure_of(answer: Answer, error: ApiError) -> Failure | None:
    """Give what an answer means for the whole request; None for a 2xx. What names single members is not asked here."""
    failure = plain_failure(answer)
    if failure is None or not isinstance(answer, Response):
        return failure
    words = " ".join(sorted({f"status {answer.status}", error.status, *error.reasons} - {""}))
    if answer.status == 429 or error.status == "RESOURCE_EXHAUSTED":
        return Retry(words, retry_after_ms(answer) or quota_wait_ms(error.quota, answer.received_ms))
    if error.status == "ABORTED" or answer.status >= 500:
        return Retry(words, retry_after_ms(answer))
    if LIST_GONE in error.reasons or (answer.status == 404 and "NOT_FOUND" in (error.status, *error.reasons)):
        return Gone(f"{words}: the user list is gone, or these credentials may not see it; a resync fills a new one")
    if error.reasons & STOPPING or answer.status in (401, 403, 404):
        return Credentials(words)
    if TOO_MANY in error.reasons or answer.status == 400:
        return Divide(words)
    return failure


def quota_wait_ms(quota: str, now_ms: int) -> int:
    """Give how long a used-up quota stays so: a minute, or to the end of Google's day."""
    if "PerDay" not in quota:
        return MINUTE_MS
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(_QUOTA_ZONE)
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), _QUOTA_ZONE)
    return int(midnight.timestamp() * 1000) - now_ms


def _violations(details: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for detail in details:
        for violation in _list(detail.get("fieldViolations")):
            if isinstance(violation, dict):
                yield violation


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _reason(value: object) -> str:
    """A name of an enumeration, never prose: that might repeat what was sent."""
    return value if isinstance(value, str) and _REASON.fullmatch(value) else ""
