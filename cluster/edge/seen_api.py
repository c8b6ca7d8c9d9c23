"""`GET /api/v1/events/seen`: what arrives at every edge process of every node, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from cluster.edge import problems
from cluster.edge.auth import KeyRing
from cluster.edge.routes import Route, json_response
from cluster.edge.sightings import Sightings, merge_reports
from cluster.runtime.protocols import Edge, Reply

_PATH: Final = "/api/v1/events/seen"


class SeenApi:
    """The handler. Samples are what people sent, word for word: it takes the role admin.

    `name` is this process's; `names` gives those of all edge processes, of which `edge` gives each.
    """

    def __init__(
        self, name: str, sightings: Sightings, keys: Callable[[], KeyRing], names: Callable[[], Awaitable[Reply]],
        edge: Callable[[str], Edge],
    ) -> None:
        self._name = name
        self._sightings = sightings
        self._keys = keys
        self._names = names
        self._edge = edge

    def routes(self) -> list[Route]:
        """Give the table of this path."""
        answer = '{"events": [{"type": "track", "name": "Order Completed", "count": 3, "models": ["order"]}]}'
        return [
            Route("GET", _PATH, self.seen, "Events that arrived at all edges, by name, with a sample; admin",
                  tag="events", answer=answer)
        ]  # fmt: skip

    async def seen(self, request: web.Request) -> web.StreamResponse:
        """Ask all edge processes; `silent_processes` counts those that did not answer in time."""
        self._keys().require(request.headers.get("Authorization"), "admin")
        known = await self._names()
        if problem := problems.of_reply(known):
            raise problem
        others = [name for name in known["edges"] if name != self._name]
        replies = await asyncio.gather(*(self._edge(name).seen() for name in others))
        reports = [reply for reply in replies if "error" not in reply]
        merged = merge_reports([self._sightings.report(), *reports])
        return json_response({**merged, "silent_processes": len(replies) - len(reports)})
