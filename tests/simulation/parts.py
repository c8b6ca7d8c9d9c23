"""Usher's own processes, made as cluster/runtime/wiring.py makes them, with this world in place of Ray and sockets."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.delivery.actor import DeliveryActor
from actors.delivery.commits import Commits
from actors.delivery.store import DeliveryStore
from actors.delivery.sync_log import SyncLog
from actors.evaluator.actor import EvaluatorActor
from actors.evaluator.backfill import Backfill, Pace
from actors.evaluator.checkpointing.checkpointer import LOG_ID, Checkpointer, Taken, log_id
from actors.evaluator.membership_files import MembershipReader
from actors.evaluator.stimuli import Stimulus
from actors.evaluator.succession.importing import Legacy
from actors.evaluator.worker import EvaluatorWorker
from cluster.admission.decoder import Decoder
from cluster.checkpoints.settings import CheckpointSettings
from cluster.checkpoints.store import CheckpointStore
from cluster.edge import problems
from cluster.edge.batching import EventBatcher
from cluster.edge.ingest import ingest_grant, report
from cluster.edge.reading import Memberships
from cluster.edge.sightings import Sightings
from cluster.edge.state import StateWatcher
from cluster.errors import Damaged, Fenced, LogUnavailable, StorageFull, UsherError
from cluster.limits import RETRY_AFTER_MS, START_AGAIN_MS
from cluster.log.contract import Log
from cluster.log.database import transaction
from cluster.runtime.controller import ControllerActor
from cluster.runtime.controller_machine import ControllerMachine
from cluster.runtime.protocols import EvaluatorInfo, EvaluatorStart, Reply
from cluster.runtime.remote import RemoteController, RemoteDelivery, RemoteEvaluator, RemoteTraits
from cluster.runtime.status_report import Peers
from cluster.wire import native
from tests.simulation.destinations import Transport
from tests.simulation.network import OverNetwork
from tests.simulation.processes import Process
from tests.simulation.storage import WatchedLog

if TYPE_CHECKING:
    from tests.simulation.world import World


class Host:
    """One process's part: started in the background, tried again where it cannot start, called once it has."""

    def __init__(self, world: World, process: Process, build: Callable[[], Awaitable[Any]]) -> None:
        self._world = world
        self._process = process
        self._build = build
        self.part: Any = None
        process.spawn(self._start())

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method of the part, or refuse while there is none."""
        if self.part is None:
            return {"error": "not_ready", "message": "it is starting", "retry_after_ms": RETRY_AFTER_MS}
        return await getattr(self.part, method)(*args)

    async def _start(self) -> None:
        while self.part is None:
            try:
                self.part = await self._build()
            except Damaged as error:
                # No fault here damages a log: what is lost of it was never synced, or never written.
                self._world.broke(self._process.name, error)
                return
            except UsherError as error:
                self._world.say("cannot start", self._process.name, str(error))
                await asyncio.sleep(START_AGAIN_MS / 1000)
            except Exception as error:
                self._world.broke(self._process.name, error)
                return
        self._world.say("started", self._process.name)


# --- evaluators ------------------------------------------------------------------------------------------


class NoPace(Pace):
    """Nothing runs beside anything: nobody has to make way."""

    def pause(self) -> None:
        """Go on."""

    def wait(self) -> None:
        """Go on."""


class SimWorker(EvaluatorWorker):
    """The worker, which says when what it has done can be seen."""

    world: World
    index: int

    def process(self, group: Sequence[Stimulus]) -> list[Reply]:
        """See `EvaluatorWorker.process`."""
        replies = super().process(group)
        self.world.tenures[self.index].history.show(self.world.loop.time())
        return replies


class SimCheckpointer(Checkpointer):
    """Checkpoints in whose writing a process may die."""

    world: World
    sim_process: Process

    def write(self, taken: Taken, pause: Callable[[], None] = lambda: None) -> bool:
        """See `Checkpointer.write`."""

        def passing() -> None:
            self.sim_process.at("in_checkpoint")
            pause()

        written = super().write(taken, passing)
        self.world.counts["checkpoint written"] += written
        what = "written" if written else self.error
        self.world.say("checkpoint", self.sim_process.name, f"at entry {taken.entry.seq}: {what}")
        return written


class SimEvaluator(EvaluatorActor):
    """The evaluator's shell over the world's medium."""

    def __init__(self, world: World, process: Process, index: int, folder: Path, start: EvaluatorStart) -> None:
        sources = {source: handle(world, RemoteEvaluator, f"evaluator-{source}") for source in start.sources}
        legacy = None
        if sources and start.published is not None:
            legacy = Legacy(start.published, sources, start.sources)
        super().__init__(
            index, str(folder), world.epoch, start.partitions, clock=process.machine.clock, node_id="node",
            legacy=legacy,
        )  # fmt: skip
        self._world = world
        self._process = process

    def _open(self) -> EvaluatorWorker:
        world, history = self._world, self._world.history(self._index, self._partitions, heir=self._legacy is not None)
        # Also where it comes to nothing, it may have ended its predecessor.
        world.owners[self._index] = self._process
        inner = world.medium.open(self._index, self._epoch, self._process)
        lost = history.reopen(inner, world.loop.time())
        if lost:
            world.say("lost", self.name, f"{lost} entries that were not synced")
        log = WatchedLog(inner, history, self._process)
        checkpoints = self._checkpoints(log) if world.plan.tightness.events_a_checkpoint else None
        worker = SimWorker(
            log,
            self._files.membership / self.name,
            self._partitions,
            seed=self._index + 1,
            now_ms=self._clock.now_ms,
            pace=NoPace(),
            checkpoints=checkpoints,
            heir=self._legacy is not None,
        )
        worker.world, worker.index = world, self._index
        history.show(world.loop.time())
        if checkpoints is not None:
            origin = checkpoints.status()["recovered"]
            world.say("recovers", self.name, f"from {origin['from']}, passing over {len(origin['passed_over'])}")
            world.counts["recovery from a checkpoint"] += bool(origin["checkpoint_seq"])
        return worker

    def _checkpoints(self, log: Log) -> SimCheckpointer:
        if log.meta(LOG_ID) is None:
            log.commit((), (), {LOG_ID: b"%016d" % self._index})
        settings = CheckpointSettings(every_ms=5_000, every_events=self._world.plan.tightness.events_a_checkpoint)
        store = CheckpointStore(str(self._files.checkpoints), self.name, log_id(log))
        made = SimCheckpointer(store, settings, log, self._partitions)
        made.world, made.sim_process = self._world, self._process
        return made

    async def _build_and_follow(self, backfill: Backfill) -> None:
        await asyncio.get_running_loop().run_in_executor(self._backfilling, backfill.build)
        if backfill.ready:
            self._process.spawn(self._follow(backfill))

    async def _follow(self, backfill: Backfill) -> None:
        moved: bool | None = True
        while moved is not None:
            if not moved:
                await asyncio.sleep(50 * Pace.PATIENCE_S)
            moved = await asyncio.get_running_loop().run_in_executor(self._backfilling, backfill.follow_step)

    def on_failure(self, error: Exception) -> None:
        """End the process; being fenced is no fault, nor that brokers do not answer."""
        self._world.say("fails", self.name, f"{type(error).__name__}: {error}")
        fenced = isinstance(error, Fenced) and self._world.owners[self._index] is not self._process
        if not fenced and not isinstance(error, LogUnavailable):
            self._world.broke(self.name, error)
        asyncio.get_running_loop().call_later(0.2, self._process.kill)


# --- delivery --------------------------------------------------------------------------------------------


class SimFile(Commits):
    """A file of delivery's. Its process does not die in it: losing its last rows loses no delivery."""

    def __init__(self, world: World, process: Process, path: Path) -> None:
        super().__init__(path, path.stem)
        self._world = world
        self._process = process

    async def open(self, prepare: Callable[[sqlite3.Connection], Any]) -> Any:
        """See `Commits.open`."""
        prepared = await super().open(prepare)
        self._world.folder.opened(self._path, self._connection, self._process)
        return prepared


