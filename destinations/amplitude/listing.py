"""Who is in a cohort: a file that Amplitude makes when it is asked, of amplitude and user ids.

The request is made once a resync (`GET /api/5/cohorts/request/:id`, counted towards 500 a month), its status asked for
until it is done, and the file fetched: small ones are the answer, large ones lie where it redirects to.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from destinations.amplitude.cohorts import cohort_id, cohort_request, failure_of
from destinations.amplitude.settings import LISTING_VERSION, AmplitudeSettings
from destinations.answers import json_object
from destinations.limits import RateLimit, scope_of
from destinations.listing import LISTING_TIMEOUT_MS, Listing, UnreadableListing
from destinations.outcomes import Gone, Learned, Permanent, Retry, StepFailure, StepOutcome, step_failure
from destinations.records import Attempt
from destinations.requests import Answer, Request, Response

#: What Amplitude says of these requests, by app: 60 in 10 minutes. Three or more of them make a listing, a few at once.
IN_TEN_MINUTES: Final = 60
AT_ONCE: Final = 12
LOOK_EVERY_MS: Final = 10_000
DONE: Final = "JOB COMPLETED"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Before the id of somebody of whom Amplitude has no user id.
_ANONYMOUS: Final = "amplitude_id\0"


class CohortListing(Listing):
    """By user id; whoever has none by Amplitude's own."""

    form = "user_id"

    def __init__(self, settings: AmplitudeSettings) -> None:
        self._settings = settings

    def name(self, identifiers: Mapping[str, Any]) -> str:
        """Ids are compared as they are."""
        return str(identifiers["user_id"])

    def rate_limits(self) -> tuple[RateLimit, ...]:
        """The app's."""
        scope = scope_of("amplitude", "app", self._settings.project, "download")
        return (RateLimit(scope, IN_TEN_MINUTES, 600_000, burst=AT_ONCE),)

    def request(self, attempt: Attempt) -> Request | None:
        """Ask for the file. Before anybody entered there is no cohort."""
        if cohort_id(self._settings, attempt) is None:
            return None
        return _request(self._settings, f"cohorts/request/{attempt.learned['listing']}/file", LISTING_TIMEOUT_MS)

    def judge(self, answer: Answer) -> Request | StepFailure | None:
        """Follow to where a large file lies: a place of its own, which is told no credentials."""
        if isinstance(answer, Response) and answer.status in _REDIRECTS:
            place = answer.headers.get("location", "")
            if not place.startswith(("https://", "http://")):
                return Retry("the answer does not say where the file lies")
            return Request("GET", place, {}, b"", LISTING_TIMEOUT_MS, self._settings.allow_private)
        failure = failure_of(answer)
        return None if failure is None else step_failure(failure)

    def read(self, lines: Iterable[str]) -> Iterator[str]:
        """Give each row's user id; the first row names the columns."""
        try:
            yield from _names(csv.reader(lines))
        except csv.Error as error:
            message = "the file is no CSV"
            raise UnreadableListing(message) from error

    def stray(self, name: str) -> Mapping[str, Any]:
        """Give `user_id` or `amplitude_id`."""
        if name.startswith(_ANONYMOUS):
            return {"amplitude_id": name.removeprefix(_ANONYMOUS)}
        return {"user_id": name}


def _names(rows: Iterator[list[str]]) -> Iterator[str]:
    head = [name.strip().strip('"') for name in next(rows, [])]
    if not head:
        return
    if "user_id" not in head:
        message = "the file has no column user_id"
        raise UnreadableListing(message)
    user, amplitude = head.index("user_id"), head.index("amplitude_id") if "amplitude_id" in head else None
    for row in rows:
        if len(row) > user and (name := row[user].strip().strip('"')):
            yield name
        elif amplitude is not None and len(row) > amplitude and (id_ := row[amplitude].strip()):
            yield _ANONYMOUS + id_


def next_step(settings: AmplitudeSettings, attempt: Attempt) -> Request | None:
    """Have the file made, and ask until it is. Of each resync one is made; who reads it anew needs no other one."""
    known, learned = cohort_id(settings, attempt), attempt.learned
    if known is None or (learned.get("listed_ms") == attempt.since_ms and learned.get("listing_done")):
        return None
    if learned.get("listed_ms") != attempt.since_ms:
        return _request(settings, f"cohorts/request/{known}")
    return _request(settings, f"cohorts/request-status/{learned['listing']}")


def judge_step(attempt: Attempt, request: Request, answer: Answer) -> StepOutcome:
    """Learn the request's id, or that its file is done."""
    asking = "/request-status/" not in request.shown_url
    failure = failure_of(answer)
    if isinstance(failure, Gone) and not asking:
        return Learned({"listed_ms": None}, Retry("the request for the file is gone"))
    if failure is not None:
        return step_failure(failure)
    body = json_object(answer) or {}
    if not asking:
        done = body.get("async_status") == DONE
        return Learned({"listing_done": True}) if done else Retry("the file is being made", LOOK_EVERY_MS)
    id_ = body.get("request_id")
    if not isinstance(id_, str) or not id_.isascii() or not id_.isalnum():
        return Permanent("the answer does not name the request for the file")
    return Learned({"listing": id_, "listed_ms": attempt.since_ms, "listing_done": False})


def _request(settings: AmplitudeSettings, path: str, timeout_ms: int | None = None) -> Request:
    return cohort_request(settings, "GET", path, version=LISTING_VERSION, timeout_ms=timeout_ms)
