"""What became of one record of a request: the only ways an attempt can end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has it."""


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
class Credentials:
    """It refuses us, not the record: the sync stops until its settings change or somebody retries."""

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The endpoint is gone (410): the sync is disabled until its settings change or somebody retries."""

    reason: str


Outcome: TypeAlias = Delivered | Retry | Permanent | Credentials | Gone
