"""The custom audience of a sync: found by its mark, or made.

The mark in the description names the sync, so that a crash between making an audience and remembering it makes no
second one, and a person may rename the audience at Meta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from destinations.answers import json_object
from destinations.facebook.errors import failure_of
from destinations.facebook.payload import graph_request
from destinations.facebook.settings import FacebookSettings
from destinations.outcomes import Credentials, Gone, Learned, Retry, StepOutcome, step_failure
from destinations.records import Attempt, SyncShape
from destinations.requests import Answer, Request

#: Audiences asked for at a time, and how many pages are looked through before a new one is made.
PAGE: Final = 200
PAGES_MAX: Final = 50
_NAME_CHARS_MAX: Final = 100


def audience_id(settings: FacebookSettings, attempt: Attempt) -> str | None:
    """Give the id of the sync's custom audience, None while it is not known. One of another ad account is unknown."""
    given = settings.audience_ids.get(attempt.sync.audience_id)
    known = attempt.learned.get("audience_id")
    if given is not None or not isinstance(known, str) or attempt.learned.get("ad_account") != settings.ad_account:
        return given
    return known


def next_step(settings: FacebookSettings, attempt: Attempt) -> Request | None:
    """Look through the account's audiences page by page, then make one."""
    if audience_id(settings, attempt) is not None:
        return None
    search = _search(settings, attempt.learned)
    edge = f"act_{settings.ad_account}/customaudiences"
    if not search["done"]:
        query = {"fields": "id,description", "limit": str(PAGE)}
        if search["after"]:
            query["after"] = search["after"]
        return graph_request(settings, "GET", edge, query=query)
    body = {
        "name": attempt.sync.audience_name[:_NAME_CHARS_MAX],
        "description": mark(attempt.sync),
        "subtype": "CUSTOM",
        "customer_file_source": settings.customer_file_source,
    }
    return graph_request(settings, "POST", edge, msgspec.json.encode(body))


def judge_step(settings: FacebookSettings, attempt: Attempt, answer: Answer) -> StepOutcome:
    """Learn the audience's id, or how far the search went."""
    failure = failure_of(answer)
    if isinstance(failure, Gone):
        return Credentials("the ad account does not exist, or this token may not see it")
    search = _search(settings, attempt.learned)
    if isinstance(failure, Retry) and search["done"]:
        # It may have been made and the answer lost: look again before another is made.
        return Learned({"search": None}, failure)
    if failure is not None:
        return step_failure(failure)
    body = json_object(answer) or {}
    if search["done"]:
        made = body.get("id")
        return _found(settings, made) if isinstance(made, str) and made else _unnamed()
    if not isinstance(body.get("data"), list):
        return Retry("the list of audiences cannot be read")
    for entry in body["data"]:
        if isinstance(entry, dict) and entry.get("description") == mark(attempt.sync) and entry.get("id"):
            return _found(settings, str(entry["id"]))
    after = _next_page(body)
    pages = search["pages"] + 1
    done = not after or pages >= PAGES_MAX
    return Learned({"search": {"ad_account": settings.ad_account, "after": after, "pages": pages, "done": done}})


def mark(sync: SyncShape) -> str:
    """Give the description by which a sync's audience is found again."""
    return f"Kept by Usher: sync {sync.sync} of audience {sync.audience_id}"


def _found(settings: FacebookSettings, id_: str) -> Learned:
    return Learned({"audience_id": id_, "ad_account": settings.ad_account, "search": None})


def _unnamed() -> Learned:
    return Learned({"search": None}, Retry("the answer does not name the audience that was made"))


def _search(settings: FacebookSettings, learned: Mapping[str, Any]) -> dict[str, Any]:
    search = learned.get("search")
    if isinstance(search, dict) and search.get("ad_account") == settings.ad_account:
        return search
    return {"after": "", "pages": 0, "done": False}


def _next_page(body: dict[str, Any]) -> str:
    paging = body.get("paging")
    if not isinstance(paging, dict) or "next" not in paging or not isinstance(paging.get("cursors"), dict):
        return ""
    after = paging["cursors"].get("after")
    return after if isinstance(after, str) else ""
