"""A real edge server on a loopback port, with a controller and evaluators in the same process.

The evaluators decode what they are sent, dedup by message id, and let a test refuse, stall or go stale.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa

from cluster.clock import ManualClock
from cluster.definitions.merging import merge_documents
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.edge.server import EdgeServer
from cluster.errors import DefinitionError
from cluster.keys import ROLES, generate_key, hash_key
from cluster.runtime.controller import as_sent
from cluster.runtime.placement import deal_partitions
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, KeyRecord, LogQuery, Reply, Role
from cluster.wire.envelope import unpack
from destinations.registry import KINDS
from tests.conftest import START_MS

PARTITIONS = 16
WRITE_KEY = "wk_web"
SECRET = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "settings": {"partitions": PARTITIONS},
    "sources": [
        {"id": "web", "kind": "http", "write_key": WRITE_KEY},
        {"id": "segment", "kind": "http", "write_key": "wk_demo_segment"},
        {"id": "rudderstack", "kind": "http", "write_key": "wk_demo_rudder"},
        {"id": "hightouch", "kind": "http", "write_key": "wk_demo_hightouch"},
    ],
    "parent_models": [{"id": "users", "primary_key": "user_id"}],
    "event_models": [
        {"id": kind, "parent": "users", "type": kind, "foreign_key": ["user_id", "anonymous_id"],
         "timestamp": "timestamp", "columns": {"channel": {"path": "properties.channel", "type": "string"}}}
        for kind in ("track", "page", "screen", "identify", "group")
    ],
    "audiences": [
        {"id": "buyers", "name": "Buyers", "parent": "users", "where": {"event": "track", "within": "5m"}},
        {"id": "sketch", "parent": "users", "status": "draft", "where": {"event": "page", "within": "5m"}},
    ],
    "alert_channels": [
        {"id": "ops", "kind": "slack", "url": "https://example.com/ops"},
        {"id": "silent", "kind": "slack", "url": "https://example.com/silent"},
    ],
    "destinations": [{"id": "hook", "kind": "webhook", "url": "https://example.com/hook", "secret": SECRET}],
    "syncs": [{"id": "push", "audience": "buyers", "destination": "hook", "identifiers": {"user_id": "user_id"}}],
}  # fmt: skip


class FakeEvaluator:
    """Accepts what it can decode; one message id of a key counts once."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.version = 1
        self.calls: list[Reply] = []
        self.events: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.keys: list[str] = []
        #: Every decoded row that came, as a dict.
        self.hits: list[dict[str, Any]] = []
        self.members: dict[str, list[str]] = {}
        self.seen: set[tuple[str, str]] = set()
        #: Answers to give instead, first come first.
        self.refusals: list[Reply] = []
        #: While set, calls wait for it.
        self.gate: asyncio.Event | None = None
        self.lookups = 0

    async def append(self, request: Reply) -> Reply:
        self.calls.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            return self.refusals.pop(0)
        if request["version"] != self.version:
            return {"error": "stale", "message": "newer definitions", "current_version": self.version}
        envelope = unpack(request["envelope"])
        assert envelope.num_rows == request["rows"]
        self.raw.extend(envelope["raw"].to_pylist())
        return {"clock_ms": START_MS, "outcomes": bytes(self._outcomes(request["hits"]))}

    def _outcomes(self, hits: bytes) -> list[int]:
        if not hits:
            return []
        with pa.ipc.open_stream(hits) as reader:
            rows = reader.read_all().to_pylist()
        self.keys.extend(row["key"] for row in rows)
        self.hits.extend(rows)
        return [self._outcome(row) for row in rows]

    def _outcome(self, row: dict[str, Any]) -> int:
        if row["message_id"] is None:
            return 0
        identity = (row["key"], row["message_id"])
        if identity in self.seen:
            return 1
        self.seen.add(identity)
        return 0

    async def lookup(self, parent: str, users: list[str], audiences: list[str], detail: bool) -> Reply:
        self.lookups += 1
        if self.refusals:
            return self.refusals.pop(0)
        members = [[user in self.members.get(audience, []) for audience in audiences] for user in users]
        reply: Reply = {"as_of": START_MS, "members": members}
        if detail:
            reply["details"] = [
                [{"since": START_MS - 5, "changes_at": START_MS + 9, "version": 1} if member else {} for member in row]
                for row in members
            ]
        return reply

    async def members_page(self, audience: str, cursor: str | None, limit: int) -> Reply:
        start = int(cursor or 0)
        found = self.members.get(audience, [])
        end = start + limit
        return {"members": found[start:end], "cursor": str(end) if end < len(found) else None, "as_of": START_MS}

    async def status(self) -> Reply:
        return self.refusals.pop(0) if self.refusals else {"name": f"evaluator-{self.index}", "state": "ready"}


