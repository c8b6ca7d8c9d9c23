"""`usher up`: from options to a system that is ready to serve, and back down again.

The launching process owns the data dir, the embedded Ray and every actor: when it ends, they end. It serves nothing
itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

import cluster
from actors.evaluator.kernels.cache import is_compiled
from cluster.checkpoints.places import check_uri, local_path
from cluster.checkpoints.settings import CheckpointSettings
from cluster.clock import SystemClock
from cluster.definitions.evaluable import unsupported
from cluster.definitions.model import Definitions
from cluster.definitions.parsing import load_paths, located
from cluster.edge.acceptor import listen
from cluster.errors import DefinitionError, Fault, InputError, InternalError, NotReady, PortInUse
from cluster.leases.keeper import REMOTE_TERM_MS, LeaseSettings
from cluster.limits import (
    CHECKPOINT_EVERY_MS,
    DRAIN_DEADLINE_MS,
    ORPHANS_END_MS,
    PARTITIONS_DEFAULT,
    PUBLISH_WAIT_MS,
    RETRY_AFTER_MS,
)
from cluster.log.durable_files import replace_durably
from cluster.log.kafka.place import parse_place
from cluster.log.settings import LogSettings
from cluster.model.durations import format_duration
from cluster.runtime.controller_store import ControllerStore
from cluster.runtime.data_dir import DataDir
from cluster.runtime.placement import Placement, first_placement
from cluster.runtime.plan import EVALUATOR_PREFIX, Plan, Stopped, evaluator_name
from cluster.runtime.protocols import ClusterState
from cluster.runtime.ray_session import RaySession, start_ray, stop_ray
from cluster.runtime.sites import Sites
from destinations.registry import KINDS


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `usher up` was told. `evaluators` None: one per two cores, or what the data dir was made with.

    `definitions` names files or folders; `port` 0 takes a free one; `address` None embeds Ray. `state_uri` says where
    checkpoints go: a folder or a URI, None: the data dir. `log` says where logs are kept; None: where they were, at
    first in the data dir.
    """

    definitions: tuple[Path, ...] = ()
    data_dir: Path = Path(".usher")
    host: str = "127.0.0.1"
    port: int = 8080
    evaluators: int | None = None
    edges: int = 1
    address: str | None = None
    state_uri: str | None = None
    log: str | None = None
    checkpoint_every_ms: int = CHECKPOINT_EVERY_MS
    drain_deadline_ms: int = DRAIN_DEADLINE_MS


@dataclass(frozen=True, slots=True)
class ReadyInfo:
    """What is known once the system serves. `admin_key` only on the first start of a data dir."""

    url: str
    data_dir: Path
    admin_key: str | None = field(repr=False)
    address: str
    pid: int
    evaluators: int
    version: int
    ready_after_ms: int


#: Pause before a port that a killed run still holds is tried again.
_PORT_AGAIN_S: Final = 0.1

OnReady = Callable[[ReadyInfo], None]
OnProgress = Callable[[str], None]


def run(options: UpOptions, on_ready: OnReady, on_progress: OnProgress = lambda _: None) -> int:
    """Start everything, call `on_ready`, serve until SIGTERM or SIGINT, drain; gives the exit code.

    0: drained. 1: something had to be ended the hard way (what was acknowledged is durable all the same).
    Raises before anything serves: DefinitionError, InputError, DataDirError, PortInUse, NotReady. Main thread only.
    """
    began = time.monotonic()
    checkpoints = _checkpoint_settings(options)
    definitions = _read_definitions(options.definitions)
    files = DataDir(options.data_dir.resolve())
    # Left behind by a launcher that was killed: its processes end by themselves 2 to 3 s later and free the port.
    was_killed = files.usher_json.exists()
    port = free_port(options.host, options.port, ORPHANS_END_MS if was_killed else 0)
    with files.open() as owned:
        log = log_settings(owned.names, options.log)
        spreads = options.address is not None and bool(log.uri and checkpoints.uri)
        # Asked before Ray is started where that is not needed for the answer: a mistake shows within a second.
        placement = None if spreads else _placement(owned.names, options, definitions, os.cpu_count() or 1)
        compile_once(on_progress)
        on_progress("starting Ray" if options.address is None else f"connecting to Ray at {options.address}")
        session = start_ray(owned.names.path, options.address, os.cpu_count() or 1)
        try:
            placement = placement or _placement(owned.names, options, definitions, session.cpus)
            plan = Plan(
                data_dir=str(owned.names.path),
                epoch=owned.epoch,
                host=options.host,
                port=port,
                node_id=session.node_id,
                socket_dir=str(session.folder),
                base_dir=str(Path.cwd()),
                placement=placement,
                ingest_edges=options.edges,
                checkpoints=checkpoints,
                log=log,
                leases=lease_settings(owned.names, log, checkpoints),
            )
            return _Run(plan, session, definitions, began, on_ready, on_progress, options.drain_deadline_ms).run()
        finally:
            owned.names.usher_json.unlink(missing_ok=True)
            stop_ray(session)


