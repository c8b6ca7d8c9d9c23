"""What an answer makes of a batch: records that arrived, that are dead, and that go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from destinations.outcomes import Credentials, Delivered, Divide, Gone, Outcome, Permanent, Resend, Retry, Skipped

#: What an answer says of the destination, not of records.
Health = Literal["well", "throttling", "failing", "unknown"]


#: Why records go on: `again` after a failure, `resend` because another record was refused, `half` to find one at fault.
Why = Literal["again", "resend", "half"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The records of a batch by index. `groups` are those that go on, each a batch of its own."""

    delivered: int
    skipped: int
    dead: tuple[int, ...]
    groups: tuple[tuple[Why, tuple[int, ...]], ...]
    #: Why the first record that did not arrive did not; empty where all did.
    reason: str
    dead_reason: str


def distinct(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Give each of the outcomes once, the first ones first: a destination that took all says so by one for all."""
    return tuple({id(outcome): outcome for outcome in outcomes}.values())


def sound(outcomes: Sequence[Outcome], *, learned: bool) -> Sequence[Outcome]:
    """Give the outcomes, or a failure of all where every record is to be sent again and nothing would be different.

    `learned`: the answer taught something, so that the next request is another one.
    """
    if not learned and all(isinstance(outcome, Resend) for outcome in outcomes):
        return (Retry("nothing was taken, and nothing was refused"),) * len(outcomes)
    return outcomes


def divide(users: Sequence[str], outcomes: Sequence[Outcome], *, gives_up: bool) -> Verdict:
    """Sort a batch's records by their outcomes. `gives_up`: what may be tried again has used its tries.

    A record that arrived although an earlier one of its user did not goes on behind that one, so that the last one
    counts. What is divided is halved: the record at fault is alone after as many tries as the count has digits in
    binary, and alone it is dead.
    """
    assert len(outcomes) == len(users), "one outcome per record"
    if all(isinstance(outcome, Delivered) for outcome in distinct(outcomes)):
        return Verdict(len(outcomes), 0, (), (), "", "")
    kept: dict[Why, list[int]] = {"again": [], "resend": [], "half": []}
    dead: list[int] = []
    skipped = 0
    why_of_user: dict[str, Why] = {}
    alone = len(outcomes) == 1
    for index, (user, outcome) in enumerate(zip(users, outcomes, strict=True)):
        if (
            isinstance(outcome, Permanent)
            or (isinstance(outcome, Retry) and gives_up)
            or (isinstance(outcome, Divide) and alone)
        ):
            dead.append(index)
        elif not isinstance(outcome, Delivered | Skipped) or user in why_of_user:
            why = why_of_user.setdefault(user, _why(outcome))
            kept[why].append(index)
        elif isinstance(outcome, Skipped):
            skipped += 1
    groups: list[tuple[Why, tuple[int, ...]]] = []
    groups += [(why, tuple(kept[why])) for why in ("resend", "again") if kept[why]]
    if halves := kept["half"]:
        middle = (len(halves) + 1) // 2
        groups += [("half", tuple(half)) for half in (halves[:middle], halves[middle:]) if half]
    kept_count = sum(map(len, kept.values()))
    return Verdict(
        delivered=len(outcomes) - kept_count - len(dead) - skipped,
        skipped=skipped,
        dead=tuple(dead),
        groups=tuple(groups),
        reason=next((_reason(outcome) for outcome in outcomes if _reason(outcome)), ""),
        dead_reason=next((_reason(outcomes[index]) for index in dead), ""),
    )


def _why(outcome: Outcome) -> Why:
    if isinstance(outcome, Resend):
        return "resend"
    return "half" if isinstance(outcome, Divide) else "again"


def first_retry(outcomes: Sequence[Outcome]) -> Retry | None:
    """Give the retry that decides when to try again: the longest wait asked for, then the shortest schedule."""
    retries = [outcome for outcome in outcomes if isinstance(outcome, Retry)]
    if not retries:
        return None
    after_ms = max((retry.after_ms for retry in retries if retry.after_ms is not None), default=None)
    attempts_max = min((retry.attempts_max for retry in retries if retry.attempts_max is not None), default=None)
    return Retry(retries[0].reason, after_ms, attempts_max)


def first_stop(outcomes: Sequence[Outcome]) -> Credentials | Gone | None:
    """Give what stops the whole sync, if anything does; gone outweighs credentials."""
    stops = [outcome for outcome in outcomes if isinstance(outcome, Credentials | Gone)]
    return next((stop for stop in stops if isinstance(stop, Gone)), stops[0] if stops else None)


def health(outcomes: Sequence[Outcome]) -> Health:
    """Say what an answer tells of the destination.

    Anything taken, or refused for what it holds, says it works. To ask for a wait is throttling. Nothing but retries
    without a wish is failing.
    """
    if not outcomes or any(isinstance(outcome, Credentials | Gone) for outcome in outcomes):
        return "unknown"
    retries = [outcome for outcome in outcomes if isinstance(outcome, Retry)]
    if any(retry.after_ms is not None for retry in retries):
        return "throttling"
    if len(retries) < len(outcomes) or any(retry.attempts_max is not None for retry in retries):
        return "well"
    return "failing"


def _reason(outcome: Outcome) -> str:
    return "" if isinstance(outcome, Delivered | Skipped | Resend) else outcome.reason
