"""The `publish` case: bench_publish's figures with their targets and checks."""

from __future__ import annotations

from typing import Any, Final

from benchmarks import bench_publish
from benchmarks.cases import Step
from benchmarks.results import CaseResult, Check, Figure

#: What a backfill may add to a live batch, at the 99th percentile.
ADDED_TARGET_MS: Final = 50.0


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure a publication beside live batches."""
    found = bench_publish.run(quick=quick, step=step)
    alone, beside = found["batches_alone"], found["batches_beside_the_backfill"]
    return CaseResult(
        case="publish",
        figures=[
            Figure("backfill of one more audience", found["backfill_s"], "s", better="lower"),
            Figure("retained events worked off", found["backfill_events_per_s"], "1/s"),
            Figure("added to the p99 of a live batch", _added(beside, alone, "p99"), "ms", ADDED_TARGET_MS, "lower"),
            Figure("added to the longest live batch", _added(beside, alone, "max"), "ms", better="lower"),
            Figure("the switch", found["switch_ms"], "ms", better="lower"),
        ],
        checks=[
            Check("the new audience has members", found["switch_transitions"] > 0),
            Check("batches were taken during the backfill", beside["batches"] > 0),
        ],
        notes={key: found[key] for key in ("events", "users", "audiences", "first_publication_s", "switch_transitions",
                                           "batches_alone", "batches_beside_the_backfill")},
    )  # fmt: skip


def _added(beside: dict[str, Any], alone: dict[str, Any], which: str) -> float:
    return round(max(0.0, float(beside[f"{which}_ms"]) - float(alone[f"{which}_ms"])), 1)
