"""A world in which one plan is carried out, from an empty data dir until all is healed and quiet."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import pyarrow as pa

from actors.delivery.bounds import SEALED_AHEAD
from cluster.model.partitions import partition_of
from cluster.runtime.controller_store import ControllerStore
from cluster.runtime.launch import forget_evaluator
from tests.conftest import START_MS
from tests.simulation.brokers import Brokers, KafkaMedium
from tests.simulation.clients import Clients, Seen, Sent
from tests.simulation.destinations import Destinations, Receiver
from tests.simulation.dice import dice
from tests.simulation.faults import Faults
from tests.simulation.history import History, Tenure, Truth
from tests.simulation.network import Gone, Network
from tests.simulation.parts import Host, build
from tests.simulation.plans import Plan, Read
from tests.simulation.processes import Machine, Process
from tests.simulation.storage import DataFolder, JournalMedium, Medium, SqliteMedium
from tests.simulation.virtual_time import Standstill, VirtualLoop
from tests.simulation.workload import PARTITIONS

#: How long after it is healed everything may take to come to rest.
SETTLE_S: Final = 600.0
#: How long it is watched at rest: changes by time come about, or do not.
QUIET_S: Final = 20.0
#: How late a change by time may be while its evaluator runs and nothing is wrong.
LATE_MS: Final = 3_500


@dataclass(frozen=True, slots=True)
class Happening:
    """A line of the story: what, where, about what and whom (nobody: it concerns everybody)."""

    at_s: float
    what: str
    where: str
    about: str
    users: frozenset[str]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run leaves for the checkers."""

    plan: Plan
    truth: Truth
    sent: Sequence[Sent]
    seen: Sequence[Seen]
    receivers: Mapping[str, Receiver]
    #: Where each sync began to read each evaluator's transitions.
    sync_starts: Mapping[tuple[str, int], int]
    #: Trait snapshots by the path of their immutable copy.
    snapshots: Mapping[str, pa.Table]
    #: What broke that nothing may break, with its process.
    breakages: Sequence[str]
    #: Why it did not come to rest, empty where it did.
    restless: str
    #: The clock until which all changes by time are made, and when (in s) the logs had to have them.
    until_ms: int
    until_s: float
    story: Sequence[Happening]
    counts: Mapping[str, int]
    virtual_s: float


