"""The boundary around every handler: keys before it, problems after it, counts of both. No traceback ever leaves."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_exceptions import HTTPException

from cluster.edge import problems
from cluster.edge.auth import KeyRing
from cluster.edge.bodies import problem_of_http
from cluster.edge.cors import is_event_path, is_preflight, preflight, with_cors
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.problems import Problem
from cluster.edge.routes import Handler, Route, guarded

_log = logging.getLogger("usher.edge")

#: Where a request's route is shown in the metrics when no route fits: paths people make up must not make series.
_NO_ROUTE = "none"


class Boundary:
    """Turns every error into an answer and counts every answer."""

    def __init__(self, metrics: EdgeMetrics, keys: Callable[[], KeyRing]) -> None:
        self._metrics = metrics
        self._keys = keys

    def guarded(self, route: Route) -> Handler:
        """Let only keys with the route's role reach its handler."""
        return guarded(route, self._keys)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Handle a request, whatever happens."""
        began = time.perf_counter()
        try:
            response = preflight(request) if is_preflight(request) else await handler(request)
        except HTTPException as error:
            response = self._problem(request, problem_of_http(error, request.method))
        except Problem as problem:
            response = self._problem(request, problem)
        except Exception as error:
            response = self._problem(request, unforeseen(request.method, request.path, error))
        if is_event_path(request.path):
            with_cors(request, response)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else _NO_ROUTE
        self._metrics.count_request(request.method, route, response.status, time.perf_counter() - began)
        return response

    def _problem(self, request: web.Request, problem: Problem) -> web.Response:
        """Write a problem in the shape that this path's clients read."""
        if is_event_path(request.path):
            self._metrics.count_refusal(problem.code)
        if is_event_path(request.path) and request.path != "/api/v1/events":
            body, content_type = problem.sdk_body(), "application/json"
        else:
            body, content_type = problem.body(), problems.CONTENT_TYPE
        return web.Response(status=problem.status, body=body, content_type=content_type, headers=problem.headers)


def unforeseen(method: str, path: str, error: Exception) -> Problem:
    """Give the problem for an error that no handler expected; the log has more, under the id that is told."""
    error_id = uuid.uuid4().hex[:12]
    problem = problems.of_error(error, error_id)
    if problem.status >= 500 and problem.status != 503:
        _log.error("Error %s at %s %s", error_id, method, path, exc_info=error)
    return problem