class SimCommits(SimFile):
    """A file of delivery's, which its process may die in."""

    def _commit(self, writes: list[Any]) -> None:
        self._process.at("before_commit")
        if self._process.machine.full:
            message = "The disk is full."
            raise StorageFull(message, retry_after_ms=RETRY_AFTER_MS)
        with self._world.folder.committing(self._path, self._process), transaction(self._connection, self._path):
            for write in writes:
                write(self._connection)
        self._process.at("after_commit")


class SimStore(DeliveryStore):
    """Notes where syncs begin."""

    world: World

    async def cursor(self, sync: str, evaluator: int) -> int | None:
        """See `DeliveryStore.cursor`; the world notes where a sync began."""
        cursor = await super().cursor(sync, evaluator)
        if cursor is not None:
            self.world.sync_starts.setdefault((sync, evaluator), cursor)
        return cursor


class SimDelivery(DeliveryActor):
    """Delivery over the world's storage and network."""

    def __init__(self, world: World, process: Process, folder: Path) -> None:
        super().__init__(
            folder,
            handle(world, RemoteController, "controller"),
            lambda info: handle(world, RemoteEvaluator, info.name),
            process.machine.clock,
            traits=handle(world, RemoteTraits, "traits").columns,
            node_id="node",
            seed=world.seed,
        )
        self._world = world
        self._process = process

    async def _open(self) -> None:
        store = SimCommits(self._world, self._process, self._data_dir / "delivery.db")
        self._store = await SimStore.open(store)
        self._store.world = self._world
        self._log = await SyncLog.open(SimFile(self._world, self._process, self._data_dir / "sync_log.db"))
        self._transport: Any = Transport(self._world.destinations, self._process)

    async def at_rest(self) -> tuple[Mapping[str, str], Mapping[tuple[str, int], int]]:
        """Give why syncs cannot go on, and how far the durable cursors are of syncs with nothing unfinished."""
        runners = dict(self._roster.runners)
        broken = {sync: runner.broken for sync, runner in runners.items() if runner.broken}
        positions: dict[tuple[str, int], int] = {}
        for sync, runner in runners.items():
            for index in runner.plan.config.evaluators if runner.status()["backlog"] == 0 else ():
                cursor = await self._store.cursor(sync, index)
                if cursor is not None:
                    positions[sync, index] = cursor
        return broken, positions


