"""Records to body bytes (interfaces.md "Webhook requests"), and body bytes to a signed request."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from destinations.records import Batch, Record, SealedBatch
from destinations.requests import Request
from destinations.signing import sign, signing_key
from destinations.times import iso_ms
from destinations.webhook.settings import WebhookSettings
from destinations.webhook.template import render, render_header

BODY_TYPE: Final = "audience.changes"
_encoder = msgspec.json.Encoder()


class _Change(msgspec.Struct, gc=False):
    transition_id: str
    audience_id: str
    audience_version: int
    user_id: str
    identifiers: dict[str, Any]
    kind: str
    at: str
    n: int
    cause: str
    traits: dict[str, Any]


class _Body(msgspec.Struct, gc=False):
    type: str
    sync: str
    changes: list[_Change]


def encode_body(settings: WebhookSettings, batch: Batch) -> bytes:
    """Give the exact bytes that every attempt sends. NaN and infinities become null."""
    changes = [_change(record) for record in batch.records]
    if settings.body is None:
        return _encoder.encode(_Body(BODY_TYPE, batch.sync, changes))
    shown: list[dict[str, Any]] = msgspec.to_builtins(changes)
    names: dict[str, Any] = {
        "type": BODY_TYPE,
        "sync": batch.sync,
        "batch_id": batch.id,
        "count": len(shown),
        "changes": shown,
    }
    if len(shown) == 1:
        names = {**shown[0], **names}
    return _encoder.encode(render(settings.body, names, shown))


def build_request(settings: WebhookSettings, sealed: SealedBatch, attempt_time_s: int) -> Request:
    """Give the request of one attempt: same id, same bytes, its own timestamp and signature."""
    names = {"type": BODY_TYPE, "sync": sealed.sync, "batch_id": sealed.id, "count": sealed.record_count}
    headers = {"content-type": "application/json", "user-agent": "usher-webhook/1"}
    for name, value in settings.headers.items():
        headers[name.lower()] = render_header(value.get_secret_value(), names)
    headers["webhook-id"] = sealed.id
    headers["webhook-timestamp"] = str(attempt_time_s)
    if settings.secret is not None:
        key = signing_key(settings.secret.get_secret_value())
        headers["webhook-signature"] = sign(key, sealed.id, attempt_time_s, sealed.body)
    return Request("POST", settings.url, headers, sealed.body, settings.timeout, settings.allow_private)


def _change(record: Record) -> _Change:
    return _Change(
        record.transition_id,
        record.audience_id,
        record.audience_version,
        record.user_id,
        record.identifiers,
        record.kind,
        iso_ms(record.at_ms),
        record.n,
        record.cause,
        record.traits,
    )
