from __future__ import annotations

import json
import time
from typing import Any

from pydantic import SecretStr
from standardwebhooks import Webhook

from destinations.records import Batch, Record, SealedBatch
from destinations.webhook.payload import build_request, encode_body
from destinations.webhook.settings import WebhookSettings

URL = "https://example.com/hook"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT_MS = 1_795_428_000_123


def record(user: str = "user_42", **changed: Any) -> Record:
    values: dict[str, Any] = {
        "transition_id": "t-" + user, "audience_id": "hide_promo", "audience_version": 3, "user_id": user,
        "identifiers": {"user_id": user}, "kind": "entered", "at_ms": AT_MS, "n": 0, "cause": "event", "traits": {},
        "verb": "add",
    }  # fmt: skip
    return Record(**{**values, **changed})


def body_of(settings: WebhookSettings, *records: Record) -> Any:
    return json.loads(encode_body(settings, Batch("msg_1", "promo", records)))


def test_the_default_body_is_the_documented_one_key_by_key() -> None:
    body = encode_body(WebhookSettings(url=URL), Batch("msg_1", "promo", (record(),)))

    assert body == (
        b'{"type":"audience.changes","sync":"promo","changes":[{"transition_id":"t-user_42",'
        b'"audience_id":"hide_promo","audience_version":3,"user_id":"user_42","identifiers":{"user_id":"user_42"},'
        b'"kind":"entered","at":"2026-11-23T10:00:00.123Z","n":0,"cause":"event","traits":{}}]}'
    )


def test_template_values_stay_values_whatever_they_hold() -> None:
    evil = '", "admin": true, "x": "{{ sync }}\n'
    settings = WebhookSettings(url=URL, body={
        "list": "{{ sync }}",
        "rows": {"for_each": {"id": "{{ user_id }}", "v": "{{ audience_version }}", "say": "{{ kind }}: {{ user_id }}",
                              "mail": "{{ identifiers.email }}", "none": "{{ traits.missing }}"}},
        "fixed": [1, None, True],
    })  # fmt: skip

    body = body_of(settings, record(evil, identifiers={"email": evil}))

    assert body == {
        "list": "promo",
        "rows": [{"id": evil, "v": 3, "say": f"entered: {evil}", "mail": evil, "none": None}],
        "fixed": [1, None, True],
    }


def test_a_single_change_template_sees_the_change() -> None:
    settings = WebhookSettings(url=URL, body={"user": "{{ user_id }}", "n": "{{ count }}", "id": "{{ batch_id }}"})

    assert body_of(settings, record()) == {"user": "user_42", "n": 1, "id": "msg_1"}


def test_a_request_is_verified_by_the_reference_library() -> None:
    settings = WebhookSettings(url=URL, secret=SecretStr(SECRET), headers={"X-Sync": SecretStr("{{ sync }}")})
    sealed = SealedBatch("msg_1", "promo", encode_body(settings, Batch("msg_1", "promo", (record(),))), (record(),))

    request = build_request(settings, sealed, int(time.time()))

    assert Webhook(SECRET).verify(request.body, dict(request.headers))["sync"] == "promo"
    assert request.headers["x-sync"] == "promo"
    assert (request.method, request.url, request.timeout_ms) == ("POST", URL, 15_000)


def test_attempts_differ_in_timestamp_and_signature_alone() -> None:
    settings = WebhookSettings(url=URL, secret=SecretStr(SECRET))
    sealed = SealedBatch("msg_1", "promo", b"{}", (record(),))

    first, second = build_request(settings, sealed, 1000), build_request(settings, sealed, 1060)

    assert first.body == second.body
    changed = {name for name in first.headers if first.headers[name] != second.headers[name]}
    assert changed == {"webhook-timestamp", "webhook-signature"}


def test_without_a_secret_there_is_no_signature() -> None:
    request = build_request(WebhookSettings(url=URL), SealedBatch("msg_1", "promo", b"{}", (record(),)), 1000)

    assert "webhook-signature" not in request.headers
    assert request.headers["webhook-id"] == "msg_1"
