"""A webhook receiver in its own process: notes when each request was complete, looks at nothing until the end.

It takes everything, unless it is put into another mood.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeVar, cast, get_args

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_FAILURE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
_CHANGE = b'"transition_id"'
_START_S = 30.0
_Read = TypeVar("_Read")
_HOLD_POLL_S = 0.01

#: What the receiver does with a request: takes it; refuses it with 503; takes it and closes the connection without an
#: answer; takes it and answers once its mood changes.
Mood = Literal["takes", "refuses", "hangs up", "holds"]
_MOODS: tuple[Mood, ...] = get_args(Mood)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook request as it came, with the times at which its last byte did."""

    monotonic_ns: int
    wall_ms: float
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """Give a header's value; empty where there is none."""
        found = re.search(rb"(?i)\r\n" + name.encode() + rb": *([^\r\n]*)", self.head)
        return found[1].decode() if found else ""


def is_signed(delivery: Delivery, secret: str) -> bool:
    """Check a Standard Webhooks signature, written from the specification: `v1,` base64 HMAC-SHA256 of id.time.body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{delivery.header('webhook-id')}.{delivery.header('webhook-timestamp')}.".encode() + delivery.body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(expected, given) for given in delivery.header("webhook-signature").split())


class Receiver:
    """The handle of the process that receives.

    `digest`, a function of a module: what is kept of each request, once it is answered, in place of all of it.
    """

    def __init__(self, digest: Callable[[Delivery], Any] | None = None) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._seen: Any = context.Value("q", 0, lock=False)
        self._mood: Any = context.Value("i", 0, lock=False)
        self._held: Any = context.Value("i", 0, lock=False)
        self._process = context.Process(
            target=_serve, args=(theirs, self._seen, self._mood, self._held, digest), daemon=True
        )

    def start(self) -> str:
        """Listen; gives the URL."""
        self._process.start()
        if not self._pipe.poll(_START_S):
            message = "the webhook receiver did not start"
            raise TimeoutError(message)
        return f"http://127.0.0.1:{self._pipe.recv()}/hook"

    @property
    def pid(self) -> int:
        """Its process; 0 before it starts."""
        return self._process.pid or 0

    @property
    def changes_seen(self) -> int:
        """How many changes came so far, repeats included."""
        return int(self._seen.value)

    @property
    def held(self) -> int:
        """How many requests it has taken and not answered yet."""
        return int(self._held.value)

    def be(self, mood: Mood) -> None:
        """Do this with requests from now on."""
        self._mood.value = _MOODS.index(mood)

    def stop(self) -> list[Delivery]:
        """End the process; gives everything it got, in order."""
        return self.stop_and_read(list)

    def stop_and_read(self, read: Callable[[list[Any]], _Read]) -> _Read:
        """End the process; gives what `read`, a function of a module, makes there of everything it kept, in order."""
        self._pipe.send(read)
        found: _Read = self._pipe.recv()
        self._process.join()
        return found

    def close(self) -> None:
        """End the process if it still runs."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self._pipe.close()


class _Hook(asyncio.Protocol):
    """One connection of the sender, one request at a time."""

    def __init__(self, keep: Callable[[Delivery], None], seen: Any, mood: Any, held: Any) -> None:
        self._keep = keep
        self._seen = seen
        self._mood = mood
        self._held = held
        self._buffer = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = _LENGTH(self._buffer, 0, end + 2)
        size = end + 4 + (int(found[1]) if found else 0)
        if len(self._buffer) < size:
            return
        now = (time.monotonic_ns(), time.time_ns() / 1e6)
        head, body = bytes(self._buffer[: end + 2]), bytes(self._buffer[end + 4 : size])
        del self._buffer[:size]
        mood = _MOODS[self._mood.value]
        if mood == "refuses":
            self._transport.write(_FAILURE)
            return
        self._seen.value += body.count(_CHANGE)
        if mood == "takes":
            self._transport.write(_ANSWER)
        elif mood == "hangs up":
            self._transport.close()
        else:
            self._held.value += 1
            self._answer_later()
        # Last: what is made of it may take longer than the answer should.
        self._keep(Delivery(*now, head, body))

    def _answer_later(self) -> None:
        if _MOODS[self._mood.value] == "holds":
            asyncio.get_running_loop().call_later(_HOLD_POLL_S, self._answer_later)
            return
        self._held.value -= 1
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


def _serve(
    pipe: Connection, seen: Any, mood: Any, held: Any, digest: Callable[[Delivery], Any] | None
) -> None:
    """Run in the receiver's process until the other end says stop."""

    async def work() -> tuple[Callable[[list[Any]], Any], list[Any]]:
        deliveries: list[Any] = []

        def keep(delivery: Delivery) -> None:
            deliveries.append(delivery if digest is None else digest(delivery))

        server = await asyncio.get_running_loop().create_server(
            lambda: _Hook(keep, seen, mood, held), "127.0.0.1", 0
        )
        pipe.send(server.sockets[0].getsockname()[1])
        read = await asyncio.to_thread(pipe.recv)
        server.close()
        return read, deliveries

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        read, deliveries = runner.run(work())
    pipe.send(read(deliveries))
