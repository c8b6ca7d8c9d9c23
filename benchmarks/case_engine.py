"""The `engine` case: bench_engine's figures with their targets."""

from __future__ import annotations

from benchmarks import bench_engine
from benchmarks.cases import Step
from benchmarks.results import CaseResult, Check, Figure

RATIO_TARGET = 12.0


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure the evaluator core against plain Python."""
    step("one core: the engine and plain Python over the same events")
    found = bench_engine.run(quick=quick)
    same = Check("engine and plain Python make the same transitions", found["same_transitions"])
    return CaseResult(
        case="engine",
        figures=[
            Figure("events/s against plain Python", found["ratio"], "times", RATIO_TARGET),
            Figure("events/s, one core", found["engine_events_per_s"], "1/s"),
            Figure("events/s of plain Python", found["plain_events_per_s"], "1/s"),
            Figure("state", found["state_bytes_per_user"], "bytes/user", better="lower"),
        ],
        checks=[same],
        notes={key: found[key] for key in ("events", "users", "audiences", "transitions", "engine_spread")},
    )
