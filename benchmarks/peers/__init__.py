"""Peers: rival engines on the `engine` benchmark's own file, each held to the same transitions.

`run_peer("flink", ...)` starts the peer in a process of its own, runs it and Usher's engine by turns, and compares what
both made. Figures are events per second of processor time, all threads of the peer included (its compiler and collector
too), start-up and a warming pass excluded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import Transitions
from benchmarks.bench_engine import hit_batches, run_engine, snapshot_of
from benchmarks.peers import flink_peer
from benchmarks.peers.files import PeerTransitions, write_files
from benchmarks.peers.session import peer_session, work_folder
from benchmarks.workloads import Workload
from cluster.definitions.model import Published

#: Peers by name: the command that serves passes over the files in a folder.
PEERS: dict[str, Callable[[Path], list[str]]] = {"flink": flink_peer.command}
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class PeerResult:
    """Medians over rounds in which the peer and the engine took turns; rates per second of processor time."""

    name: str
    version: str
    peer_per_cpu_s: float
    peer_per_s: float
    engine_per_cpu_s: float
    ratio: float
    transitions: int
    same_transitions: bool


def run_peer(name: str, workload: Workload, published: Published, *, rounds: int = _ROUNDS) -> PeerResult:
    """Measure one peer against the engine; raises PeerUnavailable, PeerFailed."""
    batches, snapshot = hit_batches(workload), snapshot_of(workload)
    run_engine(published, snapshot, batches[:2])  # compile
    events = len(workload)
    with work_folder() as folder:
        write_files(workload, published, folder)
        with peer_session(name, PEERS[name](folder), folder) as peer:
            _, theirs = peer.transitions()  # warms up too
            passes, mine = [], []
            for _ in range(rounds):
                passes.append(peer.run())
                began = time.process_time()
                _, machine, first, results = run_engine(published, snapshot, batches)
                mine.append(time.process_time() - began)
            version = peer.version
    ratios = [done.cpu_s / own for done, own in zip(passes, mine, strict=True)]
    return PeerResult(
        name, version, events / statistics.median(done.cpu_s for done in passes),
        events / statistics.median(done.wall_s for done in passes), events / statistics.median(mine),
        round(statistics.median(ratios), 2), len(theirs), same(workload, machine, first, results, theirs),
    )  # fmt: skip


def same(
    workload: Workload, machine: EvaluatorMachine, first: pa.RecordBatch, results: list[Transitions],
    theirs: PeerTransitions,
) -> bool:
    """Say whether both made the same transitions; order is not compared."""
    order = {name: i for i, name in enumerate(machine.program.published.definitions.audiences)}
    audience_of = np.array([order[name] for name in machine.program.audiences])
    user_of = {name: i for i, name in enumerate(workload.user_names)}
    keys = machine.user_keys(np.arange(machine.user_count, dtype=np.int32)).to_pylist()
    slots = np.array([user_of[key] for key in keys])
    rows = first.to_pylist()
    mine = _sorted(
        np.concatenate([[r["at"] for r in rows], *[t.at for t in results]]),
        np.concatenate([[order[r["audience_id"]] for r in rows], *[audience_of[t.audience] for t in results]]),
        np.concatenate([[user_of[r["user_id"]] for r in rows], *[slots[t.user] for t in results]]),
        np.concatenate([[r["kind"] == "entered" for r in rows], *[t.entered for t in results]]),
    )
    other = _sorted(theirs.at, theirs.audience, theirs.user, theirs.entered)
    return mine.shape == other.shape and bool((mine == other).all())


def _sorted(*columns: np.ndarray) -> np.ndarray:
    rows = np.stack([column.astype(np.int64) for column in columns])
    return rows[:, np.lexsort(rows[::-1])]
