"""Handing users over to another number of evaluators: the steps, driven to their end through any restart.

Heirs take over beside the work. Then all present evaluators are held, end at one clock, the heirs take the last of them
and begin: the pause. What is decided is durable before it is done, and every step may be asked for again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from cluster.clock import Clock
from cluster.limits import RETRY_AFTER_MS
from cluster.runtime.controller_machine import ControllerMachine
from cluster.runtime.controller_store import ControllerStore
from cluster.runtime.placement import Scaling, flipped, scaled, sources_of, without
from cluster.runtime.protocols import EvaluatorInfo, Reply
from cluster.runtime.status_report import Peers

_log = logging.getLogger("usher.controller")

#: Pause after a step that an evaluator refused, and between two looks at whether retired ones are still read.
_AGAIN_S: Final = 0.2
_READ_EVERY_S: Final = 2.0
#: How long one question for a change stays open.
WAIT_S: Final = 15.0


class Scaler:
    """Drives the change that the machine says is under way, and forgets retired evaluators that nobody reads."""

    def __init__(
        self,
        machine: ControllerMachine,
        store: ControllerStore,
        peers: Peers,
        clock: Clock,
        info_of: Callable[[int], EvaluatorInfo],
        tell: Callable[[], Awaitable[None]],
    ) -> None:
        self._machine = machine
        self._store = store
        self._peers = peers
        self._clock = clock
        self._info_of = info_of
        self._tell = tell
        self._driving: asyncio.Task[None] | None = None
        self._forgetting: asyncio.Task[None] | None = None
        #: What the change waits for, empty while nothing.
        self.waits_for = ""
        self._pause_ms = 0

    def start(self) -> None:
        """Go on with what a restart left unfinished."""
        if self._machine.scaling is not None:
            self._driving = asyncio.create_task(self._drive(), name="scaling")
        self._forgetting = asyncio.create_task(self._forget_retired(), name="retired")

    async def stop(self) -> None:
        """Drive no longer; it goes on at the next start."""
        tasks = [task for task in (self._driving, self._forgetting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(self, evaluators: int) -> Reply | None:
        """Begin a change, or give one up; gives the answer where there is nothing to wait for."""
        machine = self._machine
        if machine.scaling is None:
            if evaluators == len(machine.evaluators):
                return self._there()
            await self._note(scaled(machine.placement(), evaluators))
            self._driving = asyncio.create_task(self._drive(), name="scaling")
            return None
        if evaluators == len(machine.scaling.heirs):
            return None
        if evaluators == len(machine.evaluators) and machine.scaling.phase == "taking over":
            await self._give_up()
            return self._there()
        message = f"a change to {len(machine.scaling.heirs)} evaluators is under way"
        return {"error": "not_ready", "message": message, "retry_after_ms": RETRY_AFTER_MS}

    async def done(self) -> Reply:
        """Wait for the change under way, but for WAIT_S at most."""
        driving = self._driving
        if driving is None:
            return {"error": "not_ready", "message": "no change is under way", "retry_after_ms": RETRY_AFTER_MS}
        await asyncio.wait([driving], timeout=WAIT_S)
        partitions = len(self._machine.owner_of_partition)
        if not driving.done():
            return {**await self._under_way(), "partitions": partitions}
        if driving.cancelled():
            return {"error": "not_ready", "message": "the change was given up", "retry_after_ms": RETRY_AFTER_MS}
        driving.result()
        return self._there()

    def _there(self) -> Reply:
        """Say what there is, and how long events waited for the last change."""
        partitions = len(self._machine.owner_of_partition)
        return {"evaluators": len(self._machine.evaluators), "partitions": partitions, "pause_ms": self._pause_ms}

    async def _under_way(self) -> Reply:
        heirs = self._machine.scaling.heirs if self._machine.scaling is not None else ()
        replies = await asyncio.gather(*(self._peers.evaluators[index].status() for index in heirs))
        percent = min((int(reply.get("taken_over_percent", 0)) for reply in replies), default=100)
        return {"evaluators": len(heirs), "under_way": True, "percent": percent, "waits_for": self.waits_for}

    # --- the steps -----------------------------------------------------------------------------------

    async def _drive(self) -> None:
        scaling = self._machine.scaling
        assert scaling is not None
        began_ms = self._clock.monotonic_ms()
        if scaling.phase != "finishing":
            await self._of_all("taking over", scaling.heirs, lambda index: self._peers.evaluators[index].inherit())
            began_ms = self._clock.monotonic_ms()
            scaling = await self._end_present(scaling)
        await self._finish(scaling)
        machine = self._machine
        placement = flipped(machine.placement(), scaling)
        self._store.set_placement(placement)
        machine.scaling = None
        machine.place(placement, self._info_of)
        await self._tell()
        self.waits_for = ""
        self._pause_ms = round(self._clock.monotonic_ms() - began_ms)

    async def _end_present(self, scaling: Scaling) -> Scaling:
        """Have all present evaluators end at one clock; what that gave is durable when this returns."""
        present = [info.index for info in self._machine.evaluators]
        evaluators = self._peers.evaluators
        while True:
            attempt, snapshots = scaling.attempt, scaling.snapshots
            held = await asyncio.gather(*(evaluators[index].hold(attempt, snapshots) for index in present))
            refused = next((reply for reply in held if "error" in reply), None)
            alike = self._are_alike(held)
            if refused is None and alike and snapshots != held[0]["traits"]:
                scaling = self._agreed(scaling, held[0]["traits"])
                continue  # everybody is to know before the first one ends
            if refused is None and not alike and snapshots is not None:
                # Somebody took one before he was told, so nobody has ended: all may take what there is.
                scaling = self._agreed(scaling, None)
            if refused is None and alike:
                clock_ms = max(self._clock.now_ms(), *(int(reply["clock_ms"]) for reply in held))
                seqs = [int(reply["seq"]) for reply in held]
                asked = (evaluators[index].retire(clock_ms, seq) for index, seq in zip(present, seqs, strict=True))
                ended = await asyncio.gather(*asked)
                refused = next((reply for reply in ended if "error" in reply), None)
                if refused is None:
                    break
            # An evaluator that ended stays so and goes on to a later clock; the others go on with their work.
            await asyncio.gather(*(evaluators[index].release() for index in present))
            self._wait_for(refused or {"message": "a snapshot of traits, or definitions, that not every evaluator has"})
            await asyncio.sleep(_AGAIN_S)
        counts: dict[str, int] = {}
        for reply in ended:
            counts = {name: counts.get(name, 0) + value for name, value in reply["counts"].items()}
        found = [(int(reply["seq"]), int(reply["transition_seq"])) for reply in ended]
        ends = dict(zip(present, found, strict=True))
        finishing = msgspec.structs.replace(scaling, phase="finishing", clock_ms=clock_ms, ends=ends, counts=counts)
        await self._note(finishing)
        return finishing

    def _are_alike(self, held: Sequence[Reply]) -> bool:
        """Say whether all have the same snapshots, and the definitions that were applied last."""
        target = self._machine.target
        versions = {reply.get("version") for reply in held} | ({target.version} if target is not None else set())
        return len(versions) == 1 and len({_frozen(reply.get("traits")) for reply in held}) == 1

    def _agreed(self, scaling: Scaling, snapshots: dict[str, int] | None) -> Scaling:
        """Note with which snapshots all are to end. From now on one may: for an evaluator that ended is no way back."""
        attempt = scaling.attempt + 1
        agreed = msgspec.structs.replace(scaling, phase="ending", attempt=attempt, snapshots=snapshots)
        self._store.set_placement(self._machine.placement(), agreed)
        self._machine.scaling = agreed
        return agreed

    async def _finish(self, scaling: Scaling) -> None:
        placement, first = self._machine.placement(), scaling.heirs[0]

        def finish(heir: int) -> Awaitable[Reply]:
            ends = {index: scaling.ends[index] for index in sources_of(placement, scaling, heir)}
            counts = scaling.counts if heir == first else {}
            return self._peers.evaluators[heir].finish(ends, scaling.clock_ms, counts)

        await self._of_all("finishing", scaling.heirs, finish)

    async def _of_all(self, what: str, indexes: tuple[int, ...], step: Callable[[int], Awaitable[Reply]]) -> None:
        """Ask evaluators for a step until all have taken it."""

        async def until_done(index: int) -> None:
            while True:
                reply = await step(index)
                if "error" not in reply:
                    return
                self._wait_for({"message": f"evaluator-{index}, {what}: {reply.get('message') or reply['error']}"})
                await asyncio.sleep(_AGAIN_S)

        await asyncio.gather(*map(until_done, indexes))

    def _wait_for(self, reply: Reply) -> None:
        message = str(reply.get("message") or reply.get("error"))
        if message != self.waits_for:
            _log.info("The change of evaluators waits for: %s", message)
        self.waits_for = message

    async def _give_up(self) -> None:
        """Forget a change; the heirs have nothing that is not elsewhere."""
        if self._driving is not None:
            self._driving.cancel()
            await asyncio.gather(self._driving, return_exceptions=True)
        machine = self._machine
        released = (self._peers.evaluators[info.index].release() for info in machine.evaluators)
        await asyncio.gather(*released)
        scaling = machine.scaling
        # Their indexes are spent: a log of one of them may have been begun.
        machine.next_index = max(scaling.heirs) + 1 if scaling is not None else machine.next_index
        await self._note(None)

    async def _note(self, scaling: Scaling | None) -> None:
        self._store.set_placement(self._machine.placement(), scaling)
        self._machine.scaling = scaling
        self._machine.revision += 1
        for index in self._machine.processes():
            self._peers.evaluators[index]
        await self._tell()

    # --- afterwards ----------------------------------------------------------------------------------

    async def _forget_retired(self) -> None:
        """Let retired evaluators end that no sync reads any more."""
        while True:
            await asyncio.sleep(_READ_EVERY_S)
            for index, retired in list(self._machine.retired.items()):
                reply: dict[str, Any] = await self._peers.delivery.has_read(index, retired.last_seq)
                if reply.get("read") and self._machine.scaling is None:
                    placement = without(self._machine.placement(), index)
                    self._store.set_placement(placement)
                    self._machine.place(placement, self._info_of)
                    await self._tell()


def _frozen(versions: Any) -> Any:
    return tuple(sorted((versions or {}).items()))
