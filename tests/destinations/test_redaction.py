from __future__ import annotations

import json
import time
from urllib.parse import urlencode

import pytest

from destinations.redaction import MASK, masked, masked_text, shown_request, texts_of
from destinations.requests import Request


@pytest.mark.parametrize(("body", "hidden"), [
    (b'{"user": "user_42"}', "user_42"),
    (json.dumps({"name": 'O"Brien\n'}).encode(), 'O"Brien\n'),
    (json.dumps({"name": "J\u00fcrgen"}).encode(), "J\u00fcrgen"),
    ('{"name": "J\u00fcrgen"}'.encode(), "J\u00fcrgen"),
    (urlencode({"a": "x&y z"}).encode(), "x&y z"),
    (b"Key T0PS3CRET refused", "t0ps3cret"),
])  # fmt: skip
def test_hidden_texts_are_masked_in_every_escaping_and_case(body: bytes, hidden: str) -> None:
    shown = masked(body, [hidden], chars_max=1000)

    assert MASK in shown
    assert hidden.lower() not in shown.lower()


@pytest.mark.parametrize("text", ["invalid: Jane.Doe+x@Example.org!", "email=jane.doe%40example.org", "a@b.co"])
def test_an_address_is_masked_though_nobody_named_it(text: str) -> None:
    shown = masked_text(text, [])

    assert MASK in shown
    assert "example" not in shown.lower()


def test_a_cut_never_leaves_the_first_half_of_a_secret() -> None:
    secret = "s3cr3t" * 5
    body = b"abcdefgh" + secret.encode() + b" tail"

    for chars_max in range(8, 50):
        assert "s3c" not in masked(body, [secret], chars_max=chars_max)
    assert masked(b"ab" + secret.encode() + secret.encode() + b"cd", [secret], chars_max=100) == "ab******cd"


def test_overlapping_texts_are_masked_whole() -> None:
    assert masked(b"x abcdef y", ["abcd", "cdef", "bc"], chars_max=100) == "x *** y"


def test_short_texts_stay_because_masking_them_leaves_nothing_to_read() -> None:
    assert masked(b"status: ok", ["a", "us", ""], chars_max=100) == "status: ok"


def test_a_batch_of_ten_thousand_costs_little() -> None:
    hidden = [f"user_{number}" for number in range(10_000)]
    body = json.dumps(hidden).encode()

    before = time.process_time()
    shown = masked(body, hidden, chars_max=1000)

    assert time.process_time() - before < 2.0
    assert "user_" not in shown


def test_texts_of_nested_values() -> None:
    assert list(texts_of({"a": "x", "b": [1, True, None, {"c": "y"}], "d": 2.5})) == ["x", "1", "y", "2.5"]


def test_a_request_shows_what_is_plain_alone() -> None:
    request = Request(
        "POST",
        "https://user:pass@api.example.org/v1/user_42/x?token=t0p",
        {"authorization": "Bearer t0ps3cret", "content-type": "application/json", "x-mine": "v"},
        b'{"id": "user_42", "n": 1}',
        1000,
    )

    assert shown_request(request, ["t0ps3cret", "user_42"], chars_max=100) == {
        "method": "POST",
        "url": "https://api.example.org/v1/***/x",
        "headers": {"authorization": MASK, "content-type": "application/json", "x-mine": MASK},
        "body_bytes": 25,
        "body": '{"id": "***", "n": 1}',
    }
