"""Records of topics to envelopes: the shape of each says what it is, its place in the topic names and dates its events.

| record | read as |
|---|---|
| `{"batch": […]}` | a batch of SDK events |
| `{"schema": …, "data": […]}` | a Snowplow payload |
| `{"e": …, "tv": …}` | one Snowplow event |
| `{"type": …}` with `user_id`, `anonymous_id` or `message_id` | one canonical event |
| `{"type": …}` | one SDK event |

An event without an id is named by its record's topic, partition and offset, so that a record read twice counts once.
Times are fixed here: a record may be read long after it was written, and the skew of a sender's clock is told by when
the event was received, which the record (`receivedAt`) or the broker says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cluster.errors import WireError
from cluster.limits import BODY_BYTES_MAX
from cluster.model.values import SECONDS_MAX, coerce_timestamp
from cluster.wire.events import acceptable
from cluster.wire.repair import repair, valid_utf8
from cluster.wire.segment import read_request
from cluster.wire.snowplow import PAYLOAD_SCHEMA, Asked, read_payload

_NATIVE, _SEGMENT, _RUDDERSTACK = 0, 1, 2
_CANONICAL: Final = frozenset({"user_id", "anonymous_id", "message_id", "group_id", "previous_id"})
_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Unreadable(Exception):
    """The record holds no event. The message is the reason: short, and the same for the same fault."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record's events, all of one format; `rejected` counts those of them that are none."""

    texts: list[bytes]
    fmt: int
    rejected: int = 0


def read_record(value: bytes | None, place: str, received_ms: int) -> Record:
    """Read one record. `place` names it, `received_ms` is when the broker got it. Raises Unreadable."""
    if not value:
        message = "empty"
        raise Unreadable(message)
    if len(value) > BODY_BYTES_MAX:
        message = "too_large"
        raise Unreadable(message)
    text, fields = _parsed(value)
    names = _names(place)
    try:
        if bytes(fields.get("batch", b"")).startswith(b"["):
            return _batch(text, names, received_ms)
        if "schema" in fields and "data" in fields:
            return _snowplow(text, names, received_ms)
        if "e" in fields and "tv" in fields:
            payload = b'{"schema":"%bjsonschema/1-0-4","data":[%b]}' % (PAYLOAD_SCHEMA.encode(), text)
            return _snowplow(payload, names, received_ms)
    except WireError as error:
        raise Unreadable(error.code) from error
    if "type" not in fields:
        message = "no_event"
        raise Unreadable(message)
    if not acceptable(text):
        message = "invalid"
        raise Unreadable(message)
    if not _CANONICAL.isdisjoint(fields):
        return Record([_canonical(fields, next(names), received_ms)], _NATIVE)
    fmt = _RUDDERSTACK if _value(fields, "channel").__class__ is str else _SEGMENT
    return Record([_dated(fields, fmt, None, received_ms, next(names))], fmt)


def _parsed(value: bytes) -> tuple[bytes, dict[str, msgspec.Raw]]:
    text = valid_utf8(value).strip()
    try:
        try:
            return text, _FIELDS.decode(text)
        except ValueError:
            text = repair(text).text
            return text, _FIELDS.decode(text)
    except msgspec.ValidationError as error:
        message = "no_event"
        raise Unreadable(message) from error
    except (ValueError, RecursionError) as error:
        message = "invalid_json"
        raise Unreadable(message) from error


def _names(place: str) -> Iterator[str]:
    yield place
    number = 1
    while True:
        yield f"{place}/{number}"
        number += 1


def _batch(text: bytes, names: Iterator[str], received_ms: int) -> Record:
    read = read_request(text, "batch", lambda: next(names))
    fmt = _RUDDERSTACK if read.channel else _SEGMENT
    texts = [_dated(_FIELDS.decode(event), fmt, read.sent_at_ms, received_ms, "") for event in read.texts]
    return Record(texts, fmt, len(read.rejected))


def _snowplow(text: bytes, names: Iterator[str], received_ms: int) -> Record:
    read = read_payload(text, Asked({}), lambda: next(names))
    events = [event for texts in read.texts.values() for event in texts]
    dated = [_dated(_FIELDS.decode(event), _SEGMENT, None, received_ms, "") for event in events]
    return Record(dated, _SEGMENT, read.rejected)


def _canonical(fields: dict[str, msgspec.Raw], name: str, received_ms: int) -> bytes:
    new: dict[str, Any] = dict(fields)
    if not _value(fields, "message_id"):
        new["message_id"] = name
    if coerce_timestamp(_value(fields, "timestamp")) is None:
        new["timestamp"] = _received(fields, "received_at", received_ms)
    return msgspec.json.encode(new)


def _dated(
    fields: dict[str, msgspec.Raw], fmt: int, batch_sent_ms: int | None, received_ms: int, name: str
) -> bytes:
    """Give an SDK's event with its time as one fixed instant, by the rules of its format."""
    new: dict[str, Any] = dict(fields)
    if name and not _value(fields, "messageId"):
        new["messageId"] = name
    at_ms = _instant(fields, fmt, batch_sent_ms, received_ms)
    if abs(at_ms) > SECONDS_MAX:  # a smaller number would be read as seconds
        new |= {"timestamp": at_ms, "originalTimestamp": at_ms}
        new.pop("sentAt", None)
    return msgspec.json.encode(new)


def _instant(
    fields: dict[str, msgspec.Raw], fmt: int, batch_sent_ms: int | None, received_ms: int
) -> int:
    said = coerce_timestamp(_value(fields, "timestamp"))
    original = coerce_timestamp(_value(fields, "originalTimestamp"))
    through_a_pipeline = coerce_timestamp(_value(fields, "receivedAt")) is not None
    if said is not None and (through_a_pipeline or fmt == _RUDDERSTACK):
        return said  # corrected already
    received_ms = _received(fields, "receivedAt", received_ms)
    started = said if original is None else original
    sent = coerce_timestamp(_value(fields, "sentAt"))
    sent = batch_sent_ms if sent is None else sent
    if started is None:
        return received_ms
    return started if sent is None else received_ms - (sent - started)


def _received(fields: dict[str, msgspec.Raw], key: str, received_ms: int) -> int:
    said = coerce_timestamp(_value(fields, key))
    return received_ms if said is None else said


def _value(fields: dict[str, msgspec.Raw], key: str) -> Any:
    raw = fields.get(key)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None  # a number out of range: as good as none