# --- the others ------------------------------------------------------------------------------------------


class SimEdge:
    """What an edge does with a request, from its body to its answer, without a socket."""

    def __init__(self, world: World, process: Process) -> None:
        controller = handle(world, RemoteController, "controller")
        evaluators = Evaluators(world)
        self._world = world
        self.watcher = StateWatcher(controller, Decoder)
        self.memberships = Memberships(evaluators.__getitem__, MembershipReader, process.machine.clock, "node")
        self.batcher = EventBatcher(self.watcher, evaluators.__getitem__, Sightings(process.machine.clock.now_ms))

    async def start(self) -> None:
        """See `EdgeServer.start`."""
        self.watcher.on_change(self.memberships.take)
        await self.watcher.start()

    async def post(self, key: str, body: bytes) -> tuple[int, Mapping[str, str], Any]:
        """Answer POST /api/v1/events: status, headers, document."""
        try:
            grant = ingest_grant(self.watcher.current.keys, key) if self.watcher.current.version else None
            read = native.read_events(body, "application/json", source=grant.source if grant else None)
            return 200, {}, report(read, await self.batcher.submit(read.raw))
        except Exception as error:
            return self._problem(error)

    async def get(self, user: str, audience: str) -> tuple[int, Mapping[str, str], Any]:
        """Answer GET /api/v1/audiences/A/memberships/U."""
        try:
            parent = self.watcher.current.parent_of(audience)
            if parent is None:
                raise problems.not_found("no such audience")
            known = await self.memberships.is_member(parent, user, audience)
            return 200, {}, (known.is_member, known.as_of_ms)
        except Exception as error:
            return self._problem(error)

    def _problem(self, error: Exception) -> tuple[int, Mapping[str, str], Any]:
        problem = problems.of_error(error, "simulated")
        if problem.status == 500:
            self._world.broke("edge", error)
        return problem.status, problem.headers, problem.body()


