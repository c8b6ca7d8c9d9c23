"""What Braze's answer to `/users/track` means for each object."""

from __future__ import annotations

from typing import Any, Final

from destinations.answers import SHORT_SCHEDULE_ATTEMPTS, json_object, plain_failure, retry_after_ms
from destinations.outcomes import (
    Credentials,
    Delivered,
    Divide,
    Failure,
    Judgement,
    Outcome,
    Permanent,
    Retry,
    for_all,
)
from destinations.records import SealedBatch
from destinations.requests import Answer, Response

#: What Braze says of an object that it will never take, by words of its message; anything else may pass.
_NEVER: Final = {
    "is required": "an identifier is missing",
    "fewer than": "the external id is too long",
    "blocklist": "the user is blocked",
    "blacklist": "the user is blocked",
    "block-list": "the user is blocked",
    "blocked": "the user is blocked",
    "invalid": "a value is invalid",
}
#: No wait for the window of a rate limit is longer: windows are of seconds to an hour.
_RESET_MAX_MS: Final = 3_600_000


def judge(sealed: SealedBatch, answer: Answer, array: str) -> Judgement:
    """Give an outcome per object: the whole answer's, or what `errors` says of single ones."""
    count = sealed.record_count
    quiet_ms = _until_reset_ms(answer) if _used_up(answer) else 0
    failure = _failure(answer)
    if failure is not None:
        return for_all(failure, count, quiet_ms=quiet_ms)
    body = json_object(answer) or {}
    errors = body.get("errors")
    outcomes: list[Outcome] = [Delivered()] * count
    for error in errors if isinstance(errors, list) else ():
        if not isinstance(error, dict):
            continue
        index = error.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or error.get("input_array") != array:
            return for_all(_whole(), count, quiet_ms=quiet_ms)
        if 0 <= index < count:
            outcomes[index] = _of_object(error.get("type"))
    return Judgement(tuple(outcomes), quiet_ms=quiet_ms, notes=_notes(body))


def _failure(answer: Answer) -> Failure | None:
    failure = plain_failure(answer)
    if not isinstance(answer, Response):
        return failure
    if answer.status == 429:
        return Retry("status 429: the rate limit is used up", retry_after_ms(answer) or _until_reset_ms(answer) or None)
    if answer.status == 404:
        return Credentials("status 404: the REST endpoint is not the one of this instance")
    if answer.status == 400:
        return Divide("status 400: Braze refuses the request's data")
    if failure is not None:
        return failure
    message = (json_object(answer) or {}).get("message")
    # `queued` (202) is acceptance too: Braze is being maintained and takes it up afterwards.
    return None if message in ("success", "queued") else _whole()


def _whole() -> Retry:
    return Retry("Braze took nothing of the request", attempts_max=SHORT_SCHEDULE_ATTEMPTS)


def _of_object(kind: object) -> Outcome:
    text = kind.lower() if isinstance(kind, str) else ""
    for words, reason in _NEVER.items():
        if words in text:
            return Permanent(f"Braze refuses the object: {reason}")
    return Retry("Braze refuses the object for now", attempts_max=SHORT_SCHEDULE_ATTEMPTS)


def _used_up(answer: Answer) -> bool:
    return isinstance(answer, Response) and answer.headers.get("x-ratelimit-remaining") == "0"


def _until_reset_ms(answer: Answer) -> int:
    """`X-RateLimit-Reset` is in epoch seconds."""
    text = answer.headers.get("x-ratelimit-reset", "") if isinstance(answer, Response) else ""
    if not isinstance(answer, Response) or not (text.isascii() and text.isdigit()):
        return 0
    return min(max(0, int(text[:12]) * 1000 - answer.received_ms), _RESET_MAX_MS)


def _notes(body: dict[str, Any]) -> tuple[str, ...]:
    return ("queued: Braze is being maintained",) if body.get("message") == "queued" else ()
