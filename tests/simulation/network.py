"""Calls between processes, and what a network does to them: late, lost, repeated, overtaken."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from cluster.limits import CALL_TIMEOUT_MS
from cluster.runtime.remote import RemotePart, unreachable
from tests.simulation.dice import brief
from tests.simulation.processes import Process
from tests.simulation.virtual_time import VirtualLoop

#: How long a message is on its way, on average.
TRAVEL_S: Final = 0.000_5
#: How long it takes until a caller hears that a process is gone.
GONE_S: Final = 0.02
#: How long at most until it hears that a message was lost.
LOST_S: Final = 12.0
#: What somebody wants from now on: no repetition of it comes after what they wanted next.
_WISHES: Final = frozenset({"apply", "scale"})


class Gone(Exception):
    """The process called is not there, or died before it answered, or the connection broke."""


@dataclass(slots=True)
class Weather:
    """What becomes of messages now: the chance of each fate, and how long they travel."""

    lost: float = 0.0
    repeated: float = 0.0
    travel_s: float = TRAVEL_S


class Network:
    """Names to processes, and calls to them. A call goes to the process that has the name when it is sent."""

    def __init__(self, loop: VirtualLoop, stream: Random) -> None:
        self._loop = loop
        self._stream = stream
        self.weather = Weather()
        self._parts: dict[str, tuple[Process, Any]] = {}
        self._calls: dict[Process, dict[asyncio.Future[Any], None]] = {}
        #: What was done to messages, by kind.
        self.counts: Counter[str] = Counter()

    def register(self, process: Process, part: Any) -> None:
        """Give a name to a process from now on; `part.call(method, *args)` is how it is called."""
        self._parts[process.name] = (process, part)
        process.at_death(lambda: self._lose(process))

    def holder(self, name: str) -> Process | None:
        """Give the process that has a name."""
        known = self._parts.get(name)
        return None if known is None else known[0]

    def part(self, name: str) -> Any:
        """Give the part behind a name."""
        return self._parts[name][1]

    async def ask(self, name: str, method: str, args: tuple[Any, ...]) -> Any:
        """Call a method of the process of that name. Raises Gone, or what the method raises; may never answer."""
        process, part = self._parts.get(name, (None, None))
        if process is None:
            raise Gone
        answer: asyncio.Future[Any] = self._loop.create_future()
        # A dict, since calls are failed in the order in which they were made.
        calls = self._calls.setdefault(process, {})
        calls[answer] = None
        answer.add_done_callback(lambda done: calls.pop(done, None), context=contextvars.Context())
        repeated = 0.0 if method in _WISHES else self.weather.repeated
        for _ in range(2 if self._falls(repeated, "repeated") else 1):
            if self._falls(self.weather.lost, "lost on the way out"):
                self._tell_late(answer)
            else:
                self._later(self._arrive, process, part, method, args, answer)
        return await answer

    def _arrive(self, process: Process, part: Any, method: str, args: tuple[Any, ...], answer: Any) -> None:
        if not process.alive:
            self._fail(answer)
            return

        async def called() -> None:
            try:
                result, error = await part.call(method, *args), None
            except Exception as raised:
                result, error = None, raised
            if self._falls(self.weather.lost, "lost on the way back"):
                self._tell_late(answer)
            else:
                self._later(_give, answer, result, error)

        process.spawn(called())

    def _tell_late(self, answer: asyncio.Future[Any]) -> None:
        """Let the caller hear that the connection broke; whether its call was carried out it does not hear."""
        self._loop.outside(self._stream.uniform(GONE_S, LOST_S), self._fail, answer)

    def _lose(self, process: Process) -> None:
        for answer in list(self._calls.get(process, ())):
            self._loop.outside(GONE_S, self._fail, answer)

    def _fail(self, answer: asyncio.Future[Any]) -> None:
        _give(answer, None, Gone())

    def _later(self, function: Callable[..., Any], *args: Any) -> None:
        self._loop.outside(brief(self._stream, self.weather.travel_s), function, *args)

    def _falls(self, chance: float, fate: str) -> bool:
        fallen = chance > 0.0 and self._stream.random() < chance
        self.counts[fate] += fallen
        return fallen


def _give(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


class OverNetwork(RemotePart):
    """`cluster.runtime.remote` with this network in place of Ray: the same calls, deadlines and refusals."""

    network: Network

    async def call(self, method: str, *args: Any, timeout_ms: int = CALL_TIMEOUT_MS) -> Any:
        """See `RemotePart.call`."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self.network.ask(self.name, method, args)
        except Gone:
            return unreachable(self.name, "its process is gone or restarting")
        except TimeoutError:
            return unreachable(self.name, f"no answer within {timeout_ms} ms")
