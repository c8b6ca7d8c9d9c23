"""`log`: what is compared is the same with and without a log, and a difference would be seen."""

from __future__ import annotations

import msgspec

from benchmarks.bench_log import Run, _checks, _Runner
from benchmarks.workloads import engine_workload


def test_every_way_takes_the_same_and_the_log_holds_it() -> None:
    runner = _Runner(engine_workload(users=500, events=40_000, audiences=20))
    found = runner.round({"none": "", "SQLite": "sqlite"}, 2)
    none, kept = found["none"], found["SQLite"]
    assert kept.logged == runner.sent
    assert kept.log_bytes > 40_000
    assert none.accepted == kept.accepted == 40_000
    assert none.transitions > 1_000
    runs = {(way, 2): [run] for way, run in found.items()}
    assert all(check.passed for check in _checks(runs, ["none", "SQLite"], [2], 40_000))
    other = Run(1.0, 40_000, kept.transitions, "another", kept.members, kept.logged, 1)
    checks = _checks({**runs, ("SQLite", 2): [other]}, ["none", "SQLite"], [2], 40_000)
    assert [check.passed for check in checks] == [True, False]
    assert msgspec.json.encode(checks)
