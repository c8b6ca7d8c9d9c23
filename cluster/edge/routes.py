"""The route table: what each path does, who may ask, how it is documented; the source of /openapi.json."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from aiohttp import web

from cluster.edge.auth import Grant, KeyRing
from cluster.runtime.protocols import Role

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: How errors look: problem documents, or what SDKs of the Segment kind can read.
ErrorShape = Literal["problem", "sdk"]

GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `role` None: anybody, or the handler decides. `query` maps parameters to what they mean."""

    method: str
    path: str
    handler: Handler
    summary: str
    role: Role | None = None
    tag: str = "operations"
    query: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    answer: str = ""
    errors: ErrorShape = "problem"


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer JSON. `content` may hold whatever msgspec encodes."""
    return web.Response(body=_encode(content), status=status, content_type="application/json", headers=headers)


def guarded(route: Route, keys: Callable[[], KeyRing]) -> Handler:
    """Let only keys with the route's role reach its handler; the grant is then in the request."""
    if route.role is None:
        return route.handler
    role, handler = route.role, route.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        request[GRANT] = keys().require(request.headers.get("Authorization"), role)
        return await handler(request)

    return handle
