"""Native events in msgpack: an array of maps, or maps one after the other."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec

from cluster.errors import WireError
from cluster.limits import BODY_BYTES_MAX, REQUEST_EVENTS_MAX
from cluster.wire.events import NO_EVENT, check_count

_CUT = "the end is missing"


def msgpack_texts(body: bytes) -> tuple[list[bytes], int]:
    """Give each event as JSON text. Raises WireError where the body ends within an event or is no msgpack.

    Binary values become base64 text, instants RFC 3339 text, NaN and infinities null (not counted).
    """
    events: list[Any] = []
    unpacker = msgpack.Unpacker(
        raw=False, strict_map_key=False, unicode_errors="replace",
        max_buffer_size=BODY_BYTES_MAX, max_array_len=REQUEST_EVENTS_MAX,
    )
    try:
        unpacker.feed(body)
        while unpacker.tell() < len(body):
            found = unpacker.unpack()
            events.extend(found if isinstance(found, list) else [found])
            check_count(len(events))
    except msgpack.OutOfData as error:
        raise _broken(_CUT) from error
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise _broken(str(error) or type(error).__name__) from error
    return [_text(event) for event in events], 0


def _instant(value: Any) -> Any:
    if isinstance(value, msgpack.Timestamp):
        return value.to_datetime()
    message = f"{type(value).__name__} has no form in JSON"
    raise TypeError(message)


_encode = msgspec.json.Encoder(enc_hook=_instant).encode


def _text(event: Any) -> bytes:
    try:
        return _encode(event)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return NO_EVENT


def _broken(why: str) -> WireError:
    return WireError(400, "invalid_msgpack", f"The body is no msgpack of events: {why}.")