class World:
    """Carries out one plan. `folder` is a new, empty one, best in memory; `telling` writes the story down."""

    def __init__(self, plan: Plan, folder: Path, *, telling: bool = False) -> None:
        self.plan = plan
        self.seed = plan.seed
        self.epoch = 1
        self.loop = VirtualLoop()
        self.machine = Machine("node", self.loop, START_MS)
        self.network = Network(self.loop, dice(plan.seed, "network"))
        self.folder = DataFolder(folder / "data")
        self.brokers = Brokers(self.loop, dice(plan.seed, "brokers"))
        self.medium = self._medium()
        self.snapshots = dict(_written(folder, number, rows) for number, (_, rows) in enumerate(plan.snapshots))
        #: What each evaluator logged, by index.
        self.tenures: dict[int, Tenure] = {}
        #: The names of the evaluators that are to run.
        self.evaluators = [f"evaluator-{index}" for index in range(plan.evaluators)]
        self.destinations = Destinations(dice(plan.seed, "destinations"), self.say)
        self.sync_starts: dict[tuple[str, int], int] = {}
        self.breakages: list[str] = []
        self.counts: Counter[str] = Counter()
        self.story: list[Happening] = []
        self.powered = True
        #: Who opened each evaluator's log last, or tried to.
        self.owners: dict[int, Process] = {}
        #: How long a process stays down that is about to die.
        self.down_s: dict[Process, float] = {}
        self._telling = telling
        self._launches = 0
        self._until = START_MS, 0.0
        self._clients = Clients(self)
        self._faults = Faults(self)

    # --- what parts ask --------------------------------------------------------------------------------

    def history(self, index: int, partitions: Sequence[int], *, heir: bool) -> History:
        """Give the history of an evaluator's log; it begins when it is asked for first."""
        if index not in self.tenures:
            self.tenures[index] = Tenure(index, History(is_first=not heir), frozenset(partitions))
        return self.tenures[index].history

    def _medium(self) -> Medium:
        match self.plan.medium:
            case "journal":
                return JournalMedium()
            case "sqlite":
                return SqliteMedium(self.folder)
            case "kafka":
                stream = dice(self.plan.seed, "kafka")
                return KafkaMedium(self.brokers, self.folder, stream, self.plan.tightness.bytes_a_mark)

    def say(self, what: str, where: str, about: str = "", users: Iterable[str | None] = ()) -> None:
        """Write a line of the story."""
        if self._telling:
            known = frozenset(user for user in users if user is not None)
            self.story.append(Happening(self.loop.time(), what, where, about, known))

    def broke(self, where: str, error: BaseException) -> None:
        """Note that something broke that nothing may break."""
        self.breakages.append(f"{where}: {type(error).__name__}: {error}")
        self.say("BREAKS", where, f"{type(error).__name__}: {error}")

    # --- processes -----------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Every process there is to be."""
        return ["controller", *self.evaluators, "delivery", "traits", *(f"edge-{i}" for i in range(self.plan.edges))]

    def launch(self, name: str) -> Process:
        """Start a process; the name is its from now on."""
        self._launches += 1
        process = Process(name, self.machine, dice(self.seed, "process", name, self._launches))
        self.network.register(process, Host(self, process, build(self, process)))
        process.at_death(lambda: self._died(process))
        return process

    def _died(self, process: Process) -> None:
        self.say("dies", process.name)
        self.loop.outside(self.down_s.pop(process, 0.5), self._relaunch, process)

    def _relaunch(self, process: Process) -> None:
        if self.powered and process.name in self.names and self.network.holder(process.name) is process:
            self.launch(process.name)

    async def _follow_placement(self) -> None:
        """Start evaluators that are to take users over, and end those that nobody reads any more, as launchers do."""
        while True:
            await asyncio.sleep(1.0)
            try:
                reply = await self.network.ask("controller", "processes", ()) if self.powered else {}
            except Gone:
                continue
            if self.powered and "evaluators" in reply:
                self._place([f"evaluator-{index}" for index in reply["evaluators"]])

    def _place(self, names: list[str]) -> None:
        gone, new = [name for name in self.evaluators if name not in names], set(names) - set(self.evaluators)
        self.evaluators = names
        for name in sorted(new):
            self.launch(name)
        for name in gone:
            process = self.network.holder(name)
            if process is not None:
                process.kill()
            forget_evaluator(self.folder.names, int(name.rpartition("-")[2]))

    def _stored_placement(self) -> list[str]:
        """Name the evaluators that a launcher finds to be started."""
        store = ControllerStore(self.folder.names.controller_db)
        try:
            placement, scaling = store.placement(), store.scaling()
        finally:
            store.close()
        if placement is None:
            return self.evaluators
        heirs = scaling.heirs if scaling is not None else ()
        return [f"evaluator-{index}" for index in sorted({*placement.evaluators, *placement.retired, *heirs})]

    def power_off(self, for_s: float) -> None:
        """Cut the power: all processes end, what was not synced is gone; it comes back after a time."""
        if self.powered:
            stream = dice(self.seed, "power", self.loop.time())
            self.medium.lose_power(stream)
            self.folder.lose_power(stream)
            self.end_all("LOSES POWER", for_s)

    def end_all(self, why: str, for_s: float) -> None:
        """End all processes at once; after a time they are started as a new run."""
        if not self.powered:
            return
        self.say(why, "node")
        self.powered = False
        for process in list(self.machine.processes):
            process.kill()
        self.loop.outside(for_s, self.power_on)

    def power_on(self) -> None:
        """Start everything again."""
        if not self.powered:
            self.powered = True
            self.epoch += 1
            self.evaluators = self._stored_placement()
            for name in self.names:
                self.launch(name)

    # --- a run -----------------------------------------------------------------------------------------

    def run(self) -> Run:
        """Carry the plan out."""
        restless = ""
        patches = [patch(name, value) for name, value in self._bounds().items()]
        logged = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        for each in patches:
            each.start()
        try:
            restless = self.loop.run_until_complete(self._live())
        except Standstill as standstill:
            restless = str(standstill)
        finally:
            self.breakages += [f"nobody took {context['exception']!r}" for context in self.loop.errors]
            self.loop.allow(10_000)
            self.loop.run_until_complete(self._end())
            self.loop.close()
            for each in patches:
                each.stop()
            logging.disable(logged)
        return Run(
            self.plan, self._truth(), self._clients.sent, self._clients.seen, self.destinations.receivers,
            self.sync_starts, self.snapshots, self.breakages, restless, *self._until, self.story, self._all_counts(),
            self.loop.time(),
        )  # fmt: skip

    def _truth(self) -> Truth:
        tenures = [self.tenures[index] for index in sorted(self.tenures)]
        last = [max((each.index for each in tenures if each.began and partition in each.partitions), default=0)
                for partition in range(PARTITIONS)]  # fmt: skip
        return Truth(tenures, last)

    async def _live(self) -> str:
        for name in self.names:
            self.launch(name)
        asyncio.get_running_loop().create_task(self._follow_placement())
        self._clients.start()
        self._faults.start()
        await asyncio.sleep(self.plan.healed_s)
        self._faults.heal()
        self.say("IS HEALED", "node")
        restless = await self._settled()
        if not restless:
            await asyncio.sleep(QUIET_S)
            restless = await self._settled()
            self._until = self.machine.clock.now_ms() - LATE_MS, self.loop.time()
            await self._look_at_everybody()
            # A look may bring something about that was just due.
            restless = restless or await self._settled()
        return restless

    async def _settled(self) -> str:
        """Wait until everything is delivered and answered; else say what is not."""
        deadline_s = self.loop.time() + SETTLE_S
        restless = "no time was left"
        while self.loop.time() < deadline_s:
            restless = await self._restless()
            if not restless or self.breakages:
                return restless
            await asyncio.sleep(0.5)
        return restless

    async def _restless(self) -> str:
        failed = next((task for task in self._clients.tasks if task.done() and task.exception() is not None), None)
        if failed is not None:
            raise failed.exception() or AssertionError
        if not self._clients.done:
            return "not every client has an answer"
        controller = self._part("controller")
        if controller is None or controller._machine.scaling is not None or controller._machine.retired:
            return "users are being handed over"
        present = {info.index for info in controller._machine.evaluators}
        for index in present:
            evaluator = self._part(f"evaluator-{index}")
            if evaluator is None or evaluator._worker.behind:
                return f"evaluator-{index} has not caught up"
        delivery, process = self._part("delivery"), self.network.holder("delivery")
        if delivery is None or process is None:
            return "delivery has not started"
        broken, positions = await process.spawn(delivery.at_rest())
        if broken:
            return f"syncs are broken: {broken}"
        for sync in ("changes", "state"):
            for index in present:
                history = self.tenures[index].history
                if positions.get((sync, index), -1) < history.last_transition_seq:
                    return f"sync {sync} has not delivered what evaluator-{index} has: {positions.get((sync, index))}"
        return ""

    def _part(self, name: str) -> Any:
        process = self.network.holder(name)
        return self.network.part(name).part if process is not None and process.alive else None

    async def _look_at_everybody(self) -> None:
        defined = self.plan.documents[0][1]["audiences"]
        users = sorted({row["user_id"] for request in self.plan.requests for row in request.rows})
        now_s = self.loop.time()
        reads = [Read(now_s, user, defined[place % len(defined)]["id"]) for place, user in enumerate(users)]
        await asyncio.gather(*map(self._clients.look, reads))

    async def _end(self) -> None:
        self.powered = False
        for process in list(self.machine.processes):
            process.kill()
        self.loop.abandon()
        self.medium.close()

    def _all_counts(self) -> Counter[str]:
        counts = Counter(self.counts)
        counts.update({f"message {fate}": count for fate, count in self.network.counts.items()})
        counts.update({f"destination: {what}": count for what, count in self.destinations.counts.items()})
        return counts

    def _bounds(self) -> dict[str, Any]:
        """Name the bounds that are made small, where they are used, and the one clock that is not handed in."""
        tight = self.plan.tightness
        return {
            "actors.evaluator.worker.WAVE_USERS": tight.wave_users,
            # Most snapshots by a plan, in as small steps.
            "actors.evaluator.trait_offers.WHOLE_USERS_MAX": 0 if tight.wave_users < 8_192 else 8_192,
            "actors.evaluator.trait_taking.STEP_USERS": tight.wave_users,
            "actors.evaluator.worker.BLOCK_ROWS_MAX": tight.rows_a_block,
            "actors.evaluator.results.BLOCK_ROWS_MAX": tight.rows_a_block,
            # Napping costs more than all else here, and a clock that is set forward is noticed soon enough.
            "actors.evaluator.actor.NAP_MAX_MS": 3_000,
            # As does an heir that looks again and again whether its sources have anything new.
            "actors.evaluator.succession.importing._FOLLOW_EVERY_S": 0.2,
            "actors.evaluator.actor.RECENT_BLOCKS_MAX": tight.blocks_in_memory,
            "actors.evaluator.actor.EVALUATOR_BATCHES_WAITING_MAX": tight.batches_waiting,
            "actors.evaluator.checkpointing.checkpointer._now_ms": self.machine.clock.monotonic_ms,
            "actors.delivery.reader.SYNC_READ_ROWS_MAX": tight.rows_a_read,
            # What waits for a destination goes to disk, in small chunks, and comes back window by window.
            "actors.delivery.intake.SYNC_PENDING_MAX": 2 * tight.rows_a_read,
            "actors.delivery.intake.PARKED_AT_ONCE": 3,
            "actors.delivery.machine.SEALED_AHEAD": -3 if tight.rows_a_read == 1 else SEALED_AHEAD,
            "actors.delivery.room.CHUNK_CHANGES_MAX": 3,
            "actors.delivery.backlog.WINDOW_CHANGES": 6,
            "actors.delivery.backlog._CHUNKS_A_STEP": 2,
            "cluster.edge.batching.BATCH_ROWS_MAX": tight.rows_a_batch,
            "actors.evaluator.trimming.TRIM_EVERY_MS": tight.trim_every_ms,
            "actors.evaluator.trimming.transitions_kept_ms": lambda definitions: 2_000,
            "cluster.runtime.retention.TELL_EVERY_S": tight.trim_every_ms / 1_000,
            "actors.evaluator.ledger.ROWS_MIN": tight.rows_a_ledger,
            "actors.evaluator.ledger.PAGE_ROWS": tight.rows_a_ledger,
            # Whether there is room is for the world to say, not for the disk that it happens to lie on.
            "cluster.log.database.os.statvfs": lambda path: SimpleNamespace(f_bavail=1 << 30, f_frsize=4096),
            "cluster.log.kafka.log.RECORD_BYTES_MAX": tight.bytes_a_record,
            **self.medium.patches(),
        }


def _written(folder: Path, number: int, rows: Mapping[str, float | None]) -> tuple[str, pa.Table]:
    """Write a trait snapshot's immutable copy, as the trait loader would; gives its path and its table."""
    table = pa.table({
        "key": pa.array(list(rows), pa.string()),
        "partition": pa.array([partition_of(key, PARTITIONS) for key in rows], pa.int16()),
        "ltv": pa.array(list(rows.values()), pa.float64()),
    })
    path = str(folder / f"users-{number}.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path, table
