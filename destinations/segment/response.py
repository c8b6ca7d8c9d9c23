"""What Segment's answers mean: 200 for almost everything, whether or not it keeps the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from destinations.answers import SHORT_SCHEDULE_ATTEMPTS, plain_failure, retry_after_ms
from destinations.outcomes import Delivered, Divide, Failure, Judgement, Outcome, Permanent, Retry
from destinations.requests import Answer, Response

#: What Segment's own libraries try again besides what is plain.
_TRIED_AGAIN: Final = frozenset({408, 410, 429, 460})
_NOT_TRIED_AGAIN: Final = frozenset({501, 505})
RETRY_AFTER_MAX_MS: Final = 300_000


def judge(fitting: Sequence[bool], answer: Answer) -> Judgement:
    """Give an outcome per record; `fitting` says which of them were in the body at all."""
    failure = _failure(answer)
    outcome: Outcome = Delivered() if failure is None else failure
    too_large = Permanent("a call is larger than 32 KB: leave out traits")
    return Judgement(tuple(outcome if fits else too_large for fits in fitting))


def _failure(answer: Answer) -> Failure | None:
    failure = plain_failure(answer)
    if failure is None or not isinstance(answer, Response):
        return failure
    if answer.status in _TRIED_AGAIN:
        wait_ms = retry_after_ms(answer) or _reset_ms(answer)
        return Retry(f"status {answer.status}", min(wait_ms, RETRY_AFTER_MAX_MS) if wait_ms else None)
    if answer.status in _NOT_TRIED_AGAIN:
        return Retry(f"status {answer.status}", attempts_max=SHORT_SCHEDULE_ATTEMPTS)
    if answer.status == 400:
        return Divide("status 400: the batch is too large or not what Segment reads")
    return failure


def _reset_ms(answer: Response) -> int:
    """`X-RateLimit-Reset` is in seconds from now."""
    text = answer.headers.get("x-ratelimit-reset", "")
    return int(text[:6]) * 1000 if text.isascii() and text.isdigit() else 0