def compile_once(on_progress: OnProgress) -> None:
    """Compile the kernels in a process of their own where that was never done on this machine.

    Before Ray starts: on two cores the compiler starved Ray's own start beyond its patience (60 s).
    """
    if is_compiled():
        return
    on_progress("compiling the evaluation loop (once on a machine, about a minute)")
    finished = subprocess.run(
        [sys.executable, "-m", "cluster.runtime.warming"], capture_output=True, text=True, check=False
    )
    if finished.returncode:
        message = f"The evaluation loop cannot be compiled on this machine: {finished.stderr.strip()[-2000:]}"
        raise InternalError(message, next_step="Please report this, with the versions of numba and llvmlite.")


class _Run:
    """One run on a Ray that stands: start, serve, drain."""

    def __init__(
        self,
        plan: Plan,
        session: RaySession,
        definitions: Definitions | None,
        began: float,
        on_ready: OnReady,
        on_progress: OnProgress,
        drain_deadline_ms: int,
    ) -> None:
        self._plan = plan
        self._drain_deadline_ms = drain_deadline_ms
        self._session = session
        self._definitions = definitions
        self._began = began
        self._on_ready = on_ready
        self._on_progress = on_progress
        self._stop = threading.Event()
        # Here, because it imports Ray, which reads the environment that start_ray sets at its first import.
        from cluster.runtime.fleet import Fleet
        from cluster.runtime.watching import Watch

        self._fleet = Fleet(self._stop.is_set)
        self._sites = Sites(plan, self._fleet, self._fleet.nodes)
        self._watch = Watch(self._fleet, self._sites.replace, plan.lease_of, on_progress)

    def run(self) -> int:
        """Start, serve until told to stop, drain; gives the exit code."""
        with _signals_to(self._stop):
            try:
                self._start()
            except Stopped:
                self._fleet.end()
                return 0
            self._watch.start()
            while not self._stop.wait(1.0):  # a signal handler runs between two waits
                self._follow_nodes()
                self._follow_placement()
            self._watch.stop()
            return self._drain()

    def _follow_nodes(self) -> None:
        """Have an edge on a node that joined; make anew elsewhere what was on one that is gone."""
        for told in self._sites.follow():
            self._on_progress(told)

    def _follow_placement(self) -> None:
        """Start evaluators that are to take users over; end those whose transitions nobody reads any more."""
        reply = self._fleet.call("controller", "processes", self._sites.edges)
        if not isinstance(reply, dict) or "evaluators" not in reply:
            return  # it restarts
        wanted = {evaluator_name(index) for index in reply["evaluators"]}
        running = self._sites.evaluators
        self._sites.start_evaluators(sorted(wanted - running))
        for name in sorted(running - wanted):
            if name in self._fleet.names:  # else its node is lost, and it is on none yet
                self._fleet.end_one(name)
            self._sites.forget_evaluator(name)
            forget_evaluator(self._plan.files, int(name.removeprefix(EVALUATOR_PREFIX)))

    def _start(self) -> None:
        plan, fleet, sites = self._plan, self._fleet, self._sites
        evaluators = plan.evaluator_names()
        self._on_progress("starting the controller")
        sites.start_at_home(["controller"])
        fleet.await_ready(["controller"])
        admin_key = fleet.call("controller", "take_first_admin_key")
        self._on_progress("starting evaluators, delivery and edges")
        sites.start_evaluators(evaluators)
        sites.start_at_home(["traits", "delivery"])
        others = ["traits", "delivery", *sites.start_edges()]
        self._on_progress("compiling and recovering")
        fleet.await_ready(evaluators)
        version = self._apply_definitions()
        fleet.await_ready(others)
        info = ReadyInfo(
            url=plan.url,
            data_dir=plan.files.path,
            admin_key=admin_key if isinstance(admin_key, str) else None,
            address=self._session.address,
            pid=os.getpid(),
            evaluators=len(plan.placement.evaluators),
            version=version,
            ready_after_ms=int((time.monotonic() - self._began) * 1000),
        )
        _write_usher_json(plan.files, info, self._drain_deadline_ms)
        self._on_ready(info)

    def _apply_definitions(self) -> int:
        """Publish what `up` was given; gives the version in force, 0 without definitions."""
        if self._definitions is None:
            state = self._fleet.call("controller", "state_after", -1, 0)
            return state.published.version if isinstance(state, ClusterState) and state.published else 0
        self._on_progress("publishing the definitions")
        reply = self._fleet.call(
            "controller",
            "apply",
            self._definitions.document,
            "definitions",
            "replace",
            "usher up",
            timeout_s=2 * PUBLISH_WAIT_MS / 1000,
        )
        if reply.get("error") == "invalid":
            raise DefinitionError([Fault(**fault) for fault in reply["faults"]])
        if "error" in reply:
            message = f"The definitions could not be published: {reply.get('message')}."
            raise NotReady(message, retry_after_ms=RETRY_AFTER_MS)
        return int(reply["version"])

    def _drain(self) -> int:
        """Refuse new events, finish and checkpoint what was acknowledged, end every process; 1 where one was late."""
        self._on_progress("draining")
        groups: list[tuple[list[str], float]] = [
            (self._sites.edges, 1 / 3),
            ([name for name in self._fleet.names if name.startswith(EVALUATOR_PREFIX)], 2 / 3),
            (["delivery", "traits"], 3 / 4),
            (["controller"], 1.0),
        ]
        late = self._fleet.drain(groups, self._drain_deadline_ms / 1000)
        self._fleet.end()
        if late:
            self._on_progress(f"not drained within {format_duration(self._drain_deadline_ms)}: {'; '.join(late)}.")
        return 1 if late else 0