class EvaluatorHandle:
    """A FakeEvaluator under the names of the protocol (`members` is data of the fake)."""

    def __init__(self, fake: FakeEvaluator) -> None:
        self.append, self.lookup, self.status = fake.append, fake.lookup, fake.status
        self.members = fake.members_page


class FakeController:
    """The controller's protocol over a state in memory; documents are parsed by the real parser."""

    def __init__(self, document: Mapping[str, Any] | None, evaluators: list[FakeEvaluator]) -> None:
        self.evaluators = evaluators
        self.report: Reply = {"url": "http://here", "actors": [], "audiences": []}
        #: Edge processes other than the site's.
        self.others: dict[str, Any] = {}
        #: An answer to give instead of the edges' names.
        self.refusal: Reply | None = None
        self.api_keys: dict[Role, str] = {role: generate_key(role) for role in ROLES}
        records = tuple(KeyRecord(f"id-{role}", role, role, hash_key(key), 1) for role, key in self.api_keys.items())
        published = publish(None, parse_document(document, "test", KINDS)) if document else None
        self._changed = asyncio.Condition()
        self.state = ClusterState(
            revision=1, published=published, owner_of_partition=deal_partitions(PARTITIONS, len(evaluators)),
            evaluators=tuple(EvaluatorInfo(i, f"evaluator-{i}", "node", f"dir-{i}") for i in range(len(evaluators))),
            keys=records,
        )  # fmt: skip

    async def change(self, **fields: Any) -> None:
        async with self._changed:
            self.state = replace(self.state, revision=self.state.revision + 1, **fields)
            self._changed.notify_all()

    async def state_after(self, revision: int, wait_ms: int) -> ClusterState:
        async with self._changed:
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await self._changed.wait_for(lambda: self.state.revision > revision)
            except TimeoutError:
                return self.state
            return self.state

    async def apply(self, document: Mapping[str, Any], file: str, mode: str) -> Reply:
        reply = await self.plan(document, file, mode)
        if "error" not in reply:
            await self.change(published=self._candidate(document, file, mode))
            for evaluator in self.evaluators:
                evaluator.version = reply["version"]
        return reply

    async def plan(self, document: Mapping[str, Any], file: str, mode: str) -> Reply:
        try:
            published = self._candidate(document, file, mode)
        except DefinitionError as error:
            faults = [{key: getattr(fault, key) for key in ("file", "path", "message", "found", "allowed")}
                      for fault in error.faults]  # fmt: skip
            return {"error": "invalid", "faults": faults}
        return {"version": published.version, "changes": []}

    def _candidate(self, document: Mapping[str, Any], file: str, mode: str) -> Published:
        current = self.state.published
        whole = merge_documents(current.definitions.document, document) if mode == "merge" and current else document
        try:
            return publish(current, parse_document(whole, file, KINDS))
        except DefinitionError as error:
            raise DefinitionError([as_sent(fault, whole, document) for fault in error.faults]) from error

    async def create_key(self, role: Role, name: str) -> Reply:
        key = generate_key(role)
        record = KeyRecord(f"new-{name}", name, role, hash_key(key), 2)
        await self.change(keys=(*self.state.keys, record))
        return {"id": record.id, "name": name, "role": role, "key": key}

    async def revoke_key(self, key_id: str) -> Reply:
        left = tuple(key for key in self.state.keys if key.id != key_id)
        revoked = len(left) < len(self.state.keys)
        await self.change(keys=left)
        return {"revoked": revoked}

    async def status(self) -> Reply:
        return dict(self.report)

    async def edges(self) -> Reply:
        return self.refusal or {"edges": ["edge-front", *self.others]}


