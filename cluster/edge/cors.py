"""Browsers: event paths take requests from every page (reference: the SDKs deliver nothing without these headers)."""

from __future__ import annotations

from typing import Final

from aiohttp import web

_MAX_AGE_S: Final = "600"
_PREFIXES: Final = ("/v1/", "/beacon/", "/pixel/", "/sourceConfig", "/com.snowplowanalytics.snowplow/")
_NAMES: Final = "track page screen identify group alias batch t p s i g a b m ice.png"
#: Event paths without a version, which Segment's browser SDK uses where `apiHost` leaves it out; Snowplow's pixels.
_ROOTS: Final = frozenset(f"/{name}" for name in _NAMES.split())


def is_event_path(path: str) -> bool:
    """Say whether browsers send events to this path."""
    return path.startswith(_PREFIXES) or path == "/api/v1/events" or path in _ROOTS


def with_cors(request: web.Request, response: web.StreamResponse) -> None:
    """Let the page that asked read the answer, whatever the answer is."""
    origin = request.headers.get("Origin")
    if origin is None:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Vary"] = "Origin"


def is_preflight(request: web.Request) -> bool:
    """Say whether a browser asks if it may send events."""
    return request.method == "OPTIONS" and is_event_path(request.path)


def preflight(request: web.Request) -> web.StreamResponse:
    """Answer OPTIONS: whatever headers the client means to send (retries and new releases add some)."""
    headers = {"Access-Control-Allow-Methods": "GET, POST, OPTIONS", "Access-Control-Max-Age": _MAX_AGE_S}
    asked = request.headers.get("Access-Control-Request-Headers")
    if asked:
        headers["Access-Control-Allow-Headers"] = asked
    return web.Response(status=204, headers=headers)
