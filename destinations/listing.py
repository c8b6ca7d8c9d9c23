"""Who is in a list: how a resync finds strays where an API lists members. Pure, as all of a kind.

    next_step(…, "list") … ─▶ request ─▶ the listing, saved to disk ─ read ─▶ names ─ those of nobody ─ stray ─▶ records

A *name* is the text by which a listing and identifiers can be compared. Delivery keeps a hash of the name of everybody
whom it told of since the resync began; whoever else is named is a stray, and is removed as any member is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from destinations.limits import RateLimit
from destinations.outcomes import StepFailure
from destinations.records import Attempt
from destinations.requests import Answer, Request

#: How long a listing may take to arrive: millions of lines.
LISTING_TIMEOUT_MS: Final = 600_000


class UnreadableListing(Exception):
    """What came is no listing as the vendor documents it. The message shows nothing of it."""


class Listing(ABC):
    """One way to list the members of a sync's list, under settings that it was made with."""

    #: Says what names are made of: names of different forms cannot be compared.
    form: str

    @abstractmethod
    def name(self, identifiers: Mapping[str, Any]) -> str:
        """Give the name by which the listing has who was added with these identifiers."""

    def rate_limits(self) -> tuple[RateLimit, ...]:
        """What the vendor allows of these requests alone, besides `Destination.rate_limits`."""
        return ()

    @abstractmethod
    def request(self, attempt: Attempt) -> Request | None:
        """Ask for the listing; the steps of `list` are done. None: there is no list yet, so nobody is in it."""

    @abstractmethod
    def judge(self, answer: Answer) -> Request | StepFailure | None:
        """Give what is wrong, or where the listing lies instead; None: it is the listing. The body may be cut short."""

    @abstractmethod
    def read(self, lines: Iterable[str]) -> Iterator[str]:
        """Give the names; lines keep their ends. Raises UnreadableListing."""

    @abstractmethod
    def stray(self, name: str) -> Mapping[str, Any]:
        """Give the identifiers by which who is named so is removed."""
