"""Which process runs what: the only file that makes classes remote.

Every process is a `Host`: it starts its part by itself, from its arguments and from what the controller says, so Ray's
restart of a killed one needs nobody's help. Until the part has started, calls are refused with `not_ready`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import traceback
from collections.abc import Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.clock import SystemClock
from cluster.errors import Fenced, InternalError, NotReady, UsherError
from cluster.leases.keeper import LeaseKeeper
from cluster.limits import RETRY_AFTER_MS, START_AGAIN_MS
from cluster.log.occupancy import highest_epoch
from cluster.runtime.data_dir import DataDir
from cluster.runtime.nodes import node_folder
from cluster.runtime.plan import AT_SITE, Plan, evaluator_name, info_on
from cluster.runtime.protocols import Evaluator, EvaluatorInfo, EvaluatorStart, Reply
from cluster.runtime.ray_session import NAMESPACE
from cluster.runtime.remote import (
    RemoteController,
    RemoteDelivery,
    RemoteEdge,
    RemoteEvaluator,
    RemotePart,
    RemoteTraits,
)
from cluster.runtime.snapshots import fetch_snapshots
from cluster.runtime.status_report import Part, Peers
from cluster.runtime.tenure import Tenure, replaced

_log = logging.getLogger("usher.evaluator")

#: Calls that wait in one process at a time: long polls of every edge, delivery and each open event stream.
CONCURRENT_CALLS_MAX = 4_000
#: How often a process looks whether its node's Ray process is still there.
PARENT_EVERY_S = 1.0
#: How many terms a starting evaluator waits for the one before to fall silent, before it says so and tries again.
LEASE_WAITS = 4


async def end_with_parent() -> None:
    """End this process once its node's Ray process is no more: Ray then asks nothing of it, not even to end."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_EVERY_S)
    _log.warning("The Ray process of this node is gone: %s ends.", os.getpid())
    os._exit(1)


class Host:
    """One process: starts its part in the background and passes calls to it."""

    async def __init__(self, plan: Plan, index: int = 0) -> None:  # type: ignore[misc]  # Ray awaits it
        self._plan = plan
        self._index = index
        context = ray.get_runtime_context()
        #: Where this process is, which for one that Ray moved is not where it was made.
        self.node_id: str = context.get_node_id()
        self.name: str = context.get_actor_name() or ""
        self._part: Any = None
        #: Why the latest attempt to start failed; None while it goes on and once it succeeded.
        self._failure: UsherError | None = None
        self._starting = asyncio.create_task(self._start(), name="start")
        self._parent = asyncio.create_task(end_with_parent(), name="parent")

    async def build(self, plan: Plan, index: int) -> Any:
        """Make and start the part. Imports are here: each process loads only what it runs."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """Give the folder that processes of this node share. Raises DataDirError."""
        return node_folder(Path(self._plan.data_dir), self._plan.node_id, self.node_id)

    async def ready(self) -> Reply:
        """Say whether the part has started: `{"ready": bool, "pid": int, "failure": UsherError | None}`."""
        return {"ready": self._part is not None, "pid": os.getpid(), "failure": self._failure}

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method of the part, or refuse while there is none."""
        if self._part is None:
            return self._not_ready()
        return await getattr(self._part, method)(*args)

    async def tidy(self) -> None:
        """Remove what processes of this node shared, once all of them have ended their work; nothing at home."""
        if self.node_id != self._plan.node_id:
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _start(self) -> None:
        """Try until it works: a full disk is freed, a port comes free. The launcher gives up at the first failure."""
        while self._part is None:
            try:
                self._part = await self.build(self._plan, self._index)
                self._failure = None
            except UsherError as error:
                self._failure = error
            except Exception:
                # The launcher and `usher status` show it; a bare line in Ray's log folder would go unseen.
                self._failure = InternalError(traceback.format_exc(), next_step="Please report this.")
            if self._failure is not None:
                await asyncio.sleep(START_AGAIN_MS / 1000)
        # What is here by now stays for good. Left to the collector, each full pass over it (100,000 objects and more:
        # 50 ms) would be a pause in which nothing is answered.
        gc.collect()
        gc.freeze()

    def _not_ready(self) -> Reply:
        return {
            "error": "not_ready",
            "message": str(self._failure) if self._failure else "it is starting",
            "retry_after_ms": RETRY_AFTER_MS,
            "pid": os.getpid(),
            "node": self.node_id,
        }


