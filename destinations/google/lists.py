"""The user list of a sync: found by its integration code, or made; opened, closed and emptied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from destinations.answers import json_object
from destinations.contract import Purpose
from destinations.google.errors import NAME_TAKEN, failure_of, read_error
from destinations.google.payload import api_request, destination
from destinations.google.settings import GoogleSettings
from destinations.outcomes import Credentials, Gone, Learned, Retry, StepOutcome, step_failure
from destinations.records import Attempt, SyncShape
from destinations.requests import Answer, Request
from destinations.times import iso_ms

_NAME_CHARS_MAX = 200


def list_id(settings: GoogleSettings, attempt: Attempt) -> str | None:
    """Give the id of the sync's list, None while it is not known. A list of another account is unknown."""
    given = settings.user_list_ids.get(attempt.sync.audience_id)
    known = attempt.learned.get("user_list_id")
    if given is not None or not isinstance(known, str) or attempt.learned.get("customer_id") != settings.customer_id:
        return given
    return known


def next_step(settings: GoogleSettings, attempt: Attempt, purpose: Purpose) -> Request | None:
    """Search, make, open, close or empty, whichever comes next."""
    known, learned = list_id(settings, attempt), attempt.learned
    status = learned.get("membership_status")
    if purpose == "purge":
        return (
            None if known is None or learned.get("purged_ms") == attempt.since_ms else _purge(settings, attempt, known)
        )
    if purpose == "archive":
        return None if known is None or status == "CLOSED" else _set_status(settings, attempt, known, "CLOSED")
    if known is not None:
        return _set_status(settings, attempt, known, "OPEN") if status == "CLOSED" else None
    if not _searched(settings, learned):
        code = msgspec.json.encode(integration_code(attempt.sync)).decode()
        query = {"filter": f"integration_code = {code}", "pageSize": "10"}
        return api_request(settings, attempt.token, "GET", _lists(settings), lists=True, query=query)
    body = msgspec.json.encode(user_list(settings, attempt))
    return api_request(settings, attempt.token, "POST", _lists(settings), body, lists=True)


def judge_step(
    settings: GoogleSettings, attempt: Attempt, purpose: Purpose, request: Request, answer: Answer
) -> StepOutcome:
    """Learn from the answer to `next_step`."""
    error = read_error(answer)
    failure = failure_of(answer, error)
    making = request.method == "POST" and purpose == "open"
    if making and NAME_TAKEN in error.reasons and not attempt.learned.get("name_taken"):
        return Learned({"name_taken": True, "searched": None})
    if making and isinstance(failure, Retry):
        # It may have been made and the answer lost: look again before another is made.
        return Learned({"searched": None}, failure)
    if isinstance(failure, Gone) and request.method in ("GET", "POST") and purpose == "open":
        return Credentials("the Google Ads account does not exist, or these credentials may not see it")
    if isinstance(failure, Gone):
        # A list that is gone is as closed and as empty as can be.
        gone = {"user_list_id": None, "purged_ms": attempt.since_ms, "membership_status": "CLOSED"}
        return Learned(gone) if purpose != "open" else failure
    if failure is not None:
        return step_failure(failure)
    if purpose == "purge":
        return Learned({"purged_ms": attempt.since_ms})
    body = json_object(answer)
    if body is None:
        return Retry("the answer is not JSON")
    if request.method == "PATCH":
        return Learned({"membership_status": "CLOSED" if purpose == "archive" else "OPEN"})
    if making:
        return _found(settings, body) or Learned({"searched": None}, Retry("the answer names no list"))
    return _judge_search(settings, attempt, body)


def integration_code(sync: SyncShape) -> str:
    """Give the code by which a sync's list is found again, whatever people call it."""
    return f"usher:{sync.sync}:{sync.audience_id}"


def user_list(settings: GoogleSettings, attempt: Attempt) -> dict[str, Any]:
    """Give the list to be made."""
    name = attempt.sync.audience_name[:_NAME_CHARS_MAX]
    if attempt.learned.get("name_taken"):
        name = f"{name} ({attempt.sync.sync})"
    source = {"dataSourceType": "DATA_SOURCE_TYPE_FIRST_PARTY"}
    info: dict[str, Any]
    if settings.upload_key == "contact":
        info = {"uploadKeyTypes": ["CONTACT_ID"], "contactIdInfo": source}
    elif settings.upload_key == "user_id":
        info = {"uploadKeyTypes": ["USER_ID"], "userIdInfo": source}
    else:
        assert settings.mobile_platform is not None, "checked: it goes with mobile"
        mobile = {"keySpace": settings.mobile_platform.upper(), "appId": settings.mobile_app_id, **source}
        info = {"uploadKeyTypes": ["MOBILE_ID"], "mobileIdInfo": mobile}
    return {
        "displayName": name,
        "integrationCode": integration_code(attempt.sync),
        "membershipStatus": "OPEN",
        "membershipDuration": f"{settings.membership_duration // 1000}s",
        "ingestedUserListInfo": info,
    }


def _judge_search(settings: GoogleSettings, attempt: Attempt, body: Mapping[str, Any]) -> StepOutcome:
    lists = body.get("userLists", [])
    if not isinstance(lists, list):
        return Retry("the list of user lists cannot be read")
    for found in lists:
        if isinstance(found, dict) and found.get("integrationCode") == integration_code(attempt.sync):
            return _found(settings, found) or Retry("the list found has no id")
    return Learned({"searched": settings.customer_id})


def _found(settings: GoogleSettings, found: Mapping[str, Any]) -> Learned | None:
    id_ = found.get("id")
    if not isinstance(id_, str | int) or isinstance(id_, bool) or not str(id_).isdigit():
        return None
    status = "CLOSED" if found.get("membershipStatus") == "CLOSED" else "OPEN"
    return Learned({
        "user_list_id": str(id_), "customer_id": settings.customer_id, "membership_status": status, "searched": None,
    })  # fmt: skip


def _searched(settings: GoogleSettings, learned: Mapping[str, Any]) -> bool:
    return learned.get("searched") == settings.customer_id


def _lists(settings: GoogleSettings) -> str:
    return f"accountTypes/GOOGLE_ADS/accounts/{settings.customer_id}/userLists"


def _set_status(settings: GoogleSettings, attempt: Attempt, known: str, status: str) -> Request:
    body = msgspec.json.encode({"membershipStatus": status})
    query = {"updateMask": "membershipStatus"}
    path = f"{_lists(settings)}/{known}"
    return api_request(settings, attempt.token, "PATCH", path, body, lists=True, query=query)


def _purge(settings: GoogleSettings, attempt: Attempt, known: str) -> Request:
    body = {"destinations": [destination(settings, known)], "removeAsOfTime": iso_ms(attempt.since_ms)}
    return api_request(settings, attempt.token, "POST", "audienceMembers:removeAll", msgspec.json.encode(body))
