"""When a batch that failed is tried again, and when it is given up."""

from __future__ import annotations

from cluster.limits import RETRY_BASE_MS, RETRY_CAP_MS, RETRY_ELAPSED_MAX_MS
from destinations.outcomes import Retry


def backoff_ms(attempts: int, jitter: float) -> int:
    """Give the pause after the `attempts`-th failed attempt: exponential with full jitter.

    `jitter` is in [0, 1) and comes from the caller's seeded source. At least 1 ms: a pause is a pause.
    """
    ceiling_ms = min(RETRY_CAP_MS, RETRY_BASE_MS << min(attempts - 1, 40))
    return max(1, int(ceiling_ms * jitter))


def next_attempt_ms(
    outcome: Retry, attempts: int, first_attempt_ms: int, now_ms: int, jitter: float
) -> int | None:
    """Give when to try again, never before what the destination asked for, or None: give up.

    Given up is what has used its attempts, and what would be tried later than RETRY_ELAPSED_MAX_MS after its first.
    """
    if outcome.attempts_max is not None and attempts >= outcome.attempts_max:
        return None
    wait_ms = max(backoff_ms(attempts, jitter), outcome.after_ms or 0)
    if now_ms + wait_ms - first_attempt_ms > RETRY_ELAPSED_MAX_MS:
        return None
    return now_ms + wait_ms