class Owner(Host):
    """Hosts a part that owns files beside the data dir: one process at a time runs it, under a lease."""

    #: Files whose last owners' epochs this one's is above; they may be older than the leases.
    files: tuple[str, ...] = ()

    async def build(self, plan: Plan, index: int) -> Any:
        """Become the one owner, then make and start the part."""
        paths = [Path(plan.data_dir) / name for name in self.files]
        seen = await asyncio.to_thread(lambda: max(map(highest_epoch, paths), default=0))
        lease = LeaseKeeper(plan.home_leases, self.name, floor=max(plan.epoch, seen + 1))
        await asyncio.to_thread(lease.acquire, LEASE_WAITS * lease.term_ms)
        lease.when_lost(partial(_end, lease.name))
        try:
            return Tenure(await self.owned(plan, lease), lease, signs=False)
        except BaseException:
            await asyncio.to_thread(lease.release)
            raise

    async def owned(self, plan: Plan, lease: LeaseKeeper) -> Any:
        """Make and start the part, whose process owns it. Imports are here."""
        raise NotImplementedError


def _end(name: str) -> None:
    """End this process at once: another has its place."""
    _log.error("%s", replaced(name))
    os._exit(1)


class UsherController(Owner):
    """Hosts the controller."""

    files = ("controller.db",)

    async def owned(self, plan: Plan, lease: LeaseKeeper) -> Any:
        """Make the controller over the data dir."""
        from cluster.runtime.controller import ControllerActor
        from cluster.runtime.controller_machine import ControllerMachine

        machine = ControllerMachine(
            evaluators=tuple(map(nowhere_yet, plan.placement.evaluators)),
            owner_of_partition=plan.placement.owners,
            settings={"url": plan.url, "data_dir": plan.data_dir, "log": plan.log.uri},
        )
        peers = Peers(
            evaluators=Evaluators(),
            delivery=RemoteDelivery(),
            traits=RemoteTraits(),
            edges=Edges({name: RemotePart(name) for name in plan.edge_names()}),
        )
        controller = ControllerActor(
            machine, plan.files, peers, nodes=nodes, node_id=self.node_id, info_of=nowhere_yet, epoch=lease.epoch
        )
        await controller.start()
        return controller


class Evaluators(dict[int, Evaluator]):
    """The evaluators as others call them, by index; any index has one, whether it runs or not."""

    def __missing__(self, index: int) -> Evaluator:
        self[index] = RemoteEvaluator(evaluator_name(index))
        return self[index]

    def get(self, index: int, default: Any = None) -> Any:
        """Give the evaluator: there always is one."""
        return self[index]


class Edges(dict[str, Part]):
    """The edge processes as the controller calls them, by name; any name has one, whether it runs or not."""

    def __missing__(self, name: str) -> Part:
        self[name] = RemotePart(name)
        return self[name]


def nowhere_yet(index: int) -> EvaluatorInfo:
    """Give what is known of an evaluator that has not said where it is: who wants to read of it asks it."""
    return EvaluatorInfo(index, evaluator_name(index), "", "")


def nodes() -> list[dict[str, Any]]:
    """Give Ray's nodes as `usher status` shows them."""
    return [
        {
            "id": node["NodeID"],
            "host": node["NodeManagerHostname"],
            "address": node["NodeManagerAddress"],
            "alive": node["Alive"],
            "cpus": node.get("Resources", {}).get("CPU", 0.0),
        }
        for node in ray.nodes()
    ]


class UsherEvaluator(Host):
    """Hosts one evaluator."""

    async def build(self, plan: Plan, index: int) -> Any:
        """Compile, recover from the log, take the definitions in force."""
        lease = LeaseKeeper(plan.lease_settings, evaluator_name(index), floor=plan.epoch)
        await asyncio.to_thread(lease.acquire, LEASE_WAITS * lease.term_ms)
        try:
            return Tenure(await self._owned(plan, index, lease), lease)
        except BaseException:
            await asyncio.to_thread(lease.release)
            raise

    async def call(self, method: str, *args: Any) -> Any:
        """See `Host`. What is logged of a snapshot is its name: its copy is on this node before that."""
        if method == "apply_traits" and self._part is not None and self.node_id != self._plan.node_id:
            try:
                await fetch_snapshots(RemoteTraits(), DataDir(self.folder).traits)
            except (NotReady, OSError) as error:
                return {"error": "not_ready", "message": str(error), "retry_after_ms": RETRY_AFTER_MS}
        return await super().call(method, *args)

    async def _owned(self, plan: Plan, index: int, lease: LeaseKeeper) -> Any:
        from actors.evaluator.entries import look_for_snapshots_in
        from cluster.runtime.warming import warm_up

        await warm_up()
        if self.node_id != plan.node_id:
            await fetch_snapshots(RemoteTraits(), DataDir(self.folder).traits)
        look_for_snapshots_in(DataDir(self.folder).traits)
        here = info_on(self.node_id, self.folder, index)
        start = await RemoteController().starting_evaluator(index, here)
        try:
            return await self._started(plan, index, lease, start)
        except Fenced as fenced:
            if not lease.is_first or fenced.epoch < lease.epoch:
                raise
            # A log that is older than these leases: of another data dir, whose owners nobody here knows.
            _log.warning("%s was owned under epoch %d, of which no lease tells.", lease.name, fenced.epoch)
            await asyncio.to_thread(lease.rise_to, fenced.epoch + 1)
        return await self._started(plan, index, lease, start)

    async def _started(self, plan: Plan, index: int, lease: LeaseKeeper, start: EvaluatorStart) -> Any:
        from actors.evaluator.actor import EvaluatorActor
        from actors.evaluator.succession.importing import Legacy

        evaluators = Evaluators()
        legacy = None
        if start.sources and start.published is not None:
            legacy = Legacy(start.published, {source: evaluators[source] for source in start.sources}, start.sources)
        evaluator = EvaluatorActor(
            index,
            str(self.folder),
            lease.epoch,
            start.partitions,
            node_id=self.node_id,
            legacy=legacy,
            checkpoints=plan.checkpoints,
            log=plan.log,
        )
        loop = asyncio.get_running_loop()
        lease.when_lost(lambda: _in_loop(loop, evaluator.lose(replaced(lease.name))))
        await evaluator.start(start.published)
        return evaluator


