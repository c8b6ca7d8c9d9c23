"""Which write key counts."""

from __future__ import annotations

import base64

import pytest

from cluster.errors import WireError
from cluster.wire.write_keys import write_key_of


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(("authorization", "body", "event", "query", "key"), [
    (basic("k:"), None, None, None, "k"),
    (basic("k"), None, None, None, "k"),
    (basic("k:secret").replace("Basic", "basic"), "k", None, None, "k"),
    (basic(":"), "b", None, None, "b"),
    ("Bearer token", "b", None, None, "b"),
    (None, "b", "e", "q", "b"),
    (None, None, "e", "q", "e"),
    (None, None, None, "q", "q"),
    (basic("k:"), None, None, "q", "k"),
    (None, None, None, None, None),
])
def test_header_then_body_then_first_event_then_query(
    authorization: str | None, body: str | None, event: str | None, query: str | None, key: str | None
) -> None:
    assert write_key_of(authorization, body, event, query) == key


@pytest.mark.parametrize(("authorization", "body", "event", "code"), [
    (basic("k:"), "other", None, "write_key_mismatch"), (basic("k:"), None, "other", "write_key_mismatch"),
    ("Basic ###", None, None, "invalid_authorization"), ("Basic /w==", None, None, "invalid_authorization"),
])
def test_a_contradiction_or_unreadable_credentials_are_401(
    authorization: str, body: str | None, event: str | None, code: str
) -> None:
    with pytest.raises(WireError) as caught:
        write_key_of(authorization, body, event, None)
    assert (caught.value.status, caught.value.code) == (401, code)