class FakeDelivery:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def metrics(self) -> Reply:
        buckets = {"bounds_s": [0.5, 1.0], "counts": [3, 1, 1], "sum_s": 4.5}
        return {"syncs": [{"id": "push", "backlog": 7, "oldest_unsent_ms": 1_500, "delivered": 5, "failed": 2,
                           "retried": 3, "state": "failing", "in_flight": 1, "concurrency": 4, "dead_letters": 2,
                           "requests": {"2xx": 4, "none": 1}, "delivery": buckets, "request": buckets}],
                "alerts": {"firing": [{"alert": "late", "subject": "sync push"}],
                           "channels": [{"id": "ops", "sent": 3, "lost": 1}]}}  # fmt: skip

    async def sync_log(self, sync: str, query: LogQuery) -> Reply:
        self.asked.append(("log", sync, query))
        return {"rows": [], "next": query.after}

    async def dead_letters(self, sync: str, limit: int) -> Reply:
        self.asked.append(("dead_letters", sync, limit))
        return {"rows": []}

    async def retry(self, sync: str) -> Reply:
        self.asked.append(("retry", sync))
        return {"retried": 0}

    async def suspend(self, sync: str, suspended: bool) -> Reply:
        self.asked.append(("suspend", sync, suspended))
        return {"paused": suspended}

    async def resync(self, sync: str) -> Reply:
        self.asked.append(("resync", sync))
        began_at = "2026-11-23T10:00:00.000Z"
        return {"resyncing": sync, "began_at": began_at, "strays": "an endpoint of yours is not asked"}

    async def test_channel(self, channel: str) -> Reply:
        self.asked.append(("test_channel", channel))
        failure = "it answers 404" if channel == "silent" else ""
        return {"channel": channel, "sent": not failure, "failure": failure}

    async def test_destination(self, destination: str, sync: str, user: str, verb: str, send: bool) -> Reply:
        self.asked.append(("test", destination, sync, user, verb, send))
        request = {"method": "POST", "url": "https://example.com/hook", "headers": {"x": "***"}, "body": "{}"}
        exchange: dict[str, Any] = {"purpose": "change", "request": request}
        if send:
            exchange |= {"response": {"status": 204, "body": ""}, "outcome": "delivered"}
        nobody = user == "nobody"
        return {"sync": "push", "kind": "webhook", "user": user, "verb": verb, "sent": send,
                "dropped": "no value for an identifier: mail" if nobody else None,
                "requests": [] if nobody else [exchange], "delivered": (not nobody) if send else None}  # fmt: skip


class FakeTraits:
    """Remembers which parents were to be read."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def refresh(self, parent: str) -> Reply:
        self.asked.append(parent)
        return {"refreshing": parent}


@dataclass
class FakeReader:
    """Membership files: who is in what, and for whom the evaluator has to be asked."""

    members: dict[str, set[str]] = field(default_factory=dict)
    ask: set[str] = field(default_factory=set)
    #: As of when the files know; 0: they know nothing.
    clock_ms: int = 0

    def is_member(self, parent: str, key: str, audience_id: str, now_ms: int) -> bool | None:
        assert parent == "users"
        return None if key in self.ask and now_ms != self.clock_ms else key in self.members.get(audience_id, set())


@dataclass
class Site:
    """A running edge and everything behind it."""

    server: EdgeServer
    controller: FakeController
    evaluators: list[FakeEvaluator]
    delivery: FakeDelivery
    traits: FakeTraits
    reader: FakeReader
    clock: ManualClock
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def headers(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.controller.api_keys[role]}"}

    async def call(self, method: str, path: str, role: Role | None = "admin", **more: Any) -> tuple[int, Any, Any]:
        """Give status, parsed body (text where it is no JSON) and headers."""
        headers = {**(self.headers(role) if role else {}), **more.pop("headers", {})}
        url = self.url + path
        from yarl import URL

        async with self.http.request(method, URL(url, encoded=True), headers=headers, **more) as response:
            text = await response.text()
            try:
                return response.status, json.loads(text), response.headers
            except ValueError:
                return response.status, text, response.headers

    async def send(self, events: Any, **more: Any) -> tuple[int, Any, Any]:
        """Send native events."""
        return await self.call("POST", "/api/v1/events", "ingest", json=events, **more)


@asynccontextmanager
async def site(
    *, evaluators: int = 1, document: Mapping[str, Any] | None = DOCUMENT, handover_paths: tuple[str, ...] = (),
    dead_letters: Path | None = None,
) -> AsyncIterator[Site]:
    fakes = [FakeEvaluator(index) for index in range(evaluators)]
    handles: list[Any] = [EvaluatorHandle(fake) for fake in fakes]
    controller, delivery, traits = FakeController(document, fakes), FakeDelivery(), FakeTraits()
    clock, reader = ManualClock(START_MS), FakeReader()
    server = EdgeServer(
        "front", "127.0.0.1", 0, controller, handles.__getitem__, delivery, traits, clock,  # type: ignore[arg-type]
        lambda folder: reader,
        edge=controller.others.__getitem__, handover_paths=handover_paths, dead_letters=dead_letters,
    )  # fmt: skip
    await server.start()
    async with aiohttp.ClientSession(auto_decompress=True) as http:
        try:
            yield Site(server, controller, fakes, delivery, traits, reader, clock, http)
        finally:
            await server.drain()


def at_site(test: Callable[[Site], Awaitable[None]], **options: Any) -> None:
    """Run a test against a fresh site."""

    async def run() -> None:
        async with site(**options) as here:
            await test(here)

    asyncio.run(run())


def track(user: Any = "u1", message_id: str | None = None, **more: Any) -> dict[str, Any]:
    """Give a native track event."""
    event = {"type": "track", "event": "bought", "user_id": user, "timestamp": START_MS, **more}
    return event if message_id is None else {**event, "message_id": message_id}


FIXTURES = Path(__file__).parents[2] / "fixtures" / "ingest"
