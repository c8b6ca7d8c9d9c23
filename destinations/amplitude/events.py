"""Entries and exits as events, over the HTTP API: what is sent, and what is said of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from destinations.amplitude.settings import EVENT_HOSTS, EVENTS_VERSION, AmplitudeSettings
from destinations.answers import json_object, plain_failure
from destinations.outcomes import (
    Credentials,
    Delivered,
    Failure,
    Judgement,
    Outcome,
    Permanent,
    Resend,
    Retry,
    for_all,
)
from destinations.records import Batch, Record, SealedBatch
from destinations.requests import LONG_ANSWER_BYTES_MAX, Answer, Request, Response

EVENTS_MAX: Final = 2_000
#: An older text of the documentation has this limit; a larger body is answered with 413.
BYTES_MAX: Final = 1_000_000
#: Brackets here; the key and the options come when a request is built.
BYTES_AROUND: Final = 2
#: How long Amplitude asks throttled senders to wait.
THROTTLED_MS: Final = 30_000
#: Longer texts are cut by Amplitude's own libraries, and refused by its API.
_TEXT_CHARS_MAX: Final = 1_024


def encode(settings: AmplitudeSettings, batch: Batch) -> bytes:
    """Give the JSON array of events."""
    return msgspec.json.encode([event(settings, record) for record in batch.records])


def event(settings: AmplitudeSettings, record: Record) -> dict[str, Any]:
    """Give one event. What the sync lists as traits goes along as event properties."""
    inside = record.verb == "add"
    traits = {name: _cut(value) for name, value in record.traits.items() if value is not None}
    made: dict[str, Any] = {
        **record.identifiers,
        "event_type": settings.entered_event if inside else settings.exited_event,
        "time": record.at_ms,
        "insert_id": insert_id(record),
        "event_properties": {
            **traits,
            "audience": record.audience_id,
            "cause": record.cause,
            "transition_id": record.transition_id,
        },
    }
    if settings.property_prefix is not None:
        made["user_properties"] = {"$set": {settings.property_prefix + record.audience_id: inside}}
    return made


def insert_id(record: Record) -> str:
    """Give Amplitude's key of deduplication.

    A member whose identifiers change is told of again under the same transition: the identifiers are part of it.
    """
    named = hashlib.blake2b(msgspec.json.encode(record.identifiers, order="sorted"), digest_size=8)
    return f"{record.transition_id}-{record.verb}-{named.hexdigest()}"


def size_bytes(settings: AmplitudeSettings, record: Record) -> int:
    """Give the bytes of an event and a comma."""
    return len(msgspec.json.encode(event(settings, record))) + 1


def build(settings: AmplitudeSettings, sealed: SealedBatch) -> Request:
    """Give the request; every attempt is the same. Ids of any length are allowed: some people's are short."""
    body = msgspec.json.encode({
        "api_key": settings.api_key.get_secret_value(),
        "events": msgspec.Raw(sealed.body),
        "options": {"min_id_length": 1},
    })  # fmt: skip
    headers = {"content-type": "application/json", "accept": "application/json"}
    url = settings.url(EVENT_HOSTS[settings.region], f"/{EVENTS_VERSION}/httpapi")
    return Request("POST", url, headers, body, settings.timeout, settings.allow_private, LONG_ANSWER_BYTES_MAX)


def judge(sealed: SealedBatch, answer: Answer) -> Judgement:
    """Give an outcome per event. An answer of 400 or 429 took none: those it does not name go again."""
    count, body = sealed.record_count, json_object(answer) or {}
    status = answer.status if isinstance(answer, Response) else 0
    if status == 429:
        return Judgement(tuple(_throttled(sealed, body)))
    if status == 400:
        return _refused(body, count)
    failure: Failure | None = plain_failure(answer)
    return for_all(failure or Delivered(), count)


def _refused(body: Mapping[str, Any], count: int) -> Judgement:
    error = body.get("error")
    if isinstance(error, str) and error.lower().startswith("invalid api key"):
        return for_all(Credentials("status 400: the API key is not valid"), count)
    named = {index: reason for index, reason in _named(body) if 0 <= index < count}
    if not named:
        return for_all(Permanent("status 400: Amplitude refuses the request"), count)
    rest = Resend("another event of the request was refused")
    return Judgement(tuple(named.get(index, rest) for index in range(count)))


def _named(body: Mapping[str, Any]) -> Iterator[tuple[int, Outcome]]:
    for name, reason in (
        ("events_with_invalid_fields", "a field is invalid"),
        ("events_with_missing_fields", "a field is missing"),
        ("events_with_invalid_id_lengths", "an id is too short or too long"),
    ):
        fields = body.get(name)
        for indexes in fields.values() if isinstance(fields, dict) else ():
            yield from ((index, Permanent(f"Amplitude refuses the event: {reason}")) for index in _ints(indexes))
    silenced = Permanent("Amplitude refuses the event: its user or device is silenced")
    yield from ((index, silenced) for index in _ints(body.get("silenced_events")))


def _throttled(sealed: SealedBatch, body: Mapping[str, Any]) -> Iterator[Outcome]:
    throttled = set(_ints(body.get("throttled_events")))
    users, devices = body.get("exceeded_daily_quota_users"), body.get("exceeded_daily_quota_devices")
    for index, record in enumerate(sealed.records):
        used_up = (isinstance(users, dict) and record.identifiers.get("user_id") in users) or (
            isinstance(devices, dict) and record.identifiers.get("device_id") in devices
        )
        if index in throttled and used_up:
            yield Permanent("the user's daily quota of events at Amplitude is used up")
        else:
            # Amplitude slows the whole project down: events it did not name need not hurry either.
            yield Retry("status 429: throttled", THROTTLED_MS)


def _ints(value: object) -> Iterator[int]:
    for item in value if isinstance(value, list) else ():
        if isinstance(item, int) and not isinstance(item, bool):
            yield item


def _cut(value: Any) -> Any:
    return value[:_TEXT_CHARS_MAX] if isinstance(value, str) else value
