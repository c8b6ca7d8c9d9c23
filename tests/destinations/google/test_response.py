from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf import json_format

from destinations.google.errors import quota_wait_ms
from destinations.google.response import POLL_EVERY_MS, judge, judge_poll
from destinations.outcomes import Credentials, Delivered, Divide, Finished, FollowUp, Gone, Permanent, Resend, Retry
from destinations.records import Record, SealedBatch
from destinations.requests import NoResponse, Response
from tests.destinations.google.server import api, error, violation, violations
from tests.destinations.vendor import Says

NOW_MS = 1_795_428_000_000


def answer(says: Says) -> Response:
    return Response(says.status, dict(says.headers), json.dumps(says.body).encode(), NOW_MS)


def sealed(count: int = 3) -> SealedBatch:
    users = [f"u{number}" for number in range(count)]
    records = tuple(Record("t", "vip", 1, user, {}, "entered", 1, 0, "event", {}, "add") for user in users)
    return SealedBatch("b", "promo", b"[]", records)


def test_what_is_accepted_is_followed_up() -> None:
    body = {"requestId": "req-7", "fieldWarnings": [
        {"reason": "WARNING_REASON_X", "description": "d", "field": "audience_members[1].consent"},
        {"reason": "WARNING_REASON_X", "description": "d", "field": "audience_members[2].consent"},
        {"reason": "jane@example.org", "field": "x"},
    ]}  # fmt: skip

    judgement = judge(sealed(), answer(Says(200, body)))

    assert judgement.outcomes == (Delivered(),) * 3
    assert judgement.follow_up == FollowUp("req-7", POLL_EVERY_MS)
    assert judgement.notes == ("2 warnings: WARNING_REASON_X at audience_members.consent",)
    assert isinstance(judge(sealed(), answer(Says(200, {}))).outcomes[0], Retry)


def test_a_member_that_is_not_sound_is_refused_and_the_others_go_again() -> None:
    faults = [
        {"field": "audience_members[1].composite_data", "description": "x", "reason": "INVALID_SHA256_FORMAT"},
        {"field": "audience_members[9].x", "description": "x", "reason": "Z"},
    ]

    judgement = judge(sealed(), answer(violations(faults)))

    rest = Resend("another member of the request was refused")
    assert judgement.outcomes == (rest, Permanent("Google refuses the member: INVALID_SHA256_FORMAT"), rest)
    assert judgement.request_id == "rq-1"


@pytest.mark.parametrize(("says", "kind"), [
    (error(409, "ABORTED", ""), Retry), (error(429, "RESOURCE_EXHAUSTED", ""), Retry),
    (error(500, "INTERNAL", ""), Retry), (error(503, "UNAVAILABLE", ""), Retry),
    (error(504, "DEADLINE_EXCEEDED", ""), Retry),
    (error(401, "UNAUTHENTICATED", ""), Credentials), (error(403, "PERMISSION_DENIED", ""), Credentials),
    (error(404, "NOT_FOUND", ""), Gone), (error(404, "", ""), Credentials),
    (violation("destinations[0].product_destination_id", "INVALID_USER_LIST_ID"), Gone),
    (violation("terms_of_service", "TERMS_AND_CONDITIONS_NOT_SIGNED"), Credentials),
    (violation("destinations[0].login_account", "OPERATING_ACCOUNT_LOGIN_ACCOUNT_MISMATCH"), Credentials),
    (violation("destinations[0]", "INVALID_USER_LIST_TYPE"), Credentials),
    (violation("destinations[0]", "NOT_ALLOWLISTED"), Credentials),
    (violation("x", "EU_POLITICAL_ADVERTISING_DECLARATION_REQUIRED"), Credentials),
    (violation("audience_members", "TOO_MANY_AUDIENCE_MEMBERS"), Divide), (violation("x", "NEW_REASON"), Divide),
    (Says(413, None), Divide), (Says(400, "odd"), Divide),
])  # fmt: skip
def test_every_class_of_the_table_has_its_meaning(says: Says, kind: type[object]) -> None:
    assert {type(outcome) for outcome in judge(sealed(), answer(says)).outcomes} == {kind}


def test_a_list_that_is_gone_is_forgotten() -> None:
    says = violation("destinations[0].product_destination_id", "INVALID_USER_LIST_ID")

    assert judge(sealed(), answer(says)).learned == {"user_list_id": None}


def test_quotas_by_the_minute_and_by_the_day_wait_as_long_as_they_last() -> None:
    def wait(quota: str) -> int | None:
        says = error(429, "RESOURCE_EXHAUSTED", "", reason="RATE_LIMIT_EXCEEDED", metadata={"quota_limit": quota})
        (outcome,) = judge(sealed(1), answer(says)).outcomes
        assert isinstance(outcome, Retry)
        return outcome.after_ms

    assert wait("IngestionMutateRequestsPerMinutePerProject") == 60_000
    day_ms = wait("IngestionMutateRequestsPerDayPerProject")
    assert day_ms is not None
    end = datetime.fromtimestamp((NOW_MS + day_ms) / 1000, ZoneInfo("America/Los_Angeles"))
    assert (end.hour, end.minute, end.second) == (0, 0, 0)
    assert 0 < day_ms <= 24 * 3_600_000


def test_a_day_on_which_clocks_change_is_as_long_as_it_is() -> None:
    zone = ZoneInfo("America/Los_Angeles")
    started = datetime(2026, 11, 1, tzinfo=zone)

    assert quota_wait_ms("PerDay", int(started.timestamp() * 1000)) == 25 * 3_600_000


def test_reasons_hold_names_of_enumerations_alone() -> None:
    says = error(400, "INVALID_ARGUMENT", "jane@example.org is bad", reason="jane@example.org")

    assert "jane" not in str(judge(sealed(), answer(says)))


def status(**state: Any) -> Response:
    body = {"requestStatusPerDestination": [state]}
    json_format.ParseDict(body, api.RetrieveRequestStatusResponse.pb()())
    return answer(Says(200, body))


def test_the_end_of_a_request_counts_what_came_to_nothing() -> None:
    counts = [{"recordCount": "2", "reason": "PROCESSING_ERROR_REASON_NO_CONSENT"}]
    warned = [{"recordCount": "1", "reason": "PROCESSING_WARNING_REASON_KEK_PERMISSION_DENIED"}]

    assert judge_poll(status(requestStatus="SUCCESS")) == Finished()
    errors, warnings = {"errorCounts": counts}, {"warningCounts": warned}
    assert judge_poll(status(requestStatus="PARTIAL_SUCCESS", errorInfo=errors, warningInfo=warnings)) == Finished(
        {"PROCESSING_ERROR_REASON_NO_CONSENT": 2}, ("1 members: PROCESSING_WARNING_REASON_KEK_PERMISSION_DENIED",)
    )
    assert isinstance(judge_poll(status(requestStatus="FAILED")), Permanent)


@pytest.mark.parametrize(("given", "kind"), [
    (status(requestStatus="PROCESSING"), Retry), (answer(Says(200, {})), Retry), (NoResponse("dns", ""), Retry),
    (answer(error(503, "UNAVAILABLE", "")), Retry), (answer(error(401, "UNAUTHENTICATED", "")), Credentials),
    (answer(error(400, "INVALID_ARGUMENT", "", reason="INVALID_REQUEST_ID")), Permanent),
    (answer(error(404, "NOT_FOUND", "")), Permanent),
])  # fmt: skip
def test_polling_goes_on_until_there_is_an_end(given: Response | NoResponse, kind: type[object]) -> None:
    assert type(judge_poll(given)) is kind
