from __future__ import annotations

import json
from typing import Any

import pytest

from destinations.braze.response import judge
from destinations.outcomes import Credentials, Delivered, Divide, Permanent, Retry
from destinations.records import Record, SealedBatch
from destinations.requests import NoResponse, Response

NOW_MS = 1_795_428_000_000


def answer(status: int, body: Any = None, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, NOW_MS)


def sealed(count: int = 3) -> SealedBatch:
    users = [f"u{number}" for number in range(count)]
    records = tuple(Record("t", "vip", 1, user, {}, "entered", 1, 0, "event", {}, "add") for user in users)
    return SealedBatch("b", "promo", b"{}", records)


def test_errors_by_index_are_about_their_objects_alone() -> None:
    body = {"message": "success", "attributes_processed": 1, "errors": [
        {"type": "'external_id' is required", "input_array": "attributes", "index": 1},
        {"type": "something is amiss", "input_array": "attributes", "index": 2},
        {"type": "far away", "input_array": "attributes", "index": 99},
    ]}  # fmt: skip

    assert judge(sealed(), answer(201, body), "attributes").outcomes == (
        Delivered(),
        Permanent("Braze refuses the object: an identifier is missing"),
        Retry("Braze refuses the object for now", attempts_max=5),
    )


@pytest.mark.parametrize("error", [{"type": "x"}, {"type": "x", "index": 0, "input_array": "events"}, {"index": True}])
def test_an_error_that_names_no_object_is_about_all(error: dict[str, Any]) -> None:
    judgement = judge(sealed(), answer(201, {"message": "success", "errors": [error]}), "attributes")

    assert {type(outcome) for outcome in judgement.outcomes} == {Retry}


def test_queued_is_accepted_and_noted() -> None:
    judgement = judge(sealed(1), answer(202, {"message": "queued"}), "attributes")

    assert (judgement.outcomes, judgement.notes) == ((Delivered(),), ("queued: Braze is being maintained",))


@pytest.mark.parametrize(("status", "body", "kind"), [
    (200, {"message": "fatal"}, Retry), (201, b"<html>", Retry), (400, {"message": "bad"}, Divide),
    (401, {}, Credentials), (403, {}, Credentials), (404, {}, Credentials), (413, {}, Divide), (429, {}, Retry),
    (500, {}, Retry), (503, {}, Retry),
])  # fmt: skip
def test_statuses(status: int, body: Any, kind: type[object]) -> None:
    assert {type(outcome) for outcome in judge(sealed(), answer(status, body), "attributes").outcomes} == {kind}


def test_the_reset_of_the_window_is_waited_for() -> None:
    reset = str(NOW_MS // 1000 + 2)

    throttled = judge(sealed(1), answer(429, {}, x_ratelimit_remaining="0", x_ratelimit_reset=reset), "attributes")
    last = judge(
        sealed(1), answer(201, {"message": "success"}, x_ratelimit_remaining="0", x_ratelimit_reset=reset), "attributes"
    )

    assert throttled.outcomes == (Retry("status 429: the rate limit is used up", 2_000),)
    assert (throttled.quiet_ms, last.quiet_ms, last.outcomes) == (2_000, 2_000, (Delivered(),))
    assert judge(sealed(1), answer(429, {}, x_ratelimit_reset="soon"), "x").outcomes[0] == Retry(
        "status 429: the rate limit is used up"
    )


def test_no_answer_is_tried_again() -> None:
    assert isinstance(judge(sealed(1), NoResponse("timeout", "late"), "events").outcomes[0], Retry)
