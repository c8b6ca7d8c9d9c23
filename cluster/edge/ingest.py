"""Events over HTTP: the paths of Segment, RudderStack and Hightouch SDKs, and the native one.

A request is answered with 200 only when every event that is accepted is durable. SDK paths: exactly 200 with
`{"success":true}`, since several SDKs take any other 2xx for a failure; one bad event never refuses a batch, since
refused batches are dropped whole or sent for ever.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from cluster.admission.outcomes import RowOutcomes
from cluster.edge import problems
from cluster.edge.auth import Grant, KeyRing, bearer_token
from cluster.edge.batching import EventBatcher
from cluster.edge.bodies import BodyBudget, BodyShare, read_body
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.routes import Handler, Route, json_response
from cluster.edge.sightings import Sightings
from cluster.edge.state import EdgeState
from cluster.keys import allows
from cluster.limits import BODY_BYTES_MAX
from cluster.wire import native
from cluster.wire.events import ReadEvents
from cluster.wire.inflate import inflate
from cluster.wire.segment import KIND_OF_PATH, read_request
from cluster.wire.write_keys import basic_user, write_key_of

SUCCESS: Final = b'{"success":true}'
#: Paths that users of Segment's browser SDK get to by leaving `/v1` out of `apiHost`, besides those of KIND_OF_PATH.
_WITHOUT_VERSION: Final = {
    path.removeprefix("/v1"): kind for path, kind in KIND_OF_PATH.items() if path.startswith("/v1/")
}
PATHS: Final = {**_WITHOUT_VERSION, **KIND_OF_PATH}


class IngestApi:
    """The handlers."""

    def __init__(
        self, state: Callable[[], EdgeState], batcher: EventBatcher, metrics: EdgeMetrics, sightings: Sightings
    ) -> None:
        self._state = state
        self._sightings = sightings
        self._batcher = batcher
        self._metrics = metrics
        self.budget = BodyBudget()

    def routes(self) -> list[Route]:
        """Give the table of these paths."""
        tag = "events"
        routes = [
            Route("POST", path, self._segment(kind), _summary(kind), tag=tag, errors="sdk", body=_body(kind),
                  answer='{"success": true}')
            for path, kind in PATHS.items()
        ]  # fmt: skip
        routes += [
            Route("POST", path, self.telemetry, "A browser SDK's own telemetry: ignored", tag=tag, errors="sdk")
            for path in ("/v1/m", "/m")
        ]
        settings = "/v1/projects/{write_key}/settings"
        return [
            *routes,
            Route("GET", settings, self.segment_settings, "What Segment's browser SDK asks its CDN", errors="sdk"),
            Route("GET", "/sourceConfig/", self.rudder_settings, "What RudderStack's browser SDK asks first",
                  errors="sdk"),
            Route("POST", "/api/v1/events", self.events, "Native events: answered once the accepted ones are durable",
                  tag=tag, body="canonical events: JSON array, NDJSON, msgpack, Arrow IPC stream; gzip, zstd",
                  answer='{"accepted": 1, "duplicates": 0, "rejected": [{"index": 1, "reason": "no_key"}]}'),
        ]  # fmt: skip

    def _segment(self, kind: str) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            authorization = request.headers.get("Authorization")
            early = basic_user(authorization)
            grant = self._grant(early) if early else None  # an unknown key is refused before the body is read
            with self.budget.share() as share:
                body = await inflated(request, share)
                read = read_request(body, kind, new_message_id)
                key = write_key_of(authorization, read.body_key, read.first_event_key, request.query.get("writeKey"))
                if grant is None or key != early:
                    grant = self._grant(key or bearer_token(authorization or ""))
                await self.take(read.events(source=grant.source))
            return web.Response(body=SUCCESS, content_type="application/json")

        return handle

    def _grant(self, key: str | None) -> Grant:
        return ingest_grant(self._state().keys, key)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Native events, with an account of every one that was not accepted."""
        authorization = request.headers.get("Authorization") or ""
        grant = self._grant(bearer_token(authorization) or basic_user(authorization))
        with self.budget.share() as share:
            body = await inflated(request, share)
            read = native.read_events(body, request.headers.get("Content-Type", ""), source=grant.source)
            outcomes = await self.take(read)
        return json_response(report(read, outcomes))

    async def take(self, read: ReadEvents) -> RowOutcomes:
        """Hand events on; returns when the accepted ones are durable."""
        outcomes = await self._batcher.submit(read.raw)
        self.account(read, outcomes)
        return outcomes

    def account(self, read: ReadEvents, outcomes: RowOutcomes) -> None:
        """Count what became of a request's events."""
        count = self._metrics.count_events
        count("accepted", outcomes.accepted)
        count("duplicate", outcomes.duplicates)
        for _, reason in [*outcomes.rejected, *read.rejected]:
            count(reason, 1)
        self._sightings.unreadable(len(read.rejected))

    def unreadable(self, reason: str, events: int) -> None:
        """Count events that were refused before anybody knew whose they are."""
        self._metrics.count_events(reason, events)
        self._sightings.unreadable(events)

    async def telemetry(self, request: web.Request) -> web.StreamResponse:
        """Thank for it."""
        return web.Response(body=SUCCESS, content_type="application/json")

    async def segment_settings(self, request: web.Request) -> web.StreamResponse:
        """Point the SDK back here."""
        key = request.match_info["write_key"]
        self._grant(key)
        target = {"apiKey": key, "apiHost": f"{request.host}/v1"}
        return json_response({"integrations": {"Segment.io": target}, "plan": {}})

    async def rudder_settings(self, request: web.Request) -> web.StreamResponse:
        """Say that the source is on and has no destinations of its own."""
        key = request.query.get("writeKey") or basic_user(request.headers.get("Authorization")) or ""
        grant = self._grant(key)
        name = grant.source or grant.key_id
        off = {"enabled": False}
        source: dict[str, Any] = {
            "id": name, "name": name, "writeKey": key, "enabled": True, "workspaceId": "usher", "destinations": [],
            "connections": [], "config": {"statsCollection": {"errors": off, "metrics": off}},
        }  # fmt: skip
        return json_response({"source": source, "updatedAt": "1970-01-01T00:00:00Z"})


