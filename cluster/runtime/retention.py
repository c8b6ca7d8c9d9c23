"""Has evaluators drop transitions that every sync has passed, from time to time, and never while users move."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from cluster.errors import UsherError
from cluster.limits import RETRY_AFTER_MS
from cluster.runtime.controller_machine import ControllerMachine
from cluster.runtime.protocols import Reply
from cluster.runtime.status_report import Peers

_log = logging.getLogger("usher.retention")

#: How often evaluators are told what was read.
TELL_EVERY_S: Final = 60.0
#: "Everything": evaluators know where their transitions end.
_ALL: Final = 2**62


class Retention:
    """The round over all evaluators. Whoever begins to move users does it within `settled`."""

    def __init__(self, machine: ControllerMachine, peers: Peers) -> None:
        self._machine = machine
        self._peers = peers
        #: Held while an evaluator drops, and while users begin to move: heirs read transitions from the first on, and
        #: must not find others gone half-way.
        self.lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to go round."""
        self._task = asyncio.create_task(self._rounds(), name="retention")

    async def stop(self) -> None:
        """Go round no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def once(self) -> None:
        """Tell every evaluator at work what was read of it."""
        for info in self._machine.evaluators:
            read = await self._peers.delivery.read_through(info.index)
            if "error" in read:
                continue
            seq = _ALL if read["seq"] is None else int(read["seq"])
            async with self.lock:
                # Whoever moves users says so before the lock is free.
                if seq > 0 and self._machine.scaling is None and info in self._machine.evaluators:
                    reply = await self._peers.evaluators[info.index].trim_transitions(seq)
                    if "error" in reply:
                        _log.info("%s drops no transitions now: %s", info.name, reply.get("message"))

    async def settled(self) -> Reply | None:
        """Wait until nobody drops any more, the lock being held; gives the refusal of one that does not say.

        A controller before this one may have asked.
        """
        for info in self._machine.evaluators:
            reply = await self._peers.evaluators[info.index].trim_transitions(0)
            if "error" in reply:
                message = f"{info.name} does not say whether it still drops old transitions: {reply.get('message')}"
                return {"error": "not_ready", "message": message, "retry_after_ms": RETRY_AFTER_MS}
        return None

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            try:
                await self.once()
            except UsherError as error:
                _log.warning("Old transitions stay until the next round: %s", error)
