from __future__ import annotations

import json
from typing import Any

import pytest

from destinations.iterable.response import judge
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Permanent, Retry, Skipped
from destinations.records import Record, SealedBatch, Verb
from destinations.requests import NoResponse, Response


def answer(status: int, body: Any = None, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, 1_000)


def sealed(verb: Verb = "add", *identifiers: dict[str, str]) -> SealedBatch:
    named = identifiers or ({"email": "a@b.co"}, {"email": "c@d.co"}, {"userId": "u-1"})
    records = tuple(Record("t", "vip", 1, "u", dict(one), "entered", 1, 0, "event", {}, verb) for one in named)
    return SealedBatch("b", "promo", b"[]", records)


def test_failures_are_mapped_to_subscribers_whatever_the_case() -> None:
    failed = {"invalidEmails": ["C@D.co"], "conflictUserIds": ["u-1"]}
    body = {"successCount": 1, "failCount": 2, "failedUpdates": failed}

    assert judge(sealed(), answer(200, body)).outcomes == (
        Delivered(),
        Permanent("Iterable refuses the subscriber: the identifier is malformed"),
        Permanent("Iterable refuses the subscriber: another user has the identifier"),
    )


def test_answers_of_recorded_traffic_have_the_older_lists() -> None:
    body = {"successCount": 2, "failCount": 1, "invalidEmails": ["a@b.co"], "invalidUserIds": []}

    outcomes = judge(sealed(), answer(200, body)).outcomes
    assert [type(outcome) for outcome in outcomes] == [Permanent, Delivered, Delivered]
    assert {type(outcome) for outcome in judge(sealed(), answer(200, {})).outcomes} == {Delivered}


def test_who_is_forgotten_is_skipped_and_who_is_not_there_need_not_be_removed() -> None:
    body = {"successCount": 0, "failCount": 3, "failedUpdates": {
        "forgottenEmails": ["a@b.co"], "notFoundEmails": ["c@d.co"], "notFoundUserIds": ["u-1"]}}  # fmt: skip

    assert judge(sealed("remove"), answer(200, body)).outcomes == (
        Skipped("Iterable has forgotten the user for good"), Delivered(), Delivered(),
    )  # fmt: skip
    assert [type(outcome) for outcome in judge(sealed("add"), answer(200, body)).outcomes] == [
        Skipped, Permanent, Permanent,
    ]  # fmt: skip


def test_failures_without_a_name_divide_the_rest() -> None:
    body = {"successCount": 1, "failCount": 2, "failedUpdates": {"invalidEmails": ["a@b.co"]}}

    assert [type(outcome) for outcome in judge(sealed(), answer(200, body)).outcomes] == [Permanent, Divide, Divide]


@pytest.mark.parametrize(("status", "code", "kind"), [
    (400, "InvalidEmailAddressError", Divide), (400, "RequestFieldsTypesMismatched", Divide),
    (400, "BadParams", Divide),
    (400, "BatchTooLarge", Divide), (400, "UniqueFieldsLimitExceeded", Permanent), (401, "BadApiKey", Credentials),
    (403, "Forbidden", Credentials), (404, "NotFound", Gone), (409, "GenericError", Retry), (413, "", Divide),
    (429, "RateLimitExceeded", Retry), (500, "DatabaseError", Retry), (503, "", Retry),
])  # fmt: skip
def test_every_code_has_its_meaning(status: int, code: str, kind: type[object]) -> None:
    judgement = judge(sealed(), answer(status, {"msg": "a@b.co is bad", "code": code, "params": None}))

    assert {type(outcome) for outcome in judgement.outcomes} == {kind}
    assert "a@b.co" not in str(judgement)
    assert judgement.learned == ({"list_id": None} if kind is Gone else {})


def test_throttling_waits_seconds_or_as_long_as_it_is_told() -> None:
    body, reason = {"msg": "", "code": "RateLimitExceeded"}, "status 429, RateLimitExceeded"

    assert judge(sealed(), answer(429, body)).outcomes[0] == Retry(reason, 2_000)
    assert judge(sealed(), answer(429, body, retry_after="9")).outcomes[0] == Retry(reason, 9_000)


def test_what_is_not_json_and_no_answer_are_tried_again() -> None:
    assert isinstance(judge(sealed(), answer(200, b"<html>")).outcomes[0], Retry)
    assert isinstance(judge(sealed(), NoResponse("timeout", "late")).outcomes[0], Retry)
