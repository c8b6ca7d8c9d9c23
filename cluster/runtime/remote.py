"""The protocols over Ray: every call to another process goes through here.

A call to a process that is gone, restarting or silent gives `{"error": "unreachable", ...}`: a refusal is a value, the
caller decides. Names, not handles, are passed around, so a part that was made anew is found again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.definitions.model import Published
from cluster.errors import NotReady, UsherError
from cluster.limits import CALL_TIMEOUT_MS, DRAIN_DEADLINE_MS, LOOKUP_TIMEOUT_MS, RETRY_AFTER_MS
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, EvaluatorStart, LogQuery, Reply, Role
from cluster.runtime.ray_session import NAMESPACE
from cluster.runtime.tenure import Epochs

#: Pause before a starting or restarting controller is asked again.
_ASK_AGAIN_S = 0.1
#: How long one question for a publication stays open.
_BACKFILL_TIMEOUT_MS = 20 * CALL_TIMEOUT_MS
#: A destination tried out: some requests to a vendor. Below the minute for which clients wait.
_TRIAL_TIMEOUT_MS = 55_000


def unreachable(name: str, why: str) -> Reply:
    """Give the refusal for a process that does not answer."""
    return {"error": "unreachable", "message": f"{name}: {why}", "retry_after_ms": RETRY_AFTER_MS}


class RemotePart:
    """A hosted part (cluster.runtime.wiring.Host) in another process, found by its Ray actor name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._handle: Any = None

    async def status(self) -> Reply:
        """Give the part's status."""
        reply: Reply = await self.call("status")
        return reply

    async def drain(self, within_ms: int = DRAIN_DEADLINE_MS) -> Reply:
        """Let the part finish what it holds."""
        reply: Reply = await self.call("drain", within_ms)
        return reply

    async def call(self, method: str, *args: Any, timeout_ms: int = CALL_TIMEOUT_MS) -> Any:
        """Call a method of the part; every failure of the transport is a refusal, what the part raises is raised."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                handle = await self._resolve()
                return await handle.call.remote(method, *args)
        except RayTaskError as error:
            # First: Ray makes it a kind of its cause too, so a KeyError over there is a LookupError here.
            # Ray's text is a traceback of the other process; people are shown what our own error says.
            if isinstance(error.cause, UsherError):
                raise error.cause from None
            raise
        except TimeoutError:
            return unreachable(self.name, f"no answer within {timeout_ms} ms")
        except (RayError, ConnectionError) as error:
            self._handle = None
            return unreachable(self.name, f"its process is gone or restarting ({type(error).__name__})")
        except LookupError as error:
            return unreachable(self.name, str(error))

    async def _resolve(self) -> Any:
        """Find the actor by name, in a thread because Ray asks its head process and blocks."""
        if self._handle is None:
            try:
                self._handle = await asyncio.to_thread(ray.get_actor, self.name, NAMESPACE)
            except ValueError:
                # Ray's own message explains namespaces; ours says what matters here.
                message = "there is no actor of that name"
                raise LookupError(message) from None
        return self._handle


class RemoteEdge(RemotePart):
    """The Edge protocol."""

    async def seen(self) -> Reply:
        """See the protocol. Waits little: a person waits for it, and what the others saw is worth showing."""
        reply: Reply = await self.call("seen", timeout_ms=LOOKUP_TIMEOUT_MS)
        return reply


class RemoteEvaluator(RemotePart):
    """The Evaluator protocol. What an earlier owner says, a process that was stopped and goes on, is a refusal."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._epochs = Epochs(name)

    async def call(self, method: str, *args: Any, timeout_ms: int = CALL_TIMEOUT_MS) -> Any:
        """See `RemotePart.call`."""
        return self._epochs.judged(await super().call(method, *args, timeout_ms=timeout_ms))

    async def append(self, request: Reply) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("append", request)
        return reply

    async def lookup(self, parent: str, users: list[str], audiences: list[str], detail: bool) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call(
            "lookup", parent, users, audiences, detail, timeout_ms=LOOKUP_TIMEOUT_MS
        )
        return reply

    async def prepare(self, published: Published) -> Reply:
        """See the protocol. Waits long: a backfill reads the retained events. Who asks again waits for the same one."""
        reply: Reply = await self.call("prepare", published, timeout_ms=_BACKFILL_TIMEOUT_MS)
        return reply

    async def publish(self, published: Published) -> Reply:
        """See the protocol. Waits as long as `prepare`, which an evaluator that lost its preparation does first."""
        reply: Reply = await self.call("publish", published, timeout_ms=_BACKFILL_TIMEOUT_MS)
        return reply

    async def apply_traits(self, parent: str, version: int, refs: list[Any], path: str) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call(
            "apply_traits", parent, version, refs, path, timeout_ms=4 * CALL_TIMEOUT_MS
        )
        return reply

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> Reply:
        """See the protocol."""
        timeout_ms = wait_ms + CALL_TIMEOUT_MS
        reply: Reply = await self.call(
            "transitions_after", seq, limit, wait_ms, audience, timeout_ms=timeout_ms
        )
        return reply

    async def trim_transitions(self, read_seq: int) -> Reply:
        """See the protocol. Waits long: many may be old."""
        reply: Reply = await self.call("trim_transitions", read_seq, timeout_ms=_BACKFILL_TIMEOUT_MS)
        return reply

    async def members(self, audience: str, cursor: str | None, limit: int) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("members", audience, cursor, limit)
        return reply

    async def initial_members(self, audience: str) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("initial_members", audience)
        return reply


    async def entries_after(self, seq: int, bytes_max: int) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("entries_after", seq, bytes_max, timeout_ms=4 * CALL_TIMEOUT_MS)
        return reply

    async def hold(self, attempt: int, snapshots: Mapping[str, int] | None) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("hold", attempt, snapshots)
        return reply

    async def release(self) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("release")
        return reply

    async def retire(self, clock_ms: int, seq: int) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("retire", clock_ms, seq)
        return reply

    async def inherit(self) -> Reply:
        """See the protocol. Waits long, as `prepare` does."""
        reply: Reply = await self.call("inherit", timeout_ms=_BACKFILL_TIMEOUT_MS)
        return reply

    async def finish(self, ends: Mapping[int, tuple[int, int]], clock_ms: int, counts: Mapping[str, int]) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("finish", ends, clock_ms, counts, timeout_ms=_BACKFILL_TIMEOUT_MS)
        return reply


