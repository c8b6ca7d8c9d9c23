"""What an edge knows of the cluster: an immutable picture, swapped whole when the controller has a newer one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cluster.admission.plan import EventPlan
from cluster.definitions.model import Audience, Definitions
from cluster.edge.auth import KeyRing
from cluster.limits import EDGE_STATE_RETRY_MS, EDGE_STATE_WAIT_MS
from cluster.runtime.protocols import ClusterState, Controller, EvaluatorInfo, KeyRecord

_log = logging.getLogger("usher.edge")

#: How much longer than asked an answer may take on its way.
_GRACE_S: Final = 0.5
#: A revision below every real one.
NO_REVISION: Final = -1


@dataclass(frozen=True, slots=True)
class EdgeState:
    """One revision of the cluster, with everything derived from it. Nothing in it changes.

    `version` is 0 and `decoder` None before the first definitions.
    """

    revision: int
    version: int
    definitions: Definitions | None
    audience_versions: Mapping[str, int]
    decoder: Any
    keys: KeyRing
    #: Audiences that can be read: evaluated ones. Drafts and archived ones read as unknown.
    audiences: Mapping[str, Audience]
    owner_of_partition: tuple[int, ...]
    evaluators: tuple[EvaluatorInfo, ...]
    #: API keys as stored.
    records: tuple[KeyRecord, ...] = ()
    #: Audiences whose publication is under way.
    preparing: tuple[str, ...] = ()
    #: The source of each Snowplow application, by its `aid`; that of "*" takes all others.
    applications: Mapping[str, str] = field(default_factory=dict)

    def source_of(self, application: str) -> str | None:
        """Give the source of a Snowplow application, None where none takes it."""
        return self.applications.get(application) or self.applications.get("*")

    def parent_of(self, audience_id: str) -> str | None:
        """Give the parent model of a readable audience, None for an unknown one."""
        audience = self.audiences.get(audience_id)
        return None if audience is None else audience.parent


def edge_state(cluster: ClusterState, make_decoder: Callable[[EventPlan], Any]) -> EdgeState:
    """Derive an edge's state. Costs some ms: Structs are made from the plan."""
    published = cluster.published
    definitions = published.definitions if published else None
    decoder = make_decoder(EventPlan(definitions)) if definitions else None
    return EdgeState(
        revision=cluster.revision,
        version=published.version if published else 0,
        definitions=definitions,
        audience_versions=published.audience_versions if published else {},
        decoder=decoder,
        keys=KeyRing.of(cluster.keys, definitions),
        audiences=_readable(definitions),
        owner_of_partition=cluster.owner_of_partition,
        evaluators=cluster.evaluators,
        records=cluster.keys,
        preparing=cluster.preparing,
        applications=_applications(definitions),
    )


def _applications(definitions: Definitions | None) -> dict[str, str]:
    sources = definitions.sources.values() if definitions else ()
    return {application: source.id for source in sources for application in source.app_id}


def _readable(definitions: Definitions | None) -> dict[str, Audience]:
    audiences = definitions.audiences if definitions else {}
    return {audience_id: audience for audience_id, audience in audiences.items() if audience.evaluated}


EMPTY: Final = EdgeState(
    revision=NO_REVISION, version=0, definitions=None, audience_versions={}, decoder=None, keys=KeyRing(),
    audiences={}, owner_of_partition=(), evaluators=(),
)  # fmt: skip


class StateWatcher:
    """Keeps `current` as new as the controller's state, by long polling; tells listeners after each swap."""

    def __init__(self, controller: Controller, make_decoder: Callable[[EventPlan], Any]) -> None:
        self._controller = controller
        self._make_decoder = make_decoder
        self._listeners: list[Callable[[EdgeState], None]] = []
        self._task: asyncio.Task[None] | None = None
        self.current: EdgeState = EMPTY

    def on_change(self, listener: Callable[[EdgeState], None]) -> None:
        """Call `listener` with every new state, in the event loop."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Take the first state, then go on watching until `stop`."""
        self._take(await self._controller.state_after(NO_REVISION, EDGE_STATE_WAIT_MS))
        self._task = asyncio.create_task(self._watch(), name="edge-state")

    async def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self, version: int, wait_ms: int) -> bool:
        """Fetch the newest state now; true when it has definitions of at least `version`.

        Waits up to `wait_ms` for them: an evaluator takes a publication before the controller says it is in force.
        """
        deadline = asyncio.get_running_loop().time() + wait_ms / 1000
        while self.current.version < version:
            left_ms = int((deadline - asyncio.get_running_loop().time()) * 1000)
            if left_ms <= 0:
                return False
            try:
                # A controller that restarts may keep the question longer than it was told to.
                async with asyncio.timeout(left_ms / 1000 + _GRACE_S):
                    self._take(await self._controller.state_after(self.current.revision, left_ms))
            except TimeoutError:
                return False
        return True

    async def sync(self) -> None:
        """Take the state as it is now."""
        self._take(await self._controller.state_after(NO_REVISION, 0))

    def _take(self, cluster: ClusterState) -> None:
        if not self._is_news(cluster):
            return
        self.current = edge_state(cluster, self._make_decoder)
        for listener in self._listeners:
            listener(self.current)

    def _is_news(self, cluster: ClusterState) -> bool:
        """Say whether this state is to be taken. A restarted controller counts revisions anew: contents decide too."""
        version = cluster.published.version if cluster.published else 0
        if version < self.current.version:
            return False
        current = self.current
        return (cluster.revision, version, cluster.keys, cluster.preparing) != (
            current.revision, current.version, current.records, current.preparing,
        )  # fmt: skip

    async def _watch(self) -> None:
        revision = self.current.revision
        while True:
            try:
                self._take(await self._controller.state_after(revision, EDGE_STATE_WAIT_MS))
                revision = self.current.revision
            except Exception as error:
                # A controller that restarts is no reason to stop serving: the last state stays in force. The new one
                # counts revisions anew, so the next question asks for any.
                _log.warning("The controller does not answer (%s); trying again.", error)
                revision = NO_REVISION
                await asyncio.sleep(EDGE_STATE_RETRY_MS / 1000)
