"""`GET /api/v1/events/seen`: what arrives at every edge process, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from cluster.edge.acceptor import IngestLink
from cluster.edge.auth import KeyRing
from cluster.edge.local import is_local
from cluster.edge.peers import fetch_from
from cluster.edge.routes import Route, json_response
from cluster.edge.sightings import Sightings, merge_reports

_WAIT_S: Final = 2.0
_PATH: Final = "/api/v1/events/seen"


class SeenApi:
    """The handler. Samples are what people sent, word for word: it takes the role admin."""

    def __init__(
        self, sightings: Sightings, keys: Callable[[], KeyRing], links: Callable[[], Sequence[IngestLink]]
    ) -> None:
        self._sightings = sightings
        self._keys = keys
        self._links = links

    def routes(self) -> list[Route]:
        """Give the table of this path."""
        answer = '{"events": [{"type": "track", "name": "Order Completed", "count": 3, "models": ["order"]}]}'
        return [
            Route("GET", _PATH, self.seen, "Events that arrived, by name, with a sample; admin",
                  tag="events", query={"scope": "process: of this edge process alone"}, answer=answer)
        ]  # fmt: skip

    async def seen(self, request: web.Request) -> web.StreamResponse:
        """Give this process's, and at the front those of the ingest processes."""
        of_process = request.query.get("scope") == "process"
        if not (of_process and is_local(request)):
            self._keys().require(request.headers.get("Authorization"), "admin")
        own = self._sightings.report()
        if of_process:
            return json_response(own)
        target = f"{_PATH}?scope=process"
        found = await asyncio.gather(*(fetch_from(link, target, _WAIT_S) for link in self._links()))
        reports: list[dict[str, Any]] = [own, *(msgspec.json.decode(body) for body in found if body)]
        silent = sum(body is None for body in found)
        return json_response({**merge_reports(reports), "silent_processes": silent})
