"""Calls reach an owner only while its process is that, and an evaluator's answers say under which epoch.

A process that was stopped and goes on does not know what it missed. Its lease does, by the clock alone: until it has
looked whether another has taken over, it answers nothing; if one has, it ends. What it had begun to answer from what it
knew is dropped. What it writes is refused by the log (`Fenced`), and what still reaches a caller bears an old epoch
(`Epochs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from cluster.errors import Fenced
from cluster.leases.keeper import LeaseKeeper
from cluster.limits import RETRY_AFTER_MS
from cluster.runtime.protocols import Reply

#: These say what ails it.
_ALWAYS: Final = frozenset({"status"})
#: Once one of these is answered it is durable, whoever owns now.
_DURABLE: Final = frozenset({"append", "publish", "apply_traits", "apply", "create_key", "revoke_key", "retry"})


class Tenure:
    """An evaluator (or what else has one owner) and this process's hold on it: has every method of the part's.

    `signs`: answers say under which epoch; for callers that judge them (`Epochs`).
    """

    def __init__(self, part: Any, lease: LeaseKeeper, *, signs: bool = True) -> None:
        self._part = part
        self._lease = lease
        self._signs = signs

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Give the part's method, for an owner alone."""
        return partial(self._call, method)

    async def drain(self, *args: Any) -> Any:
        """Let the part finish what it holds, then let go of it."""
        reply = await self._part.drain(*args)
        await asyncio.to_thread(self._lease.release)
        return reply

    async def _call(self, method: str, *args: Any) -> Any:
        if method in _ALWAYS:
            return self._signed(await getattr(self._part, method)(*args))
        if not self._lease.holds():
            return self._not_owned()
        reply = await getattr(self._part, method)(*args)
        if method not in _DURABLE and not self._lease.holds():
            return self._not_owned()
        return self._signed(reply)

    def _signed(self, reply: Any) -> Any:
        return {**reply, "epoch": self._lease.epoch} if self._signs and isinstance(reply, dict) else reply

    def _not_owned(self) -> Any:
        message = f"the lease of {self._lease.name} has lapsed; this process looks whether another has it"
        reply: Reply = {"error": "not_ready", "message": message, "retry_after_ms": RETRY_AFTER_MS}
        return self._signed(reply)


class Epochs:
    """The highest epoch that was heard of an evaluator, in one process of those that call it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.highest = 0

    def judged(self, reply: Any) -> Any:
        """Give a reply, or a refusal in the place of one that an earlier owner gave."""
        epoch = reply.get("epoch", 0) if isinstance(reply, dict) else 0
        if not epoch:
            return reply
        if epoch < self.highest:
            message = f"{self._name} answered under epoch {epoch}; {self.highest} has begun"
            return {"error": "unreachable", "message": message, "retry_after_ms": RETRY_AFTER_MS}
        self.highest = epoch
        return reply


def replaced(name: str) -> Fenced:
    """Make the error of a process that has lost what it owned."""
    return Fenced(f"{name} is owned by another process now.", next_step="This one ends by itself.")
