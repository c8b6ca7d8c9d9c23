"""One edge process: wires the paths, serves connections, follows the controller, drains."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

from aiohttp import web

from cluster.admission.decoder import Decoder
from cluster.clock import Clock
from cluster.edge import openapi, problems
from cluster.edge.acceptor import Acceptor, HandoverReceiver, IngestLink, listen, url_of
from cluster.edge.admin_api import AdminApi
from cluster.edge.answers import Boundary
from cluster.edge.batching import EventBatcher
from cluster.edge.delivery_metrics import delivery_exposition
from cluster.edge.evaluator_metrics import evaluator_exposition
from cluster.edge.fastconnection import FastConnection, FastPaths
from cluster.edge.fastevents import FastEvents
from cluster.edge.fastpath import FastMembership
from cluster.edge.ingest import IngestApi
from cluster.edge.local import is_local
from cluster.edge.membership_api import MembershipApi
from cluster.edge.metrics import CONTENT_TYPE, EdgeMetrics, merge_expositions
from cluster.edge.peers import fetch_from
from cluster.edge.pixel_api import PixelApi
from cluster.edge.reading import MembershipReader, Memberships
from cluster.edge.routes import Route, json_response
from cluster.edge.seen_api import SeenApi
from cluster.edge.sightings import Sightings
from cluster.edge.snowplow_api import SnowplowApi
from cluster.edge.state import EdgeState, StateWatcher
from cluster.edge.sync_api import SyncApi
from cluster.intake.intakes import Intakes
from cluster.limits import BODY_BYTES_MAX, EDGE_DRAIN_MS, HTTP_LINE_BYTES_MAX, KEEPALIVE_MS, READY_WAIT_MS
from cluster.runtime.protocols import Controller, Delivery, Edge, Evaluator, Reply, Traits

_log = logging.getLogger("usher.edge")

#: How often idle connections are looked for.
_SWEEP_S: Final = 15.0
#: How long the rest of a refused body is read and dropped, so that its sender reads the answer before a reset.
_LINGER_S: Final = 2.0
_READY_CACHED_S: Final = 1.0
_METRICS_WAIT_S: Final = 2.0


class EdgeServer:
    """Serves HTTP in the running event loop.

    `front` listens on `host:port` and hands event connections to the ingest processes whose unix sockets
    `handover_paths` names (none: it serves everything). `ingest` listens on the one path that it is given.
    `node_id` None: every evaluator's membership files are on this machine. `dead_letters`: the folder for what topics
    hold that is no event; None: this process reads no topics.
    """

    def __init__(
        self,
        role: Literal["front", "ingest"],
        host: str,
        port: int,
        controller: Controller,
        evaluators: Callable[[int], Evaluator],
        delivery: Delivery,
        traits: Traits,
        clock: Clock,
        membership_reader_factory: Callable[[str], MembershipReader],
        *,
        edge: Callable[[str], Edge],
        handover_paths: tuple[str, ...] = (),
        name: str = "",
        node_id: str | None = None,
        dead_letters: Path | None = None,
    ) -> None:
        self.role = role
        self.name = name or f"edge-{role}"
        self._host, self._requested_port = host, port
        self._evaluators = evaluators
        self._delivery = delivery
        self._node_id = node_id
        self._handover_paths = handover_paths
        self.watcher = StateWatcher(controller, Decoder)
        self.memberships = Memberships(evaluators, membership_reader_factory, clock, node_id)
        self._fast_reads = FastMembership(self.memberships, clock)
        self.sightings = Sightings(clock.now_ms, lambda model, events: self.metrics.count_violations(model, events))
        self.batcher = EventBatcher(self.watcher, evaluators, self.sightings)
        self.metrics = EdgeMetrics(self.name, lambda: self._fast_reads.answered, lambda: self.batcher.rows_held)
        self._boundary = Boundary(self.metrics, lambda: self.watcher.current.keys)
        self._ingest = IngestApi(lambda: self.watcher.current, self.batcher, self.metrics, self.sightings)
        self._fast_events = FastEvents(self._ingest, self.batcher, self.metrics, clock)
        self._fast = FastPaths(self._fast_reads.answer, self._fast_events.post)
        self._routes = [
            *self._ingest.routes(),
            *SnowplowApi(lambda: self.watcher.current, self._ingest).routes(),
            *PixelApi(lambda: self.watcher.current, self._ingest, self.metrics).routes(),
            *MembershipApi(lambda: self.watcher.current, self.memberships).routes(),
            *AdminApi(self.watcher, controller, delivery, traits).routes(),
            *SeenApi(self.name, self.sightings, lambda: self.watcher.current.keys, controller.edges, edge).routes(),
            *SyncApi(self.watcher, delivery).routes(),
            *self._own_routes(),
        ]
        self._intakes = None if dead_letters is None else Intakes(
            self.name, self.batcher.submit, self.metrics.count_events, clock.now_ms, dead_letters
        )  # fmt: skip
        if self._intakes is not None:
            self.metrics.register(self._intakes)
        self._connections: set[FastConnection] = set()
        self._handshakes: set[asyncio.Task[object]] = set()
        self._runner: web.AppRunner | None = None
        self._acceptor: Acceptor | None = None
        self._receiver: HandoverReceiver | None = None
        self._links: list[IngestLink] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._draining = False
        self._ready: tuple[float, list[str]] = (float("-inf"), [])
        #: The port in use, once started: where 0 was asked for, the one that the system gave.
        self.port = port

    async def start(self) -> None:
        """Take the first state, then accept. Raises PortInUse, InputError."""
        listener = listen(self._host, self._requested_port) if self.role == "front" else None
        try:
            self.watcher.on_change(self._take)
            await self.watcher.start()
            await self._start_application()
        except BaseException:
            if listener is not None:
                listener.close()
            raise
        loop = asyncio.get_running_loop()
        if listener is not None:
            self.port = listener.getsockname()[1]
            self._links = [IngestLink(path, loop.time) for path in self._handover_paths]
            self._acceptor = Acceptor(listener, self.serve, self._links, loop)
            self._acceptor.start()
        elif self._handover_paths:
            self._receiver = HandoverReceiver(self._handover_paths[0], self.serve, loop)
            self._receiver.start()
        self._sweeper = loop.create_task(self._sweep(), name="edge-sweep")

    async def drain(self, within_ms: int = EDGE_DRAIN_MS) -> Reply:
        """Accept no more, answer what is under way, close. Idempotent."""
        if self._draining:
            return {}
        self._draining = True
        if self._intakes is not None:
            await self._intakes.stop(within_ms // 2)
        if self._acceptor is not None:
            self._acceptor.stop()
        if self._receiver is not None:
            self._receiver.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        try:
            async with asyncio.timeout(min(within_ms, EDGE_DRAIN_MS) / 1000):
                await asyncio.gather(*(connection.drain() for connection in list(self._connections)))
                await self.batcher.drain()
        except TimeoutError:
            _log.warning("Events were still waiting for evaluators when the edge stopped; their senders got no answer.")
        if self._runner is not None:
            await self._runner.cleanup()
        await self.watcher.stop()
        return {}

    async def seen(self) -> Reply:
        """Give what arrived here, by name, for another edge to put together."""
        return self.sightings.report()

    async def status(self) -> Reply:
        """Counts for `usher status`; evaluators count what they accept, so here are rejections alone."""
        judged_elsewhere = ("accepted", "duplicate", "too_late")
        rejected = {reason: n for reason, n in self.metrics.events.items() if reason not in judged_elsewhere}
        return {
            "name": self.name,
            "kind": "edge",
            "pid": os.getpid(),
            "node": self._node_id,
            "state": "draining" if self._draining else "ready",
            **({"url": url_of(self._host, self.port)} if self.role == "front" else {}),
            "version": self.watcher.current.version,
            "rows_waiting": self.batcher.rows_held,
            "events": {"rejected": rejected},
            "intakes": self._intakes.status() if self._intakes is not None else [],
        }

    def serve(self, connection: socket.socket) -> None:
        """Serve an accepted, non-blocking connection in this process."""
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(self._adopt(connection))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        assert self._runner is not None, "connections come after start"
        server = self._runner.server
        assert server is not None, "the runner is set up"
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: FastConnection(self._fast, server, self._connections), connection
            )
        except OSError as error:
            connection.close()
            _log.debug("A connection was gone before it was served: %s", error)

    def _take(self, state: EdgeState) -> None:
        self.memberships.take(state)
        self._fast_reads.take(state)
        self._fast_events.take(state)
        if self._intakes is not None:
            self._intakes.take(state.definitions)

    async def _start_application(self) -> None:
        application = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._boundary.middleware])
        for route in self._routes:
            application.router.add_route(route.method, route.path, self._boundary.guarded(route))
        # Bodies are unzipped by cluster.wire.inflate: a corrupt one must be a 400, and a bomb must end early.
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, auto_decompress=False, tcp_keepalive=True,
            keepalive_timeout=KEEPALIVE_MS / 1000, lingering_time=_LINGER_S, max_line_size=HTTP_LINE_BYTES_MAX,
            max_field_size=HTTP_LINE_BYTES_MAX, shutdown_timeout=EDGE_DRAIN_MS / 1000,
        )  # fmt: skip
        await self._runner.setup()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            for connection in list(self._connections):
                connection.sweep(loop.time(), KEEPALIVE_MS / 1000)

    # --- operations ------------------------------------------------------------------------------

    def _own_routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", self.health, "Whether the process lives", answer='{"status": "ok"}'),
            Route("GET", "/readyz", self.readiness, "Whether it can serve", answer='{"status": "ready"}'),
            Route("GET", "/metrics", self.exposition, "Prometheus metrics; takes read, or a loopback address",
                  query={"scope": "process: of this edge process alone"}),
            Route("GET", "/openapi.json", self.openapi, "This table as an OpenAPI document"),
            Route("GET", "/docs", self.docs, "This table as a page"),
        ]  # fmt: skip

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Answer; that is all."""
        return json_response({"status": "ok"})

    async def readiness(self, request: web.Request) -> web.StreamResponse:
        """Ready: not draining, placed, and every evaluator answers."""
        waits_for = ["draining"] if self._draining else await self._unready()
        if waits_for:
            raise problems.unavailable(f"Not ready: {', '.join(waits_for)}.")
        return json_response({"status": "ready", "version": self.watcher.current.version})

    async def _unready(self) -> list[str]:
        asked_at, answer = self._ready
        if time.monotonic() - asked_at < _READY_CACHED_S:
            return answer
        indices = sorted(set(self.watcher.current.owner_of_partition))
        if not indices:
            return ["no evaluator is placed"]
        replies = await asyncio.gather(*(_status_of(self._evaluators(index).status()) for index in indices))
        answer = [f"evaluator {i}: {why}" for i, why in zip(indices, replies, strict=True) if why]
        self._ready = (time.monotonic(), answer)
        return answer

    async def exposition(self, request: web.Request) -> web.StreamResponse:
        """Metrics of this process and, at the front, those of the ingest processes."""
        if not is_local(request):
            self.watcher.current.keys.require(request.headers.get("Authorization"), "read")
        own = self.metrics.exposition()
        if request.query.get("scope") != "process":
            target = "/metrics?scope=process"
            others = await asyncio.gather(
                *(fetch_from(link, target, _METRICS_WAIT_S) for link in self._links),
                self._evaluator_metrics(), self._delivery_metrics(),
            )  # fmt: skip
            own = merge_expositions(text.decode() for text in (own, *filter(None, others)))
        return web.Response(body=own, headers={"Content-Type": CONTENT_TYPE})

    async def _evaluator_metrics(self) -> bytes:
        """Give what evaluators count of their checkpoints; one that does not answer in time is left out."""
        indices = sorted(set(self.watcher.current.owner_of_partition))
        calls = (asyncio.wait_for(self._evaluators(index).status(), _METRICS_WAIT_S) for index in indices)
        replies = await asyncio.gather(*calls, return_exceptions=True)
        return evaluator_exposition([reply for reply in replies if isinstance(reply, dict) and "error" not in reply])

    async def _delivery_metrics(self) -> bytes:
        """Give what delivery counts of syncs; nothing where it does not answer in time."""
        try:
            async with asyncio.timeout(_METRICS_WAIT_S):
                reply = await self._delivery.metrics()
        except Exception as error:
            _log.warning("/metrics leaves syncs out, delivery does not answer: %s", type(error).__name__)
            return b""
        return delivery_exposition(reply)

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """The OpenAPI document."""
        return json_response(openapi.document(self._routes))

    async def docs(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        return web.Response(text=openapi.page(self._routes), content_type="text/html")


async def _status_of(call: Awaitable[Reply]) -> str:
    """Say why an evaluator is not ready; empty where it is."""
    try:
        async with asyncio.timeout(READY_WAIT_MS / 1000):
            reply = await call
    except TimeoutError:
        return "no answer"
    return str(reply.get("message") or reply["error"]) if "error" in reply else ""