async def inflated(request: web.Request, share: BodyShare) -> bytes:
    """Read a body and undo its Content-Encoding, both within the limit; raises Problem or WireError."""
    body = await read_body(request, share)
    encoding = request.headers.get("Content-Encoding", "")
    if not encoding:
        return body
    plain = inflate(body, encoding, BODY_BYTES_MAX)
    share.grow(max(0, len(plain) - len(body)))
    return plain


def ingest_grant(keys: KeyRing, key: str | None) -> Grant:
    """Give the grant of a key that may send events; raises Problem 401 or 403."""
    if not key:
        message = "A write key is missing. Send it as Basic user name, or as `writeKey` in the body."
        raise problems.unauthorized(message)
    grant = keys.find(key)
    if grant is None:
        raise problems.unauthorized("The write key is not known. Each source's `write_key` is in the definitions.")
    if not allows(grant.role, "ingest"):
        raise problems.forbidden(f"This takes a source's write key or a key with the role ingest, not {grant.role}.")
    return grant


def report(read: ReadEvents, outcomes: RowOutcomes) -> dict[str, Any]:
    """Give the native answer; indices are the request's, also where unreadable events were left out of the envelope."""
    rejected = [(read.indices[row], reason) for row, reason in outcomes.rejected] + read.rejected
    return {
        "accepted": outcomes.accepted,
        "duplicates": outcomes.duplicates,
        "rejected": [{"index": index, "reason": reason} for index, reason in sorted(rejected)],
    }


def new_message_id() -> str:
    """Name an event that its sender left nameless."""
    return str(uuid.uuid4())


def _summary(kind: str) -> str:
    return "Many events" if kind == "batch" else f"One {kind} event"


def _body(kind: str) -> str:
    return '{"batch": [event, …], "sentAt": "…"}' if kind == "batch" else "one event, as the SDKs send it"
