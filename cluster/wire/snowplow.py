"""Snowplow's tracker protocol v2: request bodies and queries to envelopes, by the application that sent each event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cluster.errors import WireError
from cluster.wire.envelope import RawEvents
from cluster.wire.events import INVALID, ReadEvents, acceptable, sift
from cluster.wire.repair import repair, valid_utf8
from cluster.wire.snowplow_events import time_ms, translate

_SEGMENT: Final = 1
#: How the schemas of request bodies begin.
PAYLOAD_SCHEMA: Final = "iglu:com.snowplowanalytics.snowplow/payload_data/"
_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXTS: msgspec.json.Decoder[dict[str, str | None]] = msgspec.json.Decoder(dict[str, str | None])
_TEXT: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)


class _Payload(msgspec.Struct):
    schema: str
    data: list[msgspec.Raw]


_PAYLOADS: msgspec.json.Decoder[_Payload] = msgspec.json.Decoder(_Payload)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says beside its body: the query's fields, the `sp` cookie, and whether to keep no address."""

    query: Mapping[str, str]
    network_id: str | None = None
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class SnowplowRequest:
    """One request's events as JSON texts by application (`aid`, "" for none), each list in the order they were made.

    `rejected` counts those that are no events.
    """

    texts: Mapping[str, list[bytes]]
    rejected: int

    def events(self, application: str, source: str) -> ReadEvents:
        """Give an application's events for the envelope; reports of single events have no place in this protocol."""
        texts = self.texts[application]
        return ReadEvents(RawEvents(texts, _SEGMENT, source), range(len(texts)), [])


def read_query(asked: Asked, new_message_id: Callable[[], str]) -> SnowplowRequest:
    """Read a GET: the query is the event. Raises WireError 400 for a query that is none."""
    if "e" not in asked.query:
        message = "The query holds no Snowplow event: it has no `e`."
        raise WireError(400, "invalid_request", message)
    return _gather([dict(asked.query)], 0, asked, new_message_id)


def read_payload(body: bytes, asked: Asked, new_message_id: Callable[[], str]) -> SnowplowRequest:
    """Read an inflated POST body. Fields of the query go before those of every event. A bad event is refused alone.

    Raises WireError 400 for what is no payload, 413 for too many events.
    """
    text = valid_utf8(body)
    try:
        payload = _PAYLOADS.decode(text)
    except (ValueError, RecursionError):
        payload = _repaired(text)
    if not payload.schema.startswith(PAYLOAD_SCHEMA):
        message = f"The body's schema is {payload.schema[:100]!r}; this path takes {PAYLOAD_SCHEMA}jsonschema/1-0-4."
        raise WireError(400, "invalid_request", message)
    raw, _, rejected = sift([bytes(event) for event in payload.data])
    events: list[dict[str, str]] = []
    for event in raw:
        try:
            fields = _fields(event)
        except (ValueError, RecursionError):
            rejected.append((len(events), INVALID))
            continue
        events.append({**{key: value for key, value in fields.items() if value is not None}, **asked.query})
    return _gather(events, len(rejected), asked, new_message_id)


def _repaired(text: bytes) -> _Payload:
    try:
        return _PAYLOADS.decode(repair(text).text)
    except msgspec.ValidationError as error:
        message = f"The body is no Snowplow payload: {error}."
        raise WireError(400, "invalid_request", message) from error
    except (ValueError, RecursionError) as error:
        message = f"The body cannot be read as JSON: {error}."
        raise WireError(400, "invalid_json", message) from error


def _fields(event: bytes) -> dict[str, str | None]:
    """Give an event's fields as texts; all of them are, from a tracker."""
    try:
        return _TEXTS.decode(event)
    except msgspec.ValidationError:
        return {key: _text(value) for key, value in _FIELDS.decode(event).items()}


def _text(value: msgspec.Raw) -> str | None:
    """Give a field as text: trackers write strings alone, other senders numbers too, which stay as they are."""
    raw = bytes(value)
    if raw == b"null":
        return None
    return _TEXT.decode(raw) if raw.startswith(b'"') else raw.decode()


def _gather(
    events: list[dict[str, str]], rejected: int, asked: Asked, new_message_id: Callable[[], str]
) -> SnowplowRequest:
    texts: defaultdict[str, list[bytes]] = defaultdict(list)
    for fields in _in_order(events):
        try:
            text = translate(fields, new_message_id, network_id=asked.network_id, anonymous=asked.anonymous)
        except ValueError:
            rejected += 1
            continue
        if acceptable(text):
            texts[fields.get("aid", "")].append(text)
        else:
            rejected += 1  # what was packed into a field is nested too deeply, or too large with it
    return SnowplowRequest(texts, rejected)


def _in_order(events: list[dict[str, str]]) -> list[dict[str, str]]:
    """Sort by the trackers' clock: events whose time cannot be told get the same one, that of their reception."""
    made: list[Any] = [time_ms(fields.get("dtm")) for fields in events]
    if None in made or len(events) < 2:
        return events
    return [events[index] for index in sorted(range(len(events)), key=made.__getitem__)]
