"""A decoded record as an event: SDKs' events and batches as they are in JSON; any other record is a row, as in a file.

A row's fields that are named as fields of events, and can be those, are those; all others become properties. Without
`type` it is a `track`, without `event` the record's own name is the event's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from cluster.ingest.shaping import ALIASES
from cluster.model.values import coerce_timestamp
from cluster.wire.events import INVALID, acceptable
from cluster.wire.records import Record, Unreadable, read_record
from cluster.wire.snowplow import PAYLOAD_SCHEMA

_NATIVE: Final = 0
_KINDS: Final = ("track", "identify", "page", "screen", "group", "alias")
# Times become RFC 3339, bytes base64, NaN and infinities null.
_encode = msgspec.json.Encoder(decimal_format="number").encode


def read_fields(fields: dict[str, Any], name: str, place: str, received_ms: int) -> Record:
    """Read a record of the schema's name `name`. `place` names it, the broker got it at `received_ms`.

    Raises Unreadable.
    """
    try:
        if _is_an_sdks(fields):
            return read_record(_encode(fields), place, received_ms)
        text = _encode(_row(fields, name, place, received_ms))
    except RecursionError as error:
        raise Unreadable(INVALID) from error
    if not acceptable(text):
        raise Unreadable(INVALID)
    return Record([text], _NATIVE)


def _is_an_sdks(fields: Mapping[str, Any]) -> bool:
    if fields.get("type") in _KINDS and ("userId" in fields or "anonymousId" in fields):
        return True
    batch = fields.get("batch")
    if isinstance(batch, list) and batch and isinstance(batch[0], Mapping) and batch[0].get("type") in _KINDS:
        return True
    schema = fields.get("schema")
    return ("e" in fields and "tv" in fields) or (
        isinstance(schema, str) and schema.startswith(PAYLOAD_SCHEMA) and isinstance(fields.get("data"), list)
    )


def _row(fields: Mapping[str, Any], name: str, place: str, received_ms: int) -> dict[str, Any]:
    event: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for column, value in fields.items():
        if value is None:
            continue
        field = ALIASES.get(column, column)
        fits = _FITS.get(field)
        if fits is not None and fits(value) and field not in event:
            event[field] = value
        else:
            properties[column] = value
    if properties:
        event["properties"] = {**properties, **event.get("properties", {})}
    if event.setdefault("type", "track") == "track":
        event.setdefault("event", name)
    event.setdefault("message_id", place)
    event.setdefault("timestamp", event.get("received_at", received_ms))
    return event


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_id(value: Any) -> bool:
    return _is_text(value) or type(value) is int


def _is_instant(value: Any) -> bool:
    return isinstance(value, datetime) or coerce_timestamp(value) is not None


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


#: What a field of an event can be; the topic's own source is the event's.
_FITS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "type": lambda value: value in _KINDS, "event": _is_text, "user_id": _is_id, "anonymous_id": _is_id,
    "group_id": _is_id, "previous_id": _is_id, "message_id": _is_id, "timestamp": _is_instant,
    "received_at": _is_instant, "properties": _is_object, "traits": _is_object, "context": _is_object,
}  # fmt: skip
