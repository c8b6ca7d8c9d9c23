"""Machines and processes: what can be killed, stopped, made slow, or left without power, and when."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final, Literal

from tests.simulation.dice import brief
from tests.simulation.virtual_time import PROCESS, VirtualLoop

#: How long a piece of work takes on a thread of an idle machine, on average.
WORK_S: Final = 0.001

#: Places in storage at which a process can be made to end.
Point = Literal["before_commit", "unsynced", "after_commit", "in_checkpoint"]


class Killed(BaseException):
    """Unwinds what a process was doing when it died. Nothing may catch it, and nothing it does afterwards counts."""


class SimClock:
    """A machine's clocks (`cluster.clock.Clock`): UTC, which may be set, and one that only passes."""

    def __init__(self, loop: VirtualLoop, start_ms: int) -> None:
        self._loop = loop
        self._start_ms = start_ms
        #: By how much the machine's clock has been set forward (or back, below 0).
        self.offset_ms = 0

    def now_ms(self) -> int:
        """UTC, in ms."""
        return self._start_ms + int(self._loop.time() * 1000) + self.offset_ms

    def monotonic_ms(self) -> float:
        """Ms since the world began."""
        return self._loop.time() * 1000


class Machine:
    """What its processes share: a clock, a disk's speed and room, and power."""

    def __init__(self, name: str, loop: VirtualLoop, start_ms: int) -> None:
        self.name = name
        self.loop = loop
        self.clock = SimClock(loop, start_ms)
        #: Those alive, stopped ones included.
        self.processes: list[Process] = []
        #: How many times slower than usual the disk is.
        self.slowness = 1.0
        #: True while the disk has no room.
        self.full = False


class Process:
    """One process. Everything started in its context, by `spawn` or in turn by that, lives and dies with it."""

    def __init__(self, name: str, machine: Machine, stream: Random) -> None:
        self.name = name
        self.machine = machine
        self.loop = machine.loop
        self.alive = True
        self.stopped = False
        self._stream = stream
        self._context = contextvars.Context()
        self._context.run(PROCESS.set, self)
        #: What waits to run once a stopped process goes on.
        self._kept: deque[asyncio.Handle] = deque()
        self._threads: dict[int, Thread] = {}
        self._at_death: list[Callable[[], None]] = []
        #: Points at which something befalls it: how many times each may still be passed, and what then happens.
        self._armed: dict[Point, tuple[int, Callable[[], None]]] = {}
        machine.processes.append(self)

    # --- what runs in it -----------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task of this process."""
        return self.loop.create_task(work, context=self._context.copy())

    def takes(self, handle: asyncio.Handle) -> bool:
        """See `virtual_time.Owner`."""
        if self.alive and self.stopped:
            self._kept.append(handle)
        return self.alive and not self.stopped

    def work(self, executor: Any, future: asyncio.Future[Any], function: Callable[..., Any], args: Any) -> None:
        """See `virtual_time.Owner`. An executor is one thread, whatever it says; work without one has its own."""
        thread = self._threads.get(id(executor)) if executor is not None else None
        if thread is None:
            thread = Thread(self, executor)
            if executor is not None:
                self._threads[id(executor)] = thread
        thread.put(future, function, args)

    def pause_s(self) -> float:
        """Draw how long a piece of work takes."""
        return brief(self._stream, WORK_S * self.machine.slowness)

    def chance(self) -> float:
        """Draw a number in [0, 1)."""
        return self._stream.random()

    # --- what befalls it -----------------------------------------------------------------------------

    def at_death(self, function: Callable[[], None]) -> None:
        """Have something done when the process ends: what its operating system would do."""
        self._at_death.append(function)

    def kill(self) -> None:
        """End it, as kill -9 does: nothing of it runs ever again."""
        if not self.alive:
            return
        self.alive = False
        self.machine.processes.remove(self)
        self._kept.clear()
        self._armed.clear()
        for function in self._at_death:
            function()

    def stop(self) -> None:
        """Stop it, as SIGSTOP does."""
        self.stopped = True

    def go_on(self) -> None:
        """Let it go on where it was."""
        if self.alive and self.stopped:
            self.stopped = False
            self.loop._ready.extend(self._kept)  # type: ignore[attr-defined]
            self._kept.clear()

    def arm(self, point: Point, passes: int, action: Callable[[], None]) -> None:
        """Have `action` befall it when it has passed a point so many times more."""
        self._armed[point] = (passes, action)

    def disarm(self) -> None:
        """Let nothing befall it at a point any more."""
        self._armed.clear()

    def is_armed(self, point: Point) -> bool:
        """Say whether the next pass of this point is the one."""
        return self._armed.get(point, (1, None))[0] == 0

    def at(self, point: Point) -> None:
        """Pass a point. Raises Killed where the process does not outlive it."""
        if not self.alive:
            raise Killed
        passes, action = self._armed.get(point, (0, None))
        if action is None:
            return
        if passes > 0:
            self._armed[point] = (passes - 1, action)
            return
        del self._armed[point]
        action()
        if not self.alive:
            raise Killed


class Thread:
    """Works off what an executor is given, in order; each piece takes time, and takes effect somewhere in it."""

    def __init__(self, process: Process, executor: Any) -> None:
        self._process = process
        self._executor = executor  # kept, so that no other has its id
        self._waiting: deque[tuple[asyncio.Future[Any], Callable[..., Any], Any]] = deque()
        self._busy = False

    def put(self, future: asyncio.Future[Any], function: Callable[..., Any], args: Any) -> None:
        """Queue a piece of work."""
        self._waiting.append((future, function, args))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = bool(self._waiting)
        if self._busy:
            whole_s = self._process.pause_s()
            before_s = whole_s * self._process.chance()
            self._process.loop.call_later(before_s, self._run, whole_s - before_s)

    def _run(self, after_s: float) -> None:
        future, function, args = self._waiting.popleft()
        result: Any = None
        error: Exception | None = None
        try:
            result = function(*args)
        except Killed:
            return
        except Exception as raised:
            error = raised
        self._process.loop.call_later(after_s, self._end, future, result, error)

    def _end(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        self._next()
