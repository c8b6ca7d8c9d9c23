"""The engine and a peer over the same events, turn by turn in one run, and held to the same transitions."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import bench_engine
from benchmarks.peers import PEERS
from benchmarks.peers.files import PeerTransitions, write_files
from benchmarks.peers.session import PeerPass, peer_session, work_folder
from benchmarks.workloads import Workload
from cluster.definitions.model import Published

Step = Callable[[str], None]

#: Peers whose job can also send every event through a network exchange by key.
EXCHANGING = ("flink",)


@dataclass(frozen=True, slots=True)
class PeerResult:
    """What a peer reached: medians of events/s of wall and of processor time, and the transitions of its last pass.

    `notes`: passes, and what else it is fair to know.
    """

    name: str
    version: str
    events_per_s: float
    events_per_cpu_s: float
    transitions: PeerTransitions
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A peer beside the engine: events per processor second of both, medians of passes taken in turn."""

    peer: PeerResult
    engine_events_per_cpu_s: float
    same_transitions: bool

    @property
    def ratio(self) -> float:
        """How many times the peer's events the engine makes of a processor second."""
        return self.engine_events_per_cpu_s / self.peer.events_per_cpu_s


def run_peer(name: str, workload: Workload, published: Published, *, runs: int = 3) -> PeerResult:
    """Measure a peer alone: one pass to warm up, then `runs`. Raises PeerUnavailable, PeerFailed."""
    return _run(name, workload, published, runs, lambda: None)


def compare(
    name: str, workload: Workload, published: Published, *, runs: int = 3, step: Step = lambda text: None
) -> Comparison:
    """Measure the engine and a peer in turn, `runs` times each; raises PeerUnavailable, PeerFailed.

    The engine's processor time is its process's, all threads, as the peer's is.
    """
    snapshot, batches = bench_engine.snapshot_of(workload), bench_engine.hit_batches(workload)
    bench_engine.run_engine(published, snapshot, batches[:2])  # compile
    engine: list[bench_engine.EngineRun] = []

    def take_turn() -> None:
        step(f"{name} and the engine in turn")
        engine.append(bench_engine.run_engine(published, snapshot, batches))
        engine[:-1] = [replace(run, results=[]) for run in engine[:-1]]  # only the last one's are compared

    step(f"{name}: getting it ready, warming it up")
    peer = _run(name, workload, published, runs, take_turn)
    theirs = peer.transitions
    same = np.array_equal(
        bench_engine.engine_rows(workload, published, engine[-1]),
        bench_engine.sorted_rows(theirs.audience, theirs.user, theirs.at, theirs.entered),
    )
    return Comparison(peer, len(workload) / statistics.median(run.cpu_seconds for run in engine), same)


def _run(
    name: str, workload: Workload, published: Published, runs: int, before_each: Callable[[], None]
) -> PeerResult:
    with work_folder() as folder:
        command: list[str] = importlib.import_module(PEERS[name]).command(folder)
        write_files(workload, published, folder)
        with peer_session(name, command, folder) as session:
            session.run()  # warms it up
            passes: list[PeerPass] = []
            exchanged: list[PeerPass] = []
            for turn in range(runs):
                before_each()
                if turn < runs - 1:
                    passes.append(session.run())
                else:
                    last, transitions = session.transitions()
                    passes.append(last)
                if name in EXCHANGING:
                    exchanged.append(session.run(exchange=True))
    return summary(name, session.version, len(workload), passes, exchanged, transitions)


def summary(
    name: str, version: str, events: int, passes: Sequence[PeerPass], exchanged: Sequence[PeerPass],
    transitions: PeerTransitions,
) -> PeerResult:
    """Give medians of passes; those with an exchange by key become a note."""
    notes: dict[str, Any] = {"cpu_s": [done.cpu_s for done in passes], "wall_s": [done.wall_s for done in passes]}
    if exchanged:
        notes["events_per_cpu_s_with_exchange"] = round(events / statistics.median(x.cpu_s for x in exchanged))
    return PeerResult(
        name=name,
        version=version,
        events_per_s=events / statistics.median(done.wall_s for done in passes),
        events_per_cpu_s=events / statistics.median(done.cpu_s for done in passes),
        transitions=transitions,
        notes=notes,
    )
