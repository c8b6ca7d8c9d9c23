"""RudderStack's pixel: an event in a query, `GET /pixel/v1/track?writeKey=…&event=…&properties.sku=…`.

Keys are paths joined by dots, as RudderStack's server reads them (gateway/handle_http_pixel.go); values are texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from cluster.errors import WireError

_DEPTH_MAX: Final = 20
_QUOTED: Final = re.compile(r'"(.*)"', re.DOTALL)


def pixel_event(query: Iterable[tuple[str, str]], kind: str) -> bytes:
    """Give the event's JSON, of kind `track` or `page`; of a key that comes twice, the first counts.

    Raises WireError 400 for a track without an event's name, and for keys of too many parts.
    """
    event: dict[str, Any] = {"channel": "web", "integrations": {"All": True}}
    seen: set[str] = {"writeKey"}
    for key, value in query:
        if key not in seen:
            seen.add(key)
            _put(event, key.split("."), value)
    if isinstance(visitor := event.get("anonymousId"), str):
        event["anonymousId"] = _QUOTED.sub(r"\1", visitor)
    if kind == "track" and not event.get("event"):
        message = "The query names no event."
        raise WireError(400, "invalid_request", message, next_step="Add event=NAME.")
    if kind == "page" and event.get("name") == "":
        event["name"] = "Unknown Page"
    return msgspec.json.encode(event)


def _put(event: dict[str, Any], path: list[str], value: str) -> None:
    if len(path) > _DEPTH_MAX:
        message = f"A key of the query has over {_DEPTH_MAX} parts."
        raise WireError(400, "invalid_request", message)
    at = event
    for key in path[:-1]:
        below = at.setdefault(key, {})
        if not isinstance(below, dict):
            return  # the same key has a text already
        at = below
    at[path[-1]] = value