def _in_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Have a loop do something, from another thread."""
    asyncio.run_coroutine_threadsafe(work, loop)


class UsherDelivery(Owner):
    """Hosts delivery."""

    files = ("delivery.db", "sync_log.db")

    async def owned(self, plan: Plan, lease: LeaseKeeper) -> Any:
        """Take up every sync where its durable cursor stands."""
        from actors.delivery.actor import DeliveryActor

        delivery = DeliveryActor(
            plan.data_dir,
            RemoteController(),
            lambda info: RemoteEvaluator(info.name),
            SystemClock(),
            traits=RemoteTraits().columns,
            trait_changes=RemoteTraits().changed,
            node_id=self.node_id,
            epoch=lease.epoch,
            may_send=lease.holds,
        )
        await delivery.start()
        return delivery


class UsherTraits(Owner):
    """Hosts the trait loader."""

    async def owned(self, plan: Plan, lease: LeaseKeeper) -> Any:
        """Load what the definitions name, put it in the object store once, and go on watching."""
        from actors.traits.actor import TraitsActor

        traits = TraitsActor(
            plan.data_dir,
            RemoteController(),
            Evaluators(),
            put=ray.put,
            base_dir=Path(plan.base_dir),
            node_id=self.node_id,
            owns=lease.holds,
        )
        await traits.start()
        return traits


class Edge(Host):
    """What the processes of an edge have in common."""

    async def serve(self, role: Literal["front", "ingest"], ingest: Iterable[int]) -> Any:
        """Make and start this process's server; `ingest` numbers the processes to whose sockets it has to do."""
        from actors.evaluator.membership_files import MembershipReader
        from cluster.edge.server import EdgeServer

        plan = self._plan
        at_home = self.node_id == plan.node_id
        server = EdgeServer(
            role,
            plan.host,
            plan.port,
            RemoteController(),
            Evaluators().__getitem__,
            RemoteDelivery(),
            RemoteTraits(),
            SystemClock(),
            MembershipReader,
            handover_paths=tuple(plan.socket_path(index, None if at_home else self.folder) for index in ingest),
            edge=RemoteEdge,
            name=self.name,
            node_id=self.node_id,
            dead_letters=self.folder / "dead-letters" if role == "ingest" or not plan.ingest_edges else None,
        )
        await server.start()
        return server


class UsherFront(Edge):
    """Hosts the edge that listens where people connect, serves reads and hands event connections over."""

    async def build(self, plan: Plan, index: int) -> Any:
        """Bind the port, again after a restart, and serve."""
        return await self.serve("front", range(plan.ingest_edges))


class UsherIngest(Edge):
    """Hosts an edge that takes events."""

    async def build(self, plan: Plan, index: int) -> Any:
        """Listen on its unix socket and serve."""
        return await self.serve("ingest", [index])


_HOSTS: dict[str, type[Host]] = {
    "controller": UsherController,
    "evaluator": UsherEvaluator,
    "delivery": UsherDelivery,
    "traits": UsherTraits,
    "edge-front": UsherFront,
    "edge-ingest": UsherIngest,
}


def create(plan: Plan, name: str, node_id: str) -> Any:
    """Start the process `name` of a plan on a node and give its handle. Raises ValueError where the name is taken.

    num_cpus=0: Usher's processes share the machine as the operating system deals it; Ray would refuse the third on two
    cores.
    """
    what = name.partition(AT_SITE)[0]
    kind, _, number = what.rpartition("-")
    index = int(number) if number.isdigit() else 0
    host = ray.remote(_HOSTS[kind if number.isdigit() else what])
    placed = NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
    return host.options(
        name=name,
        namespace=NAMESPACE,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=CONCURRENT_CALLS_MAX,
        scheduling_strategy=placed,
    ).remote(plan, index)
