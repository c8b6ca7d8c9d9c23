"""How the shell has a snapshot taken: prepared on a thread of its own, then step by step between what else waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa

from actors.evaluator.entries import own_rows, read_snapshot_file
from actors.evaluator.program import Program
from actors.evaluator.stimuli import AboutTraits, GoOnWithTraits, LookAtTraits, PlanTraits, TakeTraits
from actors.evaluator.trait_rows import UserRoom, prepare
from cluster.errors import DataDirError
from cluster.limits import RETRY_AFTER_MS

Reply = dict[str, Any]

#: Up to so many rows and users a snapshot is taken at once: some ms.
WHOLE_USERS_MAX: Final = 8_192
#: Refusals of one step (a wave goes first, much waits) before the snapshot is put off.
_TRIES_MAX: Final = 1_000


class TraitOffers:
    """Takes offers of snapshots, one at a time. `ask` puts a stimulus to the worker after those that wait.

    `pause` is called between steps of some ms on this one's thread; `make_room` makes room for so many users there.
    """

    def __init__(
        self,
        partitions: Sequence[int],
        ask: Callable[[AboutTraits], Awaitable[Reply]],
        pause: Callable[[], None],
        make_room: Callable[[int], UserRoom],
        name: str,
    ) -> None:
        self._partitions = partitions
        self._ask = ask
        self._pause = pause
        self._make_room = make_room
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-traits")
        self._lock = asyncio.Lock()

    async def take(self, parent: str, version: int, table: pa.Table | None, path: str) -> Reply:
        """Have a snapshot taken to its end; the reply of the protocol's `apply_traits`."""
        async with self._lock:
            seen = await self._insist(LookAtTraits(parent, version))
            if "program" not in seen:
                return seen
            loop = asyncio.get_running_loop()
            try:
                rows = await loop.run_in_executor(self._thread, self._own, seen["program"], table, path)
                if rows.num_rows + seen["users"] <= WHOLE_USERS_MAX:
                    return await self._insist(TakeTraits(parent, version, rows, path))
                prepared = await loop.run_in_executor(
                    self._thread, prepare, seen["program"], parent, version, path, rows, self._pause
                )
            except DataDirError as error:
                return {"error": "not_ready", "message": str(error), "retry_after_ms": RETRY_AFTER_MS}
            room = await loop.run_in_executor(self._thread, self._make_room, max(seen["users"], rows.num_rows))
            reply = await self._insist(PlanTraits(prepared, room))
            return reply if "error" in reply else await self._insist(GoOnWithTraits(prepared))

    def close(self) -> None:
        """End the thread; what it does is of no use any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _insist(self, stimulus: AboutTraits) -> Reply:
        """Ask until it is done, or is refused for good or for long."""
        tries = 0
        while True:
            reply = await self._ask(stimulus)
            if "error" in reply:
                tries += 1
                waits = reply["error"] == "overloaded" or reply.get("again", False)
                if not waits or tries > _TRIES_MAX:
                    return reply
                await asyncio.sleep(reply["retry_after_ms"] / 1000)
            elif "wait_ms" not in reply:
                return reply
            else:
                await asyncio.sleep(reply["wait_ms"] / 1000)

    def _own(self, program: Program, table: pa.Table | None, path: str) -> pa.Table:
        whole = table if table is not None else read_snapshot_file(path)
        return own_rows(whole, self._partitions, program.published.definitions.settings.partitions)

