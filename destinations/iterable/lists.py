"""The static list of a sync: found by its mark, or made."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from destinations.answers import json_object
from destinations.iterable.payload import api_request
from destinations.iterable.response import failure_of
from destinations.iterable.settings import IterableSettings
from destinations.limits import scope_of
from destinations.outcomes import Credentials, Gone, Learned, Retry, StepOutcome, step_failure
from destinations.records import Attempt, SyncShape
from destinations.requests import Answer, Request

_NAME_CHARS_MAX: Final = 200


def project_scope(settings: IterableSettings) -> str:
    """Name the project: its key stands for it. A new key of the same project finds the list by its mark."""
    return scope_of("iterable", "account", settings.region, settings.api_key.get_secret_value())


def list_id(settings: IterableSettings, attempt: Attempt) -> int | None:
    """Give the id of the sync's list, None while it is not known."""
    given = settings.list_ids.get(attempt.sync.audience_id)
    known = attempt.learned.get("list_id")
    if given is not None or not isinstance(known, int) or attempt.learned.get("project") != project_scope(settings):
        return given
    return known


def next_step(settings: IterableSettings, attempt: Attempt) -> Request | None:
    """Look through the project's lists, then make one."""
    if list_id(settings, attempt) is not None:
        return None
    if attempt.learned.get("searched") != project_scope(settings):
        return api_request(settings, "GET", "/api/lists")
    body = {"name": attempt.sync.audience_name[:_NAME_CHARS_MAX], "description": mark(attempt.sync)}
    return api_request(settings, "POST", "/api/lists", msgspec.json.encode(body))


def judge_step(settings: IterableSettings, attempt: Attempt, request: Request, answer: Answer) -> StepOutcome:
    """Learn the list's id, or that there is none."""
    failure = failure_of(answer)
    if isinstance(failure, Gone):
        return Credentials("status 404: the API is not at this address")
    if isinstance(failure, Retry) and request.method == "POST":
        # It may have been made and the answer lost: look again before another is made.
        return Learned({"searched": None}, failure)
    if failure is not None:
        return step_failure(failure)
    body = json_object(answer) or {}
    if request.method == "POST":
        return _found(settings, body.get("listId")) or Learned(
            {"searched": None}, Retry("the answer does not name the list that was made")
        )
    lists = body.get("lists")
    if not isinstance(lists, list):
        return Retry("the list of lists cannot be read")
    for entry in lists:
        if isinstance(entry, dict) and entry.get("description") == mark(attempt.sync):
            return _found(settings, entry.get("id")) or Retry("the list found has no id")
    return Learned({"searched": project_scope(settings)})


def mark(sync: SyncShape) -> str:
    """Give the description by which a sync's list is found again, whatever people call it."""
    return f"Kept by Usher: sync {sync.sync} of audience {sync.audience_id}"


def _found(settings: IterableSettings, id_: Any) -> Learned | None:
    if not isinstance(id_, int) or isinstance(id_, bool):
        return None
    return Learned({"list_id": id_, "project": project_scope(settings), "searched": None})
