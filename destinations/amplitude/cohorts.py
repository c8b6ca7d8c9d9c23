"""Cohorts: found by name, made with the first users to enter, changed by adding and removing ids.

Amplitude makes no empty cohort. So the first batch of entries makes it, and then goes again as a change, which
says whom Amplitude does not know.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from destinations.amplitude.settings import API_VERSION, COHORT_HOSTS, AmplitudeSettings
from destinations.answers import json_object, plain_failure, retry_after_ms
from destinations.outcomes import (
    Credentials,
    Delivered,
    Divide,
    Failure,
    Gone,
    Judgement,
    Learned,
    Outcome,
    Permanent,
    Resend,
    Retry,
    StepOutcome,
    for_all,
    step_failure,
)
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape
from destinations.requests import LONG_ANSWER_BYTES_MAX, Answer, Request, Response

#: The list of cohorts holds their definitions too.
_LIST_BYTES_MAX: Final = 32 * 1024 * 1024
#: Another edit of the cohort, or five requests of the project, are under way.
BUSY_MS: Final = 2_000
_NAME_CHARS_MAX: Final = 180


def cohort_id(settings: AmplitudeSettings, attempt: Attempt) -> str | None:
    """Give the id of the sync's cohort, None while it is not known. A cohort of another project is unknown."""
    given = settings.cohort_ids.get(attempt.sync.audience_id)
    known = attempt.learned.get("cohort_id")
    if given is not None or not isinstance(known, str) or attempt.learned.get("project") != settings.project:
        return given
    return known


def cohort_name(sync: SyncShape) -> str:
    """Give the name by which a sync's cohort is made and found again: cohorts are made with nothing else."""
    return f"{sync.audience_name[:_NAME_CHARS_MAX]} (Usher {sync.sync})"


def encode(batch: Batch) -> bytes:
    """Give the JSON array of ids: the cohort is not known yet."""
    return msgspec.json.encode([_id(record) for record in batch.records])


