"""What became of the records of a request: the only ways an attempt, a step or a poll can end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has it."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The destination has no use for it, now or later (a forgotten user): finished and counted, no failure."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. `after_ms` is the destination's own wish and slows the whole sync down; None: the schedule says.

    `attempts_max` shortens the schedule for answers that seldom change (a 404); None is the whole schedule.
    """

    reason: str
    after_ms: int | None = None
    attempts_max: int | None = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """Never: the record becomes a dead letter at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class Divide:
    """The request was too large, or a record at fault was not named. What of it was taken may be sent again.

    Delivery tries both halves of the records given this, until the one at fault is alone: there it is permanent.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Resend:
    """Nothing is wrong with it and nothing was done: another record of its request was refused.

    It goes again at once, without the refused ones, and no attempt is counted.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """It refuses us, not the record: the sync stops until its settings change or somebody retries.

    Where the kind has tokens, delivery first gets a new token and tries once more.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The endpoint or list is gone (410): the sync is disabled until its settings change or somebody retries."""

    reason: str


#: What can be wrong with a whole request.
Failure: TypeAlias = Retry | Permanent | Divide | Credentials | Gone
Outcome: TypeAlias = Delivered | Skipped | Resend | Failure


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The request was accepted and is worked on: ask for the result under `id`, first after `after_ms`."""

    id: str
    after_ms: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer means: one outcome per record, in the order of the records.

    `learned` is remembered durably for the sync before its next request (a list id that the answer named).
    `quiet_ms` asks every sync that shares the destination's rate limits to send nothing for so long, whatever the
    outcomes. `request_id` is the vendor's name for the request and `notes` are warnings: both are shown in the sync
    log, so neither may hold personal data.
    """

    outcomes: tuple[Outcome, ...]
    learned: Mapping[str, Any] = field(default_factory=dict)
    quiet_ms: int = 0
    follow_up: FollowUp | None = None
    request_id: str = ""
    notes: tuple[str, ...] = ()


def for_all(outcome: Outcome, count: int, **more: Any) -> Judgement:
    """Give every one of `count` records the same outcome; `more` are further fields of the judgement."""
    return Judgement((outcome,) * count, **more)


@dataclass(frozen=True, slots=True)
class Learned:
    """A step taught something: merge `learned` into what is known of the sync, then ask for the next step.

    With `retry` the step failed (made something and its answer was lost, perhaps): wait as it says before the next.
    """

    learned: Mapping[str, Any]
    retry: Retry | None = None


StepFailure: TypeAlias = Retry | Permanent | Credentials | Gone
StepOutcome: TypeAlias = Learned | StepFailure


def step_failure(failure: Failure) -> StepFailure:
    """Give a request's failure as that of a step or poll, which has no records to divide."""
    return Permanent(failure.reason) if isinstance(failure, Divide) else failure


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, kept in memory alone. `expires_ms` is UTC ms."""

    value: str = field(repr=False)
    expires_ms: int


TokenOutcome: TypeAlias = Token | Retry | Credentials


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of an accepted request: how many records failed for which reason, and what to note."""

    failed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


#: `Retry`: not finished yet, or the question failed; ask again after `after_ms`. `Permanent`: it failed as a whole.
PollOutcome: TypeAlias = Finished | Retry | Permanent | Credentials
