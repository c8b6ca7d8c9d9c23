from __future__ import annotations

import pytest

from destinations.answers import json_object, plain_failure
from destinations.outcomes import Credentials, Divide, Permanent, Retry
from destinations.requests import NoResponse, Response


def answer(status: int, body: bytes = b"", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, 1_000)


@pytest.mark.parametrize(("status", "kind"), [
    (200, type(None)), (204, type(None)), (302, Retry), (400, Permanent), (401, Credentials), (403, Credentials),
    (404, Permanent), (408, Retry), (409, Retry), (413, Divide), (425, Retry), (429, Retry), (500, Retry),
    (599, Retry),
])  # fmt: skip
def test_a_plain_status_has_a_plain_meaning(status: int, kind: type[object]) -> None:
    assert type(plain_failure(answer(status))) is kind


def test_retry_after_is_obeyed_and_no_answer_is_tried_again() -> None:
    assert plain_failure(answer(429, retry_after="7")) == Retry("status 429", 7_000)
    assert plain_failure(NoResponse("dns", "no such name")) == Retry("dns: no such name")


def test_only_an_object_is_an_object() -> None:
    assert json_object(answer(200, b'{"a": 1}')) == {"a": 1}
    for body in (b"", b"[]", b"<html>", b"\xff", b"null"):
        assert json_object(answer(200, body)) is None
    assert json_object(NoResponse("timeout", "")) is None
