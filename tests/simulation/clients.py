"""Whoever uses Usher from outside: senders that insist, readers, and somebody who publishes definitions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cluster.runtime.remote import RemoteController
from tests.simulation.dice import dice
from tests.simulation.network import Gone
from tests.simulation.parts import handle
from tests.simulation.plans import Read, Request
from tests.simulation.workload import KEY

if TYPE_CHECKING:
    from tests.simulation.world import World

#: How long a sender waits for an answer before it sends the same again.
_PATIENCE_S: Final = 8.0


@dataclass(slots=True)
class Sent:
    """A request and what became of it."""

    request: Request
    #: Statuses of its attempts in order; 0: no answer.
    statuses: list[int] = field(default_factory=list)
    #: The answer that ended it.
    document: Mapping[str, Any] | None = None
    #: Answers that are not as they should be.
    faults: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> bool:
        """Whether it was answered with 200."""
        return self.statuses[-1:] == [200]


@dataclass(frozen=True, slots=True)
class Seen:
    """A membership that was read, when it was asked for (also by the machine's clock) and when answered."""

    read: Read
    asked_s: float
    asked_ms: int
    answered_s: float
    is_member: bool
    #: None: so it is then; else how it was when the evaluator, which is away, was last heard of.
    as_of_ms: int | None


class Clients:
    """Everybody outside."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent = [Sent(request) for request in world.plan.requests]
        self.seen: list[Seen] = []
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send, read and publish as the plan says."""
        start = asyncio.get_running_loop().create_task
        self.tasks = [start(self._publish()), start(self._scale()), *(start(self._send(sent)) for sent in self.sent)]
        for read in self._world.plan.reads:
            start(self.look(read))

    @property
    def done(self) -> bool:
        """Whether everybody has what they wanted."""
        return all(task.done() for task in self.tasks)

    async def _send(self, sent: Sent) -> None:
        rows = sent.request.rows
        stream = dice(self._world.seed, "sender", rows[0]["properties"]["mark"])
        body = json.dumps(list(rows)).encode()
        users = [user for row in rows for user in (row["user_id"], row["properties"].get("gift_to"))]
        shown = " ".join(f"{row['event']}/{row['properties']['mark']}" for row in rows)
        await self._until(sent.request.at_s)
        while True:
            edge = f"edge-{stream.randrange(self._world.plan.edges)}"
            self._world.say("sends", "client", f"{shown} (attempt {len(sent.statuses) + 1})", users)
            status, headers, document = await self._ask(edge, "post", KEY, body)
            sent.statuses.append(status)
            self._world.say("is answered", "client", f"{shown}: {_shown_answer(status, document)}", users)
            if status == 200:
                sent.document = document
                _account(sent)
                return
            if status and status not in (429, 503):
                sent.faults.append(f"the request was refused with {status}: {document!r}")
                return
            await asyncio.sleep(_wait_s(sent, status, headers, stream.uniform(0.1, 1.0)))

    async def look(self, read: Read) -> None:
        """Read one membership; a refusal is no answer, and asked again is not."""
        world = self._world
        await self._until(read.at_s)
        asked_s, asked_ms = world.loop.time(), world.machine.clock.now_ms()
        status, _, known = await self._ask("edge-0", "get", read.user, read.audience)
        if status == 200:
            member, as_of_ms = known
            late = "" if as_of_ms is None else f" as of {as_of_ms}"
            world.say("reads", "client", f"{read.user} in {read.audience}: {member}{late}", [read.user])
            self.seen.append(Seen(read, asked_s, asked_ms, world.loop.time(), member, as_of_ms))

    async def _ask(self, edge: str, method: str, *args: Any) -> tuple[int, Mapping[str, str], Any]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await self._world.network.ask(edge, method, args)
        except (Gone, TimeoutError):
            return 0, {}, None
        # A process that is starting listens to nobody yet.
        return (0, {}, None) if isinstance(answer, dict) else answer

    async def _publish(self) -> None:
        controller = handle(self._world, RemoteController, "controller")
        for at_s, document in self._world.plan.publications:
            await self._until(at_s)
            reply: dict[str, Any] = {}
            while "version" not in reply or reply.get("preparing"):
                reply = await controller.apply(document, "simulated.yaml", "replace")
                if reply.get("error") == "invalid":
                    raise AssertionError(reply)
                if "version" not in reply:
                    await asyncio.sleep(1.0)
            self._world.say("publishes", "client", f"version {reply['version']}")

    async def _scale(self) -> None:
        present = self._world.plan.evaluators
        for scale in self._world.plan.scales:
            await self._until(scale.at_s)
            changing = asyncio.get_running_loop().create_task(self._scale_to(scale.evaluators))
            done, _ = await asyncio.wait([changing], timeout=scale.patience_s)
            if not done and await self._give_up(present):
                # A question that is under way may still arrive, and is then answered by nobody's wish.
                changing.cancel()
                self._world.counts["handing over given up"] += 1
                continue
            await changing
            present = scale.evaluators
            self._world.counts["users handed over"] += 1
            self._world.say("scales", "client", f"to {present} evaluators")

    async def _scale_to(self, evaluators: int) -> None:
        controller = handle(self._world, RemoteController, "controller")
        reply: dict[str, Any] = {}
        while reply.get("evaluators") != evaluators or reply.get("under_way"):
            reply = await controller.scale(evaluators)
            if reply.get("error") == "invalid":
                raise AssertionError(reply)
            if "error" in reply:
                await asyncio.sleep(1.0)

    async def _give_up(self, present: int) -> bool:
        """Ask for as many as there are; false where it is too late for that, or nobody knows."""
        self._world.say("gives a change up", "client", f"for {present} evaluators")
        reply = await handle(self._world, RemoteController, "controller").scale(present)
        return reply.get("evaluators") == present and not reply.get("under_way")

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self._world.loop.time()))


def _account(sent: Sent) -> None:
    assert sent.document is not None
    counted = sent.document["accepted"] + sent.document["duplicates"] + len(sent.document["rejected"])
    if counted != len(sent.request.rows):
        sent.faults.append(f"{len(sent.request.rows)} events were sent, the answer accounts for {counted}")


def _wait_s(sent: Sent, status: int, headers: Mapping[str, str], unasked_s: float) -> float:
    """How long to wait before the next attempt: as a refusal says, else some time."""
    if not status:
        return unasked_s
    text = headers.get("Retry-After", "")
    if not text.isdigit() or int(text) < 1:
        sent.faults.append(f"a refusal with {status} does not say when to try again: {dict(headers)}")
        return 1.0
    return float(text)


def _shown_answer(status: int, document: Any) -> str:
    if not status:
        return "no answer"
    if status == 200:
        return f"200 {document}"
    return f"{status} {json.loads(document)['detail']}"
