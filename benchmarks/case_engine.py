"""The `engine` case: bench_engine's figures with their targets, and on request other engines beside it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import bench_engine
from benchmarks.cases import Step
from benchmarks.peers.comparing import Comparison, compare
from benchmarks.results import CaseResult, Check, Figure

RATIO_TARGET = 12.0
#: Times the events that the peer makes of a processor second; None of these only informs.
PEER_TARGETS = {"flink": 4.0}


def measure(quick: bool, step: Step, peers: Sequence[str] = ()) -> CaseResult:
    """Measure the evaluator core against plain Python, then in turn with each peer."""
    step("one core: the engine and plain Python over the same events")
    found = bench_engine.run(quick=quick)
    figures = [
        Figure("times plain Python per core", found["ratio"], "times", RATIO_TARGET),
        Figure("events per CPU second", found["engine_events_per_cpu_s"], "1/s"),
        Figure("events per CPU second of plain Python", found["plain_events_per_cpu_s"], "1/s"),
        Figure("times plain Python with a timing wheel", found["ratio_wheel"], "times"),
        Figure("events per CPU second of that", found["wheel_events_per_cpu_s"], "1/s"),
        Figure("state", found["state_bytes_per_user"], "bytes/user", better="lower"),
    ]
    checks = [Check("engine and plain Python make the same transitions", found["same_transitions"])]
    told = ("events", "users", "audiences", "transitions", "engine_spread", "plain_spread", "wheel_spread")
    notes = {key: found[key] for key in told}
    if peers:
        workload = bench_engine.sized_workload(quick=quick)
        published = bench_engine.published_of(workload)
        for name in peers:
            comparison = compare(name, workload, published, step=step)
            figures += peer_figures(comparison)
            checks.append(Check(f"engine and {name} make the same transitions", comparison.same_transitions))
            notes[name] = {"version": comparison.peer.version, **comparison.peer.notes}
    return CaseResult(case="engine", figures=figures, checks=checks, notes=notes)


def peer_figures(comparison: Comparison) -> list[Figure]:
    """Give the figures of one comparison."""
    peer = comparison.peer
    return [
        Figure(f"times {peer.name} per core", round(comparison.ratio, 2), "times", PEER_TARGETS.get(peer.name)),
        Figure(f"events per CPU second beside {peer.name}", round(comparison.engine_events_per_cpu_s), "1/s"),
        Figure(f"events per CPU second of {peer.name} {peer.version}", round(peer.events_per_cpu_s), "1/s"),
    ]
