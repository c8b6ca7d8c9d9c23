"""Subscribers to the array that a batch stores, and the array to a request."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from destinations.iterable.settings import HOSTS, IterableSettings
from destinations.records import Batch, Record, Verb
from destinations.requests import LONG_ANSWER_BYTES_MAX, Request

#: Brackets here; the list's id and the flags come when a request is built.
BYTES_AROUND: Final = 2


def subscriber(record: Record) -> dict[str, Any]:
    """Give one subscriber; what the sync lists as traits goes along with an entry as data fields."""
    found: dict[str, Any] = dict(record.identifiers)
    fields = {name: value for name, value in record.traits.items() if value is not None}
    if record.verb == "add" and fields:
        found["dataFields"] = fields
    return found


def encode(batch: Batch) -> bytes:
    """Give the JSON array: the list's id is not known yet."""
    return msgspec.json.encode([subscriber(record) for record in batch.records])


def size_bytes(record: Record) -> int:
    """Give the bytes of a subscriber and a comma."""
    return len(msgspec.json.encode(subscriber(record))) + 1


def change_request(settings: IterableSettings, verb: Verb, list_id: int, subscribers: bytes) -> Request:
    """Subscribe or unsubscribe.

    `channelUnsubscribe` is always said to be false: were it true, an exit would opt the user out of a whole channel.
    """
    body: dict[str, Any] = {"listId": list_id, "subscribers": msgspec.Raw(subscribers)}
    if verb == "remove":
        body["channelUnsubscribe"] = False
    elif settings.project != "email":
        body["updateExistingUsersOnly"] = not settings.create_users
    path = "/api/lists/subscribe" if verb == "add" else "/api/lists/unsubscribe"
    return api_request(settings, "POST", path, msgspec.json.encode(body))


def api_request(
    settings: IterableSettings, method: str, path: str, body: bytes = b"", *, timeout_ms: int | None = None
) -> Request:
    """Give a request with the project's key."""
    headers = {"api-key": settings.api_key.get_secret_value(), "accept": "application/json"}
    if body:
        headers["content-type"] = "application/json"
    url = settings.url(HOSTS[settings.region], path)
    timeout_ms = timeout_ms or settings.timeout
    return Request(method, url, headers, body, timeout_ms, settings.allow_private, LONG_ANSWER_BYTES_MAX)
