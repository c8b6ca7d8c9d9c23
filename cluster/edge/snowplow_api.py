"""Events of Snowplow's trackers: POST …/tp2, GET /i. There is no write key; the application's id names the source.

A tracker sends everything again, for ever, save what is answered 2xx, 400, 401, 403, 410 or 422: so what can never be
taken is answered 400 or 403, whatever other clients are told, and 503 only where nothing could be stored.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Final

from aiohttp import web

from cluster.edge import problems
from cluster.edge.ingest import IngestApi, inflated, new_message_id
from cluster.edge.problems import Problem
from cluster.edge.routes import Route
from cluster.edge.state import EdgeState
from cluster.errors import WireError
from cluster.wire.events import INVALID
from cluster.wire.snowplow import Asked, SnowplowRequest, read_payload, read_query

_PATH: Final = "/com.snowplowanalytics.snowplow/tp2"
PIXEL: Final = base64.b64decode("R0lGODlhAQABAPAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==")
NOT_CACHED: Final = {"Cache-Control": "no-cache, no-store, must-revalidate"}
#: The reason of events whose application no source takes.
UNKNOWN_APPLICATION: Final = "unknown_application"
#: Answers that a tracker would send everything again for, though it can never be taken.
_FINAL: Final = frozenset({404, 405, 413, 415})


class SnowplowApi:
    """The handlers."""

    def __init__(self, state: Callable[[], EdgeState], ingest: IngestApi) -> None:
        self._state = state
        self._ingest = ingest

    def routes(self) -> list[Route]:
        """Give the table of these paths."""
        gets = [
            Route("GET", path, self.query, "One event of a Snowplow tracker, in the query", tag="events", errors="sdk",
                  answer="a GIF of one pixel")
            for path in ("/i", "/ice.png", _PATH)
        ]  # fmt: skip
        return [
            Route("POST", _PATH, self.payload, "Events of a Snowplow tracker", tag="events", errors="sdk",
                  body='{"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4", "data": […]}',
                  answer="ok"),
            *gets,
        ]  # fmt: skip

    async def payload(self, request: web.Request) -> web.StreamResponse:
        """Many events."""
        try:
            with self._ingest.budget.share() as share:
                body = await inflated(request, share)
                await self._take(read_payload(body, _asked(request), new_message_id))
        except (Problem, WireError) as error:
            if error.status not in _FINAL:
                raise
            raise Problem(400, error.code, str(error)) from error
        return web.Response(text="ok", content_type="text/plain")

    async def query(self, request: web.Request) -> web.StreamResponse:
        """One event."""
        await self._take(read_query(_asked(request), new_message_id))
        return web.Response(body=PIXEL, content_type="image/gif", headers=NOT_CACHED)

    async def _take(self, read: SnowplowRequest) -> None:
        """Hand on what a source takes; returns when it is durable. Raises Problem 403 where no source takes any."""
        state = self._state()
        if state.definitions is None:
            raise problems.unavailable("No definitions are published yet. Publish some: usher apply FILE.")
        self._ingest.unreadable(INVALID, read.rejected)
        sources = {application: state.source_of(application) for application in read.texts}
        strangers = [application for application, source in sources.items() if source is None]
        self._ingest.unreadable(UNKNOWN_APPLICATION, sum(len(read.texts[name]) for name in strangers))
        await asyncio.gather(
            *(self._ingest.take(read.events(name, source)) for name, source in sources.items() if source is not None)
        )
        if strangers and len(strangers) == len(sources):
            raise problems.forbidden(
                f"No source takes the Snowplow application {strangers[0]!r}. Name it in a source: app_id: "
                f'{strangers[0] or "*"!r} (or "*" for all).'
            )


def _asked(request: web.Request) -> Asked:
    anonymous = "SP-Anonymous" in request.headers
    return Asked(dict(request.query), request.cookies.get("sp") or None, anonymous)
