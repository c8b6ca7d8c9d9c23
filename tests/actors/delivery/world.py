"""What delivery's tests stand on: an evaluator and a controller in this process, and a webhook receiver on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from aiohttp import web
from standardwebhooks import Webhook

from actors.delivery.actor import DeliveryActor
from cluster.clock import SystemClock
from cluster.definitions.model import (
    Audience,
    Column,
    Definitions,
    Destination,
    ParentModel,
    Published,
    Settings,
    Sync,
    TraitTest,
)
from cluster.definitions.model import Test as ModelTest
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, Reply
from destinations.contract import Kinds
from destinations.registry import KINDS
from destinations.webhook.settings import WebhookSettings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AUDIENCE = "hide_promo"


@dataclass(frozen=True)
class Row:
    user: str
    kind: str
    at: int
    audience: str = AUDIENCE
    n: int = 0


def packed(rows: Sequence[Row]) -> bytes:
    table = pa.table(
        {
            "audience_id": pa.array([row.audience for row in rows], pa.string()),
            "audience_version": pa.array([1] * len(rows), pa.int32()),
            "user_id": pa.array([row.user for row in rows], pa.string()),
            "kind": pa.array([row.kind for row in rows], pa.string()),
            "at": pa.array([row.at for row in rows], pa.int64()),
            "n": pa.array([row.n for row in rows], pa.int32()),
            "cause": pa.array(["event"] * len(rows), pa.string()),
            "partition": pa.array([0] * len(rows), pa.int16()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


class InProcessEvaluator:
    """Transitions in a list; seq is the position, from 1. Answers as cluster.runtime.protocols.Evaluator says."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.refuses = False
        self._changed = asyncio.Event()

    def change(self, *rows: Row) -> None:
        """Commit transitions."""
        self.rows.extend(rows)
        self._changed.set()
        self._changed = asyncio.Event()

    def flip(self, user: str, audience: str = AUDIENCE) -> Row:
        """Let a user enter or leave."""
        inside = user in self.members_now(audience)
        row = Row(user, "exited" if inside else "entered", 1_764_518_400_000 + len(self.rows), audience)
        self.change(row)
        return row

    def members_now(self, audience: str = AUDIENCE) -> dict[str, Row]:
        members: dict[str, Row] = {}
        for row in self.rows:
            if row.audience == audience:
                if row.kind == "entered":
                    members[row.user] = row
                else:
                    del members[row.user]
        return members

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        if self.refuses:
            return {"error": "not_ready", "message": "recovering", "retry_after_ms": 10}
        if seq >= len(self.rows) and wait_ms:
            try:
                await asyncio.wait_for(self._changed.wait(), wait_ms / 1000)
            except TimeoutError:
                return {"next_seq": seq, "seqs": b"", "transitions": b""}
        numbered = list(enumerate(self.rows[seq : seq + limit], start=seq + 1))
        chosen = [(number, row) for number, row in numbered if audience in (None, row.audience)]
        seqs = np.array([number for number, _ in chosen], "<i8").tobytes()
        rows = [row for _, row in chosen]
        return {"next_seq": seq + len(numbered), "seqs": seqs, "transitions": packed(rows) if rows else b""}

    async def initial_members(self, audience: str) -> Reply:
        rows = list(self.members_now(audience).values())
        seqs = np.zeros(len(rows), "<i8").tobytes()
        return {"seq": len(self.rows), "seqs": seqs, "transitions": packed(rows)}

    async def status(self) -> Reply:
        return {"seq": len(self.rows)}


class InProcessController:
    """A cluster state that tests change."""

    def __init__(self, definitions: Definitions, evaluators: int = 1) -> None:
        infos = tuple(EvaluatorInfo(index, f"evaluator-{index}", "", "") for index in range(evaluators))
        self.state = ClusterState(1, _published(definitions, 1), (0,), infos, ())
        self._changed = asyncio.Event()

    def publish(self, definitions: Definitions, preparing: tuple[str, ...] = ()) -> None:
        revision = self.state.revision + 1
        self.state = replace(
            self.state, revision=revision, published=_published(definitions, revision), preparing=preparing
        )
        self._changed.set()
        self._changed = asyncio.Event()

    async def state_after(self, revision: int, wait_ms: int) -> ClusterState:
        if self.state.revision <= revision:
            await self._changed.wait()
        return self.state


def _published(definitions: Definitions, version: int) -> Published:
    return Published(version, definitions, dict.fromkeys(definitions.audiences, 1))


