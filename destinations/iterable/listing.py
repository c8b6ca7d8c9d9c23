"""Who is subscribed to a list: `GET /api/lists/getUsers`, plain text, an address or an id a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from destinations.identifiers import email
from destinations.iterable.lists import list_id
from destinations.iterable.payload import api_request
from destinations.iterable.response import failure_of
from destinations.iterable.settings import IterableSettings
from destinations.limits import RateLimit, scope_of
from destinations.listing import LISTING_TIMEOUT_MS, Listing
from destinations.outcomes import StepFailure, step_failure
from destinations.records import Attempt, SyncShape
from destinations.requests import Answer, Request

#: What Iterable says of this call: 5 a minute, by project.
A_MINUTE: Final = 5
AMBIGUOUS: Final = (
    "a hybrid project lists each user by one name, and cannot say by which one somebody was told of: name users by"
    " external_id alone or by email alone"
)


class SubscriberListing(Listing):
    """By address, or by id: a profile that has both is listed by whichever is asked for."""

    def __init__(self, settings: IterableSettings, *, by_id: bool) -> None:
        self.form = "userId" if by_id else "email"
        self._settings = settings
        self._by_id = by_id

    def name(self, identifiers: Mapping[str, Any]) -> str:
        """Addresses are compared as Iterable does, in lower case."""
        return str(identifiers["userId"]) if "userId" in identifiers else str(identifiers["email"]).lower()

    def rate_limits(self) -> tuple[RateLimit, ...]:
        """The project's."""
        key = self._settings.api_key.get_secret_value()
        scope = scope_of("iterable", "account", self._settings.region, key, "getUsers")
        return (RateLimit(scope, A_MINUTE, 60_000, burst=A_MINUTE),)

    def request(self, attempt: Attempt) -> Request:
        """Ask for every subscriber at once: there are no pages."""
        id_ = list_id(self._settings, attempt)
        assert id_ is not None, "steps come first"
        by_id = "&preferUserId=true" if self._by_id else ""
        path = f"/api/lists/getUsers?listId={id_}{by_id}"
        return api_request(self._settings, "GET", path, timeout_ms=LISTING_TIMEOUT_MS)

    def judge(self, answer: Answer) -> StepFailure | None:
        """A 503 says that it took too long."""
        failure = failure_of(answer)
        return None if failure is None else step_failure(failure)

    def read(self, lines: Iterable[str]) -> Iterator[str]:
        """Give each line that has something."""
        for line in lines:
            if found := line.strip():
                yield found if self._by_id else email(found) or found

    def stray(self, name: str) -> Mapping[str, Any]:
        """A profile without the one is listed by the other, where the project has both."""
        project = self._settings.project
        by_id = project == "user_id" or (project == "hybrid" and not email(name))
        return {"userId": name} if by_id else {"email": name}


def listing(settings: IterableSettings, sync: SyncShape) -> Listing | None:
    """None where a sync tells of users now by id and now by address."""
    if settings.project == "hybrid" and len(sync.fields) > 1:
        return None
    return SubscriberListing(settings, by_id="external_id" in sync.fields)