class RemoteController(RemotePart):
    """The Controller protocol. Reading the state outlasts a restart of the controller; the rest is refused."""

    def __init__(self, name: str = "controller") -> None:
        super().__init__(name)

    async def state_after(self, revision: int, wait_ms: int) -> ClusterState:
        """See the protocol; while the controller restarts, waits for it beyond `wait_ms`."""
        while True:
            state = await self.call("state_after", revision, wait_ms, timeout_ms=wait_ms + CALL_TIMEOUT_MS)
            if isinstance(state, ClusterState):
                return state
            await asyncio.sleep(_ASK_AGAIN_S)

    async def starting_definitions(self) -> Published | None:
        """Give the definitions that a starting evaluator takes; waits for a controller that starts or restarts."""
        while True:
            answer = await self.call("starting_definitions")
            if not isinstance(answer, dict):
                published: Published | None = answer
                return published
            await asyncio.sleep(_ASK_AGAIN_S)

    async def starting_evaluator(self, index: int, info: EvaluatorInfo) -> EvaluatorStart:
        """Give what a starting evaluator is, and say where; waits for a controller that starts or restarts."""
        while True:
            answer = await self.call("starting_evaluator", index, info)
            if isinstance(answer, EvaluatorStart):
                return answer
            await asyncio.sleep(_ASK_AGAIN_S)

    async def edges(self) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("edges", timeout_ms=LOOKUP_TIMEOUT_MS)
        return reply

    async def scale(self, evaluators: int) -> Reply:
        """See the protocol. Waits long: users are handed over beside the work."""
        reply: Reply = await self.call("scale", evaluators, timeout_ms=_BACKFILL_TIMEOUT_MS)
        return reply

    async def apply(self, document: Mapping[str, Any], file: str, mode: str, who: str = "usher") -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("apply", document, file, mode, who, timeout_ms=4 * CALL_TIMEOUT_MS)
        return reply

    async def plan(self, document: Mapping[str, Any], file: str, mode: str) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("plan", document, file, mode)
        return reply

    async def create_key(self, role: Role, name: str, who: str = "usher") -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("create_key", role, name, who)
        return reply

    async def revoke_key(self, key_id: str, who: str = "usher") -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("revoke_key", key_id, who)
        return reply