@contextmanager
def _signals_to(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop`, in place of what Ray does at them; as before afterwards."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port(host: str, port: int, wait_ms: int = 0) -> int:
    """Give `port`, or a free one for 0; raises InputError for a host that is not this machine's.

    Raises PortInUse where it is still taken after `wait_ms`.
    """
    until = time.monotonic() + wait_ms / 1000
    while True:
        try:
            with listen(host, port) as listener:
                return int(listener.getsockname()[1])
        except PortInUse:
            if time.monotonic() >= until:
                raise
            time.sleep(_PORT_AGAIN_S)


def _checkpoint_settings(options: UpOptions) -> CheckpointSettings:
    """Give where and when checkpoints are written. Raises InputError for a state URI that can be none."""
    uri = options.state_uri or ""
    if uri:
        check_uri(uri)
        path = local_path(uri)
        uri = uri if path is None else str(path.resolve())
    return CheckpointSettings(uri=uri, every_ms=options.checkpoint_every_ms)


def log_settings(files: DataDir, uri: str | None) -> LogSettings:
    """Give where logs are kept. Raises InputError for a URI that can be none, or is another than this data dir's."""
    wanted = None if uri is None else parse_place(uri)
    kept = None
    if files.controller_db.exists():
        store = ControllerStore(files.controller_db)
        try:
            kept = store.log_uri()
        finally:
            store.close()
    if kept is None or (wanted is not None and kept and parse_place(kept).prefix == wanted.prefix):
        return LogSettings(wanted.uri if wanted is not None else "")
    if wanted is not None:
        message = f"--log: the logs of this data dir are kept in {kept or 'it'}; events would be lost in another place."
        raise InputError(message, next_step="Leave --log out, or use another --data-dir.")
    return LogSettings(kept)


def lease_settings(files: DataDir, log: LogSettings, checkpoints: CheckpointSettings) -> LeaseSettings:
    """Say where it is noted who owns which evaluator: beside the logs, so where nodes share them, at the state URI."""
    shared = checkpoints.uri if log.uri else ""
    if shared and local_path(shared) is None:
        return LeaseSettings(shared, REMOTE_TERM_MS)
    return LeaseSettings(shared or str(files.path))


def _read_definitions(paths: tuple[Path, ...]) -> Definitions | None:
    """Check the documents before anything starts; faults show within a second, not after Ray's five."""
    if not paths:
        return None
    definitions = load_paths(paths, os.environ, KINDS)
    if faults := unsupported(definitions):
        raise DefinitionError(located(faults, paths))
    return definitions


def _placement(files: DataDir, options: UpOptions, definitions: Definitions | None, cpus: int) -> Placement:
    """Give who owns which partition, as the data dir was first used or last scaled; an evaluator for two CPUs at first.

    Raises InputError for another number of evaluators: each one's log holds its own partitions.
    """
    wanted = options.evaluators
    partitions = definitions.settings.partitions if definitions else PARTITIONS_DEFAULT
    evaluators = wanted or min(max(1, cpus // 2), partitions)
    placement = first_placement(partitions, evaluators)
    if files.controller_db.exists():
        store = ControllerStore(files.controller_db)
        try:
            placement = store.placement() or placement
        finally:
            store.close()
    if wanted is not None and wanted != len(placement.evaluators):
        message = f"--evaluators {wanted}: this data dir has {len(placement.evaluators)}, and its logs are divided so."
        step = f"Leave --evaluators out, and then: usher scale --evaluators {wanted}."
        raise InputError(message, next_step=step)
    return placement


def forget_evaluator(files: DataDir, index: int) -> None:
    """Delete what an evaluator kept that has handed its users over and is not read any more."""
    for path in files.path.glob(f"{evaluator_name(index)}.*"):
        path.unlink(missing_ok=True)
    for folder in (files.membership, files.checkpoints, files.leases):
        shutil.rmtree(folder / evaluator_name(index), ignore_errors=True)


def _write_usher_json(files: DataDir, info: ReadyInfo, drain_deadline_ms: int) -> None:
    """Say where the running Usher is: read by `usher status`, `down` and clients."""
    content = {
        "pid": info.pid,
        "url": info.url,
        "address": info.address,
        "started_at_ms": SystemClock().now_ms(),
        "version": cluster.__version__,
        "drain_deadline_ms": drain_deadline_ms,
    }
    replace_durably(files.usher_json, json.dumps(content).encode())
