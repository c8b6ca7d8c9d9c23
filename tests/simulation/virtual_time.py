"""An event loop in which time passes only when nothing else can happen, and processes can be killed and stopped.

Whatever runs in it sees asyncio as it is: tasks, timers, conditions, executors. Differences: `time()` is virtual and
jumps to the next timer once nothing is ready; a callback belongs to the process whose context it was scheduled in, and
is dropped where that process is dead, kept back where it is stopped; work for executors is done on this thread, at a
moment and for a duration that the process decides.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable
from typing import Any, Final, Protocol


class Owner(Protocol):
    """A process, as the loop sees it."""

    def takes(self, handle: asyncio.Handle) -> bool:
        """Say whether the callback may run now; a stopped process keeps it for later."""
        ...

    def work(self, executor: Any, future: asyncio.Future[Any], function: Callable[..., Any], args: Any) -> None:
        """Run a function on one of the process's threads."""
        ...


#: The process that whatever runs belongs to; None: the world outside (clients, the network).
PROCESS: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("process", default=None)
_OUTSIDE: Final = contextvars.Context()


class Standstill(Exception):
    """Nothing is left that could ever happen, or far too much happened: the run hangs or spins."""


#: Numbers by which tasks and futures lie in sets: by their addresses, as usual, they would lie otherwise in every run.
_numbers: Final = itertools.count()


class SimFuture(asyncio.Future[Any]):
    """A future whose place in a set is the same in every run."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._number = next(_numbers)

    def __hash__(self) -> int:
        return self._number


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set is the same in every run."""

    def __init__(self, coro: Any, **named: Any) -> None:
        # First: a set may be asked while it is being made.
        self._number = next(_numbers)
        super().__init__(coro, **named)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Deterministic: callbacks run in the order scheduled, timers in the order of their times."""

    def __init__(self, steps_max: int = 1_000_000) -> None:
        super().__init__()
        self._now_s = 0.0
        self._steps_left = steps_max
        #: Numbers of timers, in the order in which they were set.
        self._places = itertools.count()
        #: Errors that no task's owner has taken.
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(self._note)
        #: Every task: one that nobody refers to any more must not be unwound in the middle of the run.
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        """Give virtual seconds since the loop was made."""
        return self._now_s

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:  # type: ignore[override]
        """See asyncio."""
        task = SimTask(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def create_future(self) -> SimFuture:
        """See asyncio."""
        return SimFuture(loop=self)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio; timers of one time run in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, (when, next(self._places), timer))  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def outside(self, delay_s: float, function: Callable[..., Any], *args: Any) -> None:
        """Call something later, whatever becomes of the process that this is said in."""
        self.call_later(delay_s, function, *args, context=_OUTSIDE)

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Do the work on this thread, when the calling process says."""
        process = PROCESS.get()
        assert process is not None, "only processes have threads"
        future = self.create_future()
        process.work(executor, future, function, args)
        return future

    def allow(self, steps: int) -> None:
        """Let at least so many callbacks run, whatever ran before."""
        self._steps_left = max(self._steps_left, steps)

    def abandon(self) -> None:
        """Give up everything unfinished, as the end of the world does; to be called in a task of the loop."""
        self.set_exception_handler(lambda _, context: None)
        for task in self._tasks:
            if not task.done() and task is not asyncio.current_task(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if not ready:
            self._advance()
        count = len(ready)
        self._steps_left -= count
        if self._steps_left < 0:
            message = "the run does not come to an end"
            raise Standstill(message)
        for _ in range(count):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is None or process.takes(handle):
                handle._run()

    def _advance(self) -> None:
        """Let time pass to the next timer, and make everything due then ready."""
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0][-1]._cancelled:
            heapq.heappop(scheduled)[-1]._scheduled = False
        if not scheduled:
            message = "nothing is left that could happen"
            raise Standstill(message)
        self._now_s = max(self._now_s, scheduled[0][0])
        while scheduled and scheduled[0][0] <= self._now_s:
            handle = heapq.heappop(scheduled)[-1]
            handle._scheduled = False
            self._ready.append(handle)  # type: ignore[attr-defined]

    def _note(self, _: Any, context: dict[str, Any]) -> None:
        if context.get("exception") is not None:
            self.errors.append(context)

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no other threads to be woken by."""


def _close(coroutine: Any) -> None:
    """Unwind a coroutine; one that waits for something in its own clean-up is told again."""
    for _ in range(10):
        try:
            coroutine.close()
        except RuntimeError:
            continue
        return
