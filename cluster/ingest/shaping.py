"""A row of a file as a canonical event (semantics.md §1): renamed, completed, with the same message id every time."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import xxhash

from cluster.definitions.document import EVENT_ROOTS

#: What SDKs and warehouse exports call canonical fields.
ALIASES: Final[Mapping[str, str]] = {
    "userId": "user_id", "anonymousId": "anonymous_id", "groupId": "group_id", "previousId": "previous_id",
    "messageId": "message_id", "receivedAt": "received_at", "event_name": "event", "event_type": "type",
}  # fmt: skip
#: Fields that hold an object; where a file has no objects, it is JSON text.
_OBJECTS: Final = ("properties", "traits", "context")
_IDS: Final = ("user_id", "anonymous_id", "group_id", "previous_id", "message_id")
_PLAIN: Final = (str, int, float, bool, type(None))

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class NotAnEvent(Exception):
    """A row that no event can be made of; the text is the reason's code."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows become events: `columns` maps fields to the columns they are in, `values` are the same for every row."""

    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def event(self, row: Mapping[str, Any], file: str, number: int) -> bytes:
        """Give the event as JSON. What is no field of events goes into `properties`. Raises NotAnEvent.

        Without a message id of its own it gets one of the file's path, the row's number and its content: sending the
        file again makes no doubles.
        """
        targets = {column: name for name, column in self.columns.items()}
        event: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for column, value in row.items():
            name = targets.get(column) or ALIASES.get(column, column)
            if value is None:
                continue
            if name in EVENT_ROOTS:
                event[name] = _field(name, value)
            else:
                others[column] = _plain(value)
        event |= self.values
        event.setdefault("type", "track")
        if others:
            event["properties"] = {**others, **event.get("properties", {})}
        if "message_id" not in event:
            event["message_id"] = _message_id(file, number, _encode(event))
        return _encode(event)


def _field(name: str, value: Any) -> Any:
    if name in _OBJECTS:
        return _object(name, value)
    if name in _IDS and not isinstance(value, str | int | float):
        return str(value)
    return _plain(value)


def _object(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = _decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None
    if isinstance(value, list):
        value = _map(value)
    if not isinstance(value, dict):
        reason = f"{name}_is_no_object"
        raise NotAnEvent(reason)
    return {str(key): _plain(item) for key, item in value.items()}


def _map(pairs: list[Any]) -> dict[str, Any] | None:
    """Arrow gives maps as lists of pairs."""
    if all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        return {str(key): value for key, value in pairs}
    return None


def _plain(value: Any) -> Any:
    """Give a value that JSON can hold as the decoders take it: times as RFC 3339, days at midnight UTC."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        pairs = _map(list(value)) if value and isinstance(value[0], tuple) else None
        return _plain(pairs) if pairs is not None else [_plain(item) for item in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, dt.date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _message_id(file: str, number: int, content: bytes) -> str:
    digest: str = xxhash.xxh3_128_hexdigest(f"{file}\0{number}\0".encode() + content)
    return f"file-{digest}"
