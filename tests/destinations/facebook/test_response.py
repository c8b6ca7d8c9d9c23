from __future__ import annotations

import json
from typing import Any

import pytest

from destinations.facebook.errors import BLOCKED_MS, failure_of, quiet_ms, trace_id
from destinations.facebook.response import judge
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Permanent, Retry
from destinations.records import Record, SealedBatch
from destinations.requests import NoResponse, Response

HASH = "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"


def answer(status: int, body: Any, **headers: Any) -> Response:
    texts = {name.replace("_", "-"): json.dumps(value) for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, texts, raw, 1_000)


def failed(code: object, status: int = 400, subcode: int | None = None, **more: Any) -> Response:
    error = {"message": "m", "type": "OAuthException", "code": code, "error_subcode": subcode, **more}
    return answer(status, {"error": error})


def sealed(*rows: dict[str, str]) -> SealedBatch:
    records = tuple(
        Record("t", "vip", 1, f"u{number}", dict(row), "entered", 1, 0, "event", {}, "add")
        for number, row in enumerate(rows)
    )
    return SealedBatch("b", "promo", b"", records)


@pytest.mark.parametrize(("code", "subcode", "kind"), [
    (4, 1504022, Retry), (17, 2446079, Retry), (32, None, Retry), (341, None, Retry), (613, 1487742, Retry),
    (80000, None, Retry), (80003, None, Retry), (80014, None, Retry),
    (1, None, Retry), (2, None, Retry), (368, None, Retry), (5000, None, Retry), (21009, None, Retry),
    (102, None, Credentials), (190, 460, Credentials), (3, None, Credentials), (10, None, Credentials),
    (200, None, Credentials), (294, None, Credentials), (2655, None, Credentials), (1487301, None, Credentials),
    (100, 1713230, Credentials), (100, 33, Gone), (1487366, None, Gone),
    (100, None, Divide), (105, None, Permanent), (2650, None, Permanent),
])  # fmt: skip
def test_every_code_of_the_table_has_its_meaning(code: int, subcode: int | None, kind: type[object]) -> None:
    for status in (200, 400):
        assert type(failure_of(failed(code, status, subcode))) is kind


def test_throttling_waits_as_long_as_the_header_says_and_minutes_without_one() -> None:
    body = {"error": {"code": 80003}}
    usage = {"1": [{"type": "custom_audience", "call_count": 100, "estimated_time_to_regain_access": 7}]}

    assert failure_of(answer(400, body, x_business_use_case_usage=usage)) == Retry("code 80003: throttled", 420_000)
    assert failure_of(answer(400, body)) == Retry("code 80003: throttled", BLOCKED_MS)


def test_what_meta_calls_transient_is_tried_again_as_is_what_is_not_json() -> None:
    assert isinstance(failure_of(failed(99999, 400, None, is_transient=True)), Retry)
    assert isinstance(failure_of(failed(99999, 500)), Retry)
    assert isinstance(failure_of(answer(200, b"<html>hello</html>")), Retry)
    assert isinstance(failure_of(answer(200, {"error": "odd"})), Retry)
    assert isinstance(failure_of(NoResponse("timeout", "late")), Retry)
    assert isinstance(failure_of(answer(413, b"")), Divide)


def test_an_audience_that_is_gone_is_forgotten() -> None:
    judgement = judge(sealed({"EMAIL": HASH}), failed(100, 400, 33))

    assert judgement.learned == {"audience_id": None}
    assert isinstance(judgement.outcomes[0], Gone)


def test_a_recorded_partial_failure_is_answered_per_row() -> None:
    batch = sealed({"EXTERN_ID": "", "EMAIL": HASH}, {"EXTERN_ID": "x2", "EMAIL": HASH})
    recorded = {"audience_id": "238", "session_id": "1", "num_received": 2, "num_invalid_entries": 1,
                "invalid_entry_samples": {f'["","{HASH}"]': "empty external ID"}}  # fmt: skip

    assert judge(batch, answer(200, recorded)).outcomes == (
        Permanent("Meta refuses the entry: empty external ID"), Delivered(),
    )  # fmt: skip


def test_invalid_entries_that_samples_do_not_name_divide_the_rest() -> None:
    batch = sealed({"EMAIL": "a"}, {"EMAIL": "b"}, {"EMAIL": "c"})
    body = {"num_received": 3, "num_invalid_entries": 2, "invalid_entry_samples": {'["b"]': "Jane <j@example.org>"}}

    assert judge(batch, answer(200, body)).outcomes == (
        Divide("an invalid entry that Meta does not name"),
        Permanent("Meta refuses the entry: invalid entry"),
        Divide("an invalid entry that Meta does not name"),
    )


@pytest.mark.parametrize("body", [{}, {"num_received": 1}, {"num_received": "2"}, {"num_received": True}])
def test_rows_that_were_not_received_are_tried_again(body: dict[str, Any]) -> None:
    assert {type(outcome) for outcome in judge(sealed({"EMAIL": "a"}, {"EMAIL": "b"}), answer(200, body)).outcomes} == {
        Retry
    }


@pytest.mark.parametrize("samples", [None, [], {"x": 1}, {"[1]": "y"}, {'{"a": 1}': "z"}])
def test_samples_that_cannot_be_read_name_nobody(samples: object) -> None:
    body = {"num_received": 1, "num_invalid_entries": 1, "invalid_entry_samples": samples}

    assert isinstance(judge(sealed({"EMAIL": "a"}), answer(200, body)).outcomes[0], Divide)


@pytest.mark.parametrize(("percent", "expected_ms"), [(0, 0), (74, 0), (75, 0), (80, 12_000), (100, 60_000)])
def test_from_three_quarters_of_a_limit_requests_are_spaced_out(percent: int, expected_ms: int) -> None:
    assert quiet_ms(answer(200, {}, x_ad_account_usage={"acc_id_util_pct": percent})) == expected_ms
    assert quiet_ms(answer(200, {}, x_app_usage={"call_count": percent, "total_time": 1})) == expected_ms


@pytest.mark.parametrize("value", [None, 7, [], {"a": 1}, {"a": ["b", {"call_count": True}]}])
def test_usage_headers_that_cannot_be_read_ask_for_nothing(value: object) -> None:
    assert quiet_ms(answer(200, {}, x_business_use_case_usage=value)) == 0
    assert quiet_ms(Response(200, {"x-app-usage": "<html>"}, b"", 1)) == 0
    assert quiet_ms(NoResponse("dns", "")) == 0


def test_the_trace_id_names_the_request() -> None:
    assert trace_id(Response(200, {"x-fb-trace-id": "AbC"}, b"", 1)) == "AbC"
    assert trace_id(NoResponse("dns", "")) == ""
