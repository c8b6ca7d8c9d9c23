"""Webhook receivers, and the way to them: what they took, and what they say or fail to say."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from destinations.requests import Answer, NoResponse, Request, Response
from tests.simulation.dice import brief
from tests.simulation.plans import Failing
from tests.simulation.processes import Process
from tests.simulation.workload import SECRET

#: How long a request or its answer travels, on average.
_TRAVEL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that a receiver took, with the (virtual) time at which it did."""

    at_s: float
    id: str
    body: bytes

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Give the changes of its body."""
        changes: list[dict[str, Any]] = json.loads(self.body)["changes"]
        return changes


@dataclass(slots=True)
class Receiver:
    """One webhook endpoint. What it takes, it keeps, whatever it says then."""

    failing: Failing | None = None
    taken: list[Taken] = field(default_factory=list)
    #: Requests that are no proper Standard Webhooks request.
    faults: list[str] = field(default_factory=list)


class Destinations:
    """All receivers, by the host of their URL."""

    def __init__(self, stream: Random, said: Callable[..., None]) -> None:
        self._stream = stream
        self._said = said
        self.receivers = {name: Receiver() for name in ("changes-hook", "state-hook")}
        self.counts: Counter[str] = Counter()

    async def take(self, name: str, request: Request) -> Answer:
        """Let a request arrive, as the receiver is now; gives its answer, or waits for ever."""
        receiver = self.receivers[name]
        failing = receiver.failing
        await asyncio.sleep(brief(self._stream, _TRAVEL_S))
        if failing is not None:
            self.counts[failing] += 1
        if failing in (None, "lost_answer", "reset") or (failing == "timeout" and self._stream.random() < 0.5):
            self._take(name, receiver, request)
        await asyncio.sleep(brief(self._stream, _TRAVEL_S))
        match failing:
            case None:
                return Response(204, {}, b"", 0)
            case "timeout" | "lost_answer":
                await asyncio.Event().wait()
                raise AssertionError
            case "reset":
                return NoResponse("connect", "the server closed the connection without an answer")
            case "429":
                return Response(429, {"retry-after": str(self._stream.choice([1, 4]))}, b"", 0)
            case _:
                return Response(int(failing), {}, b"", 0)

    def _take(self, name: str, receiver: Receiver, request: Request) -> None:
        taken = Taken(asyncio.get_running_loop().time(), request.headers["webhook-id"], request.body)
        receiver.taken.append(taken)
        if not _is_signed(request):
            receiver.faults.append(f"{taken.id} is not signed as it should be")
        for change in taken.changes:
            about = f"{change['user_id']} {change['kind']} {change['audience_id']} (message {taken.id[4:10]})"
            self._said("takes", name, about, [change["user_id"]])


class Transport:
    """What delivery sends by, in place of `actors.delivery.transport.HttpTransport`."""

    def __init__(self, destinations: Destinations, process: Process) -> None:
        self._destinations = destinations
        self._process = process

    async def send(self, request: Request) -> Answer:
        """See `HttpTransport.send`. What has left arrives, also where its sender dies meanwhile."""
        name = str(urlsplit(request.url).hostname).partition(".")[0]
        arrival = self._destinations.take(name, request)
        travelling = asyncio.get_running_loop().create_task(arrival, context=contextvars.Context())
        done, _ = await asyncio.wait([travelling], timeout=request.timeout_ms / 1000)
        if not done:
            return NoResponse("timeout", f"no answer within {request.timeout_ms} ms")
        answer = travelling.result()
        if isinstance(answer, Response):
            return Response(answer.status, answer.headers, answer.body, self._process.machine.clock.now_ms())
        return answer

    async def close(self) -> None:
        """See `HttpTransport.close`."""


def _is_signed(request: Request) -> bool:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    content = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return request.headers.get("webhook-signature") == f"v1,{expected}"
