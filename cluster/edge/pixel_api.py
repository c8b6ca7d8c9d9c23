"""RudderStack's pixel paths. The answer is a GIF whatever happens, since an image is what asks; the status tells."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from cluster.edge import problems
from cluster.edge.answers import unforeseen
from cluster.edge.ingest import IngestApi, ingest_grant, new_message_id
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.routes import Handler, Route
from cluster.edge.snowplow_api import NOT_CACHED, PIXEL
from cluster.edge.state import EdgeState
from cluster.wire.pixel import pixel_event
from cluster.wire.segment import read_request


class PixelApi:
    """The handlers."""

    def __init__(self, state: Callable[[], EdgeState], ingest: IngestApi, metrics: EdgeMetrics) -> None:
        self._state = state
        self._ingest = ingest
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """Give the table of these paths."""
        return [
            Route("GET", f"/pixel/v1/{kind}", self._pixel(kind), f"One {kind} event in the query, as an image asks",
                  tag="events", errors="sdk", query={"writeKey": "of the source", "userId": "or anonymousId"},
                  answer="a GIF of one pixel")
            for kind in ("track", "page")
        ]  # fmt: skip

    def _pixel(self, kind: str) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            status = 200
            try:
                grant = ingest_grant(self._state().keys, request.query.get("writeKey"))
                read = read_request(pixel_event(request.query.items(), kind), kind, new_message_id)
                for _, reason in read.rejected:
                    self._ingest.unreadable(reason, 1)
                await self._ingest.take(read.events(source=grant.source))
            except Exception as error:
                problem = (
                    error if isinstance(error, problems.Problem) else unforeseen(request.method, request.path, error)
                )
                self._metrics.count_refusal(problem.code)
                status = problem.status
            return web.Response(status=status, body=PIXEL, content_type="image/gif", headers=NOT_CACHED)

        return handle