class SimTraits:
    """Gives every evaluator the snapshots of the plan, until each has taken the newest."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def start(self) -> None:
        """Watch the plan's snapshots come due, and evaluators come and go."""
        asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        controller = handle(self._world, RemoteController, "controller")
        offers: dict[int, asyncio.Task[None]] = {}
        state = await controller.state_after(-1, 0)
        while True:
            known = {info.index for info in state.evaluators}
            for index in set(offers) - known:
                offers.pop(index).cancel()
            for index in sorted(known - set(offers)):
                offers[index] = asyncio.get_running_loop().create_task(self._offer(index))
            state = await controller.state_after(state.revision, 10_000)

    async def _offer(self, index: int) -> None:
        evaluator = handle(self._world, RemoteEvaluator, f"evaluator-{index}")
        loop = asyncio.get_running_loop()
        for version, (path, table) in enumerate(self._world.snapshots.items(), 1):
            await asyncio.sleep(max(0.0, self._world.plan.snapshots[version - 1][0] - loop.time()))
            reply: Reply = {"error": "not asked yet"}
            while "error" in reply:
                reply = await evaluator.apply_traits("users", version, [table], path)
                await asyncio.sleep(0.2)


class Evaluators(dict[int, Any]):
    """As `cluster.runtime.wiring.Evaluators`: any index has one, whether it runs or not."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def __missing__(self, index: int) -> Any:
        self[index] = handle(self._world, RemoteEvaluator, f"evaluator-{index}")
        return self[index]

    def get(self, index: int, default: Any = None) -> Any:
        """Give the evaluator: there always is one."""
        return self[index]


def handle(world: World, kind: type[Any], name: str) -> Any:
    """Give the handle of a process, as the others call it."""
    made = type(f"Sim{kind.__name__}", (OverNetwork, kind), {})(name)
    made.network = world.network
    return made


def build(world: World, process: Process) -> Callable[[], Awaitable[Any]]:
    """Give how the part of a process is made and started."""
    folder = world.folder.names.path
    kind, _, number = process.name.rpartition("-")

    async def started(made: Any) -> Any:
        await made.start()
        return made

    async def evaluator() -> Any:
        index = int(number)
        start = await handle(world, RemoteController, "controller").starting_evaluator(index, _info(world, index))
        made = SimEvaluator(world, process, index, folder, start)
        await made.start(start.published)
        return made

    async def controller() -> Any:
        made = ControllerActor(
            ControllerMachine(
                tuple(_info(world, index) for index in range(world.plan.evaluators)), world.plan.owner_of_partition
            ),
            world.folder.names,
            Peers(
                Evaluators(world),
                handle(world, RemoteDelivery, "delivery"),
                handle(world, RemoteTraits, "traits"),
            ),
            clock=process.machine.clock,
            node_id="node",
            info_of=lambda index: _info(world, index),
        )
        world.folder.opened(world.folder.names.controller_db, made._store._db, process)
        return await started(made)

    makers: Mapping[str, Callable[[], Awaitable[Any]]] = {
        "evaluator": evaluator,
        "controller": controller,
        "edge": lambda: started(SimEdge(world, process)),
        "delivery": lambda: started(SimDelivery(world, process, folder)),
        "traits": lambda: started(SimTraits(world)),
    }
    return makers[kind if number.isdigit() else process.name]


def _info(world: World, index: int) -> EvaluatorInfo:
    name = f"evaluator-{index}"
    return EvaluatorInfo(index, name, "node", str(world.folder.names.membership / name))
