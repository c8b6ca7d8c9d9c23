"""Has an evaluator's checkpoints written when they are due, and a last one when it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from actors.evaluator.checkpointing.checkpointer import Checkpointer, stand_back
from actors.evaluator.machine import EvaluatorMachine
from cluster.clock import Clock
from cluster.errors import CheckpointError
from cluster.limits import CHECKPOINT_LOOK_MS

_T = TypeVar("_T")
_log = logging.getLogger("usher.evaluator")
_OUTGROWN: Final = object()
_LATE: Final = "it was not written in time"


class Keeper:
    """Follows one checkpointer. `take` asks for a copy of the state between two groups, after all that waits.

    A failure is told by logs and status, and harms nothing but the next recovery.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        machine: Callable[[], EvaluatorMachine | None],
        take: Callable[[], Awaitable[dict[str, Any]]],
        clock: Clock,
    ) -> None:
        self._checkpointer = checkpointer
        self._machine = machine
        self._take = take
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=stand_back)
        self._task: asyncio.Task[None] | None = None
        #: Until when the checkpoint at hand may take, by the duration clock.
        self._until_ms = float("inf")

    def start(self) -> None:
        """Begin to look, every second or so, whether one is due."""
        self._task = asyncio.create_task(self._when_due(), name="checkpoints")

    async def stop(self, within_ms: float) -> str:
        """Write a last one of what was logged since the newest; gives why there is none, empty where all is well.

        Inputs are still taken, and no more may come. One that is being written is given up: the last one covers more.
        """
        until_ms = self._clock.monotonic_ms() + within_ms
        self._until_ms = float("-inf")
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._in_thread(self._checkpointer.give_up)
        self._until_ms = until_ms
        try:
            if not self._checkpointer.plan.entries or self._machine() is None:
                return ""
            async with asyncio.timeout(within_ms / 1000):
                return "" if await self.checkpoint() else self._checkpointer.error or _LATE
        except TimeoutError:
            return _LATE
        finally:
            self._thread.shutdown(wait=False)

    async def checkpoint(self) -> bool:
        """Make room beside the work, have the state copied, write it beside the work."""
        machine = self._machine()
        if machine is None:
            return False
        try:
            taken = _OUTGROWN
            while taken is _OUTGROWN:
                await self._in_thread(self._checkpointer.make_room, machine)
                taken = await self._taken()
            return taken is not None and await self._in_thread(self._checkpointer.write, taken, self._pause)
        except Exception as error:
            # Whatever it is (no memory, say), it befell the checkpoint alone.
            self._checkpointer.failed(error)
            return False
        finally:
            self._checkpointer.give_up()

    async def _when_due(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_LOOK_MS / 1000)
            if self._checkpointer.due():
                await self.checkpoint()

    async def _taken(self) -> Any:
        """Give a copy; None where none may be taken now and later is too late, _OUTGROWN where it lacks memory."""
        while True:
            reply = await self._take()
            if "taken" in reply:
                return reply["taken"]
            if reply.get("error") == "outgrown" and not self._is_late():
                return _OUTGROWN
            if reply.get("error") != "not_ready" or self._is_late():
                return None
            await asyncio.sleep(reply["retry_after_ms"] / 1000)

    def _is_late(self) -> bool:
        return self._clock.monotonic_ms() >= self._until_ms

    def _pause(self) -> None:
        if self._is_late():
            raise CheckpointError(_LATE, reason="late")

    async def _in_thread(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