def build(settings: AmplitudeSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
    """Change the cohort, or make it. Where there is none nobody can be removed: then the list is asked for, unread."""
    known, ids = cohort_id(settings, attempt), msgspec.Raw(sealed.body)
    adding = sealed.records[0].verb == "add"
    if known is not None:
        id_type = "BY_NAME" if "user_id" in sealed.records[0].identifiers else "BY_ID"
        change = {"ids": ids, "id_type": id_type, "operation": "ADD" if adding else "REMOVE"}
        body = {"cohort_id": known, "skip_invalid_ids": True, "memberships": [change]}
        return cohort_request(settings, "POST", "cohorts/membership", msgspec.json.encode(body))
    if not adding:
        return list_request(settings)
    made = {
        "name": cohort_name(attempt.sync),
        "app_id": settings.app_id,
        "id_type": "BY_USER_ID",
        "ids": ids,
        "owner": settings.owner,
        "published": settings.published,
        "skip_invalid_ids": True,
    }
    return cohort_request(settings, "POST", "cohorts/upload", msgspec.json.encode(made))


def judge(settings: AmplitudeSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
    """Give an outcome per id."""
    count, making = sealed.record_count, request.shown_url.endswith("/cohorts/upload")
    failure = failure_of(answer)
    if failure is not None:
        forget: dict[str, Any] = {"cohort_id": None} if isinstance(failure, Gone) else {}
        if making and isinstance(failure, Retry):
            # It may have been made and the answer lost: look again before another is made.
            forget = {"searched": None}
        return for_all(failure, count, learned=forget)
    if request.method == "GET":
        return for_all(Delivered(), count, notes=("there is no cohort yet: nobody to remove",))
    body = json_object(answer)
    if body is None:
        return for_all(Retry("the answer is not JSON"), count, learned={"searched": None} if making else {})
    if making:
        learned = _found(settings, body.get("cohort_id") or body.get("cohortId"))
        if learned is None:
            return for_all(Retry("the answer names no cohort"), count, learned={"searched": None})
        return for_all(Resend("the cohort was made"), count, learned=learned)
    return Judgement(_outcomes(sealed, body))


def next_step(settings: AmplitudeSettings, attempt: Attempt) -> Request | None:
    """Look for the cohort, once: making it is the first batch's."""
    if cohort_id(settings, attempt) is not None or attempt.learned.get("searched") == settings.project:
        return None
    return list_request(settings)


def judge_step(settings: AmplitudeSettings, attempt: Attempt, answer: Answer) -> StepOutcome:
    """Learn the cohort's id, or that there is none."""
    failure = failure_of(answer)
    if failure is not None:
        known = step_failure(failure)
        return Credentials(known.reason) if isinstance(known, Gone) else known
    cohorts = (json_object(answer) or {}).get("cohorts")
    if not isinstance(cohorts, list):
        return Retry("the list of cohorts cannot be read")
    for entry in cohorts:
        if isinstance(entry, dict) and entry.get("name") == cohort_name(attempt.sync) and not entry.get("archived"):
            learned = _found(settings, entry.get("id"))
            return Learned(learned) if learned is not None else Retry("the cohort found has no id")
    return Learned({"searched": settings.project})


def list_request(settings: AmplitudeSettings) -> Request:
    """Ask for all cohorts: to ask for one, by its download, counts towards a monthly limit."""
    return cohort_request(settings, "GET", "cohorts", bytes_max=_LIST_BYTES_MAX)


def failure_of(answer: Answer) -> Failure | None:
    """Give what an answer means for the whole request; None for a 2xx."""
    failure = plain_failure(answer)
    if failure is None or not isinstance(answer, Response):
        return failure
    reason = f"status {answer.status}"
    if answer.status == 429:
        return Retry(f"{reason}: the project or the cohort is busy", retry_after_ms(answer) or BUSY_MS)
    if answer.status == 404:
        return Gone(f"{reason}: the cohort is gone; a resync makes and fills a new one")
    return Divide(f"{reason}: Amplitude refuses the request's ids") if answer.status == 400 else failure


def _outcomes(sealed: SealedBatch, body: Mapping[str, Any]) -> tuple[Outcome, ...]:
    results = body.get("memberships_result")
    if not isinstance(results, list):
        return (Retry("the answer has no result"),) * sealed.record_count
    skipped: set[str] = set()
    for result in results:
        ids = result.get("skipped_ids") if isinstance(result, dict) else None
        skipped.update(str(id_) for id_ in (ids if isinstance(ids, list) else ()))
    unknown: Outcome = Permanent("Amplitude does not know the user: it has no event of theirs")
    if sealed.records[0].verb == "remove":
        unknown = Delivered()
    return tuple(unknown if _id(record) in skipped else Delivered() for record in sealed.records)


def _found(settings: AmplitudeSettings, id_: object) -> dict[str, Any] | None:
    if not isinstance(id_, str) or not id_:
        return None
    return {"cohort_id": id_, "project": settings.project, "searched": None}


def _id(record: Record) -> str:
    """Give how a member is named; a stray may have no user id."""
    identifiers = record.identifiers
    return str(identifiers["user_id"] if "user_id" in identifiers else identifiers["amplitude_id"])


def cohort_request(
    settings: AmplitudeSettings,
    method: str,
    path: str,
    body: bytes = b"",
    bytes_max: int = LONG_ANSWER_BYTES_MAX,
    *,
    version: str = API_VERSION,
    timeout_ms: int | None = None,
) -> Request:
    """Give a request to the cohort API with the project's keys."""
    assert settings.secret_key is not None, "checked: cohorts need it"
    pair = f"{settings.api_key.get_secret_value()}:{settings.secret_key.get_secret_value()}"
    headers = {
        "authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
        "accept": "application/json",
    }
    if body:
        headers["content-type"] = "application/json"
    url = settings.url(COHORT_HOSTS[settings.region], f"/api/{version}/{path}")
    return Request(method, url, headers, body, timeout_ms or settings.timeout, settings.allow_private, bytes_max)