class RemoteDelivery(RemotePart):
    """The Delivery protocol."""

    def __init__(self, name: str = "delivery") -> None:
        super().__init__(name)

    async def metrics(self) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("metrics")
        return reply

    async def sync_log(self, sync: str, query: LogQuery) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("sync_log", sync, query)
        return reply

    async def dead_letters(self, sync: str, limit: int) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("dead_letters", sync, limit)
        return reply

    async def retry(self, sync: str) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("retry", sync)
        return reply

    async def read_through(self, evaluator: int) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("read_through", evaluator)
        return reply

    async def has_read(self, evaluator: int, seq: int) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("has_read", evaluator, seq)
        return reply


    async def suspend(self, sync: str, suspended: bool) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("suspend", sync, suspended)
        return reply

    async def resync(self, sync: str) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("resync", sync)
        return reply

    async def test_channel(self, channel: str) -> Reply:
        """See the protocol."""
        reply: Reply = await self.call("test_channel", channel)
        return reply

    async def test_destination(
        self, destination: str, sync: str, user: str, verb: Literal["add", "remove"], send: bool
    ) -> Reply:
        """See the protocol. A vendor may take its time, several requests long."""
        asked = ("test_destination", destination, sync, user, verb, send)
        reply: Reply = await self.call(*asked, timeout_ms=_TRIAL_TIMEOUT_MS)
        return reply


class RemoteTraits(RemotePart):
    """The trait loader: values of traits for delivery."""

    def __init__(self, name: str = "traits") -> None:
        super().__init__(name)

    async def lookup(self, parent: str, keys: list[str], columns: list[str]) -> Reply:
        """Give trait values of keys; see TraitsActor.lookup."""
        reply: Reply = await self.call("lookup", parent, keys, columns)
        return reply

    async def columns(self, parent: str, keys: list[str], columns: list[str]) -> Mapping[str, list[Any]]:
        """Give each column's values in the order of the keys; raises NotReady where the loader does not answer."""
        reply = await self.lookup(parent, keys, columns)
        if "error" in reply:
            raise NotReady(str(reply["message"]), retry_after_ms=RETRY_AFTER_MS)
        values: Mapping[str, list[Any]] = reply["columns"]
        return values

    async def changed(self, parent: str, since: int, columns: list[str]) -> tuple[int, list[str] | None]:
        """Give the present version, and who differs from version `since`; raises NotReady without an answer."""
        reply: Reply = await self.call("changed", parent, since, columns)
        if "error" in reply:
            raise NotReady(str(reply["message"]), retry_after_ms=RETRY_AFTER_MS)
        return int(reply["version"]), reply["users"]

    async def snapshots(self) -> Reply:
        """Give which snapshots are kept; see TraitsActor.snapshots."""
        reply: Reply = await self.call("snapshots")
        return reply

    async def snapshot_part(self, parent: str, version: int, offset: int) -> Reply:
        """Give a part of a snapshot's file; see TraitsActor.snapshot_part."""
        reply: Reply = await self.call("snapshot_part", parent, version, offset)
        return reply

    async def refresh(self, parent: str) -> Reply:
        """Have a parent's source read now."""
        reply: Reply = await self.call("refresh", parent)
        return reply
