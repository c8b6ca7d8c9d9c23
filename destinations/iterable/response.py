"""What Iterable's answers mean, for the whole request and for each subscriber."""

from __future__ import annotations

from typing import Any, Final

from destinations.answers import json_object, plain_failure, retry_after_ms
from destinations.outcomes import (
    Credentials,
    Delivered,
    Divide,
    Failure,
    Gone,
    Judgement,
    Outcome,
    Permanent,
    Retry,
    Skipped,
    for_all,
)
from destinations.records import SealedBatch, Verb
from destinations.requests import Answer, Response

#: Limits are by the second, and no header says when one ends.
THROTTLED_MS: Final = 2_000
_CREDENTIALS: Final = frozenset(
    {"BadApiKey", "BadAuthorizationHeader", "Forbidden", "Unauthorized", "InvalidJwtPayload"}
)
_CODES: Final = frozenset({
    "BadJsonBody", "BadParams", "BatchTooLarge", "DatabaseError", "EmailAlreadyExists", "ExternalKeyConflict",
    "ForbiddenParamsError", "ForgottenUserError", "GenericError", "InvalidEmailAddressError", "InvalidUserIdError",
    "JwtUserIdentifiersMismatched",
    "NotFound", "QueueEmailError", "RateLimitExceeded", "RequestFieldsTypesMismatched", "UniqueFieldsLimitExceeded",
    "UnknownEmailError", "UnknownUserIdError", "UserIdAlreadyExists",
}) | _CREDENTIALS  # fmt: skip

#: Lists of `failedUpdates` by what they begin with: Iterable names addresses and ids apart.
_REASONS: Final = {
    "invalid": "the identifier is malformed",
    "notFound": "Iterable does not have the user",
    "conflict": "another user has the identifier",
    "invalidData": "a data field has the wrong type",
}


def judge(sealed: SealedBatch, answer: Answer) -> Judgement:
    """Give an outcome per subscriber. A list that is gone is forgotten."""
    failure = failure_of(answer)
    if failure is not None:
        learned = {"list_id": None} if isinstance(failure, Gone) else {}
        return for_all(failure, sealed.record_count, learned=learned)
    body = json_object(answer)
    if body is None:
        return for_all(Retry("the answer is not JSON"), sealed.record_count)
    named = _named(body, sealed.records[0].verb)
    places = [_identity(record.identifiers) for record in sealed.records]
    found = {identity for identity in places if identity in named}
    failed = body.get("failCount", 0)
    failed = failed if isinstance(failed, int) and not isinstance(failed, bool) else 0
    rest: Outcome = Divide("a subscriber that Iterable does not name") if failed > len(found) else Delivered()
    return Judgement(tuple(named.get(identity, rest) for identity in places))


def failure_of(answer: Answer) -> Failure | None:
    """Give what an answer means for the whole request; None for a 2xx."""
    failure = plain_failure(answer)
    if failure is None or not isinstance(answer, Response):
        return failure
    code = (json_object(answer) or {}).get("code")
    code = code if isinstance(code, str) and code in _CODES else ""
    reason = f"status {answer.status}" + (f", {code}" if code else "")
    if answer.status == 429 or code == "RateLimitExceeded":
        return Retry(reason, retry_after_ms(answer) or THROTTLED_MS)
    if answer.status >= 500:
        return failure
    if answer.status in (401, 403) or code in _CREDENTIALS:
        return Credentials(f"{reason}: the API key is refused")
    if code == "NotFound" or answer.status == 404:
        return Gone(f"{reason}: the list is gone; a resync fills a new one")
    if code == "UniqueFieldsLimitExceeded":
        return Permanent(f"{reason}: the project has no room for more data fields")
    return Divide(f"{reason}: Iterable refuses the request's data") if answer.status == 400 else failure


def _named(body: dict[str, Any], verb: Verb) -> dict[str, Outcome]:
    updates = body.get("failedUpdates")
    lists = {**body, **(updates if isinstance(updates, dict) else {})}
    named: dict[str, Outcome] = {}
    for kind, reason in _REASONS.items():
        outcome: Outcome = Permanent(f"Iterable refuses the subscriber: {reason}")
        if kind == "notFound" and verb == "remove":
            outcome = Delivered()
        _put(named, lists, kind, outcome)
    _put(named, lists, "forgotten", Skipped("Iterable has forgotten the user for good"))
    return named


def _put(named: dict[str, Outcome], lists: dict[str, Any], kind: str, outcome: Outcome) -> None:
    for name, key in ((f"{kind}Emails", "email"), (f"{kind}UserIds", "userId")):
        values = lists.get(name)
        for value in values if isinstance(values, list) else ():
            if isinstance(value, str):
                named[_identity({key: value})] = outcome


def _identity(identifiers: dict[str, Any]) -> str:
    """Addresses are compared as Iterable does: in lower case."""
    if "email" in identifiers:
        return f"email\0{str(identifiers['email']).strip().lower()}"
    return f"id\0{identifiers.get('userId')}"