def definitions(
    url: str,
    *,
    status: Any = "published",
    sync: Mapping[str, Any] | None = None,
    columns: Mapping[str, Column] | None = None,
    syncs: Sequence[str] = ("promo",),
    **settings: Any,
) -> Definitions:
    """One audience to one webhook; `sync` changes the sync's fields, `settings` the webhook's keys."""
    webhook = WebhookSettings.model_validate(
        {"url": url, "secret": SECRET, "allow_private": True, "timeout": "10s", **settings}
    )
    where = TraitTest("ltv", ModelTest("gt", 0.0, "number"))
    fields = {"identifiers": {"user_id": "user_id"}, **(sync or {})}
    return Definitions(
        Settings(1, 1, 1, 64), {}, {"users": ParentModel("users", "user_id", columns or {})}, {},
        {AUDIENCE: Audience(AUDIENCE, "users", where, status)},
        {"hook": Destination("hook", "webhook", webhook)},
        {name: Sync(name, AUDIENCE, "hook", **fields) for name in syncs},
    )  # fmt: skip


@dataclass
class Received:
    id: str
    body: bytes
    headers: dict[str, str] = field(repr=False)

    @property
    def changes(self) -> list[dict[str, Any]]:
        changes: list[dict[str, Any]] = json.loads(self.body)["changes"]
        return changes


Answering = Callable[[web.Request, Received], Awaitable[web.StreamResponse]]


class Receiver:
    """A webhook endpoint on loopback. `answer` decides what it says; 204 unless told."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.answer: Answering | None = None
        self._news = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received = Received(request.headers["webhook-id"], body, dict(request.headers))
        Webhook(SECRET).verify(body, {name.lower(): value for name, value in request.headers.items()})
        self.received.append(received)
        self._news.set()
        if self.answer is None:
            return web.Response(status=204)
        return await self.answer(request, received)

    async def until(self, fits: Callable[[], bool]) -> None:
        """Wait until something holds of what was received; half a minute is for ever."""
        async with asyncio.timeout(30):
            while not fits():
                self._news.clear()
                await self._news.wait()

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """(user, kind) of every change, each message id counted once, in order of arrival."""
        seen: dict[str, Received] = {}
        for received in self.received:
            seen.setdefault(received.id, received)
        return [(change["user_id"], change["kind"]) for message in seen.values() for change in message.changes]

    @property
    def members(self) -> set[str]:
        """Who is in, by the newest (at, n) of each user."""
        newest: dict[str, tuple[str, int, str]] = {}
        for received in self.received:
            for change in received.changes:
                key = (change["at"], change["n"], change["kind"])
                newest[change["user_id"]] = max(newest.get(change["user_id"], ("", 0, "")), key)
        return {user for user, (_, _, kind) in newest.items() if kind == "entered"}


def status(code: int, **headers: str) -> Answering:
    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Serve on a free port of loopback."""
    endpoint = Receiver()
    app = web.Application()
    app.router.add_post("/hook", endpoint.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    endpoint.url = f"http://{host}:{port}/hook"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


class InProcessTraits:
    """Trait values that tests change; each change is a new version."""

    def __init__(self, **columns: Mapping[str, Any]) -> None:
        self.versions: list[dict[str, Mapping[str, Any]]] = [dict(columns)]
        self.forgets_old = False

    def now(self, **columns: Mapping[str, Any]) -> None:
        """Load other values."""
        self.versions.append({**self.versions[-1], **columns})

    async def columns(self, parent: str, keys: list[str], columns: list[str]) -> dict[str, list[Any]]:
        return {column: [self.versions[-1][column].get(key) for key in keys] for column in columns}

    async def changed(self, parent: str, since: int, columns: list[str]) -> tuple[int, list[str] | None]:
        version = len(self.versions)
        if not since or self.forgets_old:
            return version, None
        old, new = self.versions[since - 1], self.versions[-1]
        users = {key for column in columns for key in {**old[column], **new[column]}}
        differ = [key for key in users if any(old[c].get(key) != new[c].get(key) for c in columns)]
        return version, sorted(differ)


async def no_traits(parent: str, keys: list[str], columns: list[str]) -> dict[str, list[Any]]:
    raise AssertionError("no sync of this test needs traits")


async def started(
    data_dir: Path,
    controller: InProcessController,
    evaluator: InProcessEvaluator,
    traits: Any = no_traits,
    kinds: Kinds = KINDS,
) -> DeliveryActor:
    more = {"traits": traits}
    if isinstance(traits, InProcessTraits):
        more = {"traits": traits.columns, "trait_changes": traits.changed}
    actor = DeliveryActor(
        data_dir, controller, lambda info: evaluator, SystemClock(), kinds=kinds, seed=1, **more
    )  # type: ignore[arg-type]
    await actor.start()
    return actor
