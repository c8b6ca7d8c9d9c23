"""`traits`: snapshots of users read from Parquet, typed, stored, compared and taken, beside live events.

Three evaluators one after another (`traits_live.py`), each of which takes three snapshots: the first (every user is
new), the next day's (a twentieth of the users have changed traits, a hundredth are new, a hundredth are gone), and one
without any change. 5 M users with 8 traits, once with 8 audiences a user, so that the first one makes 41 M transitions,
and once with a tenth of the users in any; and 10 M users with 10 traits, a tenth of them in audiences.
Sketch: reading and typing are 1 µs a user, preparing (truths of conditions, in Arrow) 0.4 µs; the evaluating thread
has 1 µs a user who is new, 0.2 µs for others, and about 0.4 µs a transition, cut into parts of 20 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from benchmarks.cases import Step
from benchmarks.results import CaseResult, Check, Figure
from benchmarks.traits_live import Measured, Run, Taken, measure_apart, measure_here
from benchmarks.traits_users import TRAITS

USERS, USERS_QUICK = 5_000_000, 40_000
MANY_USERS, MANY_USERS_QUICK, MANY_TRAITS = 10_000_000, 50_000, 10
SECONDS_TARGET: Final = 20.0
DELAY_MS_TARGET: Final = 100.0


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure the runs, each in a process of its own; quickly, in this one."""
    users, many = (USERS_QUICK, MANY_USERS_QUICK) if quick else (USERS, MANY_USERS)
    return asyncio.run(_measure(users, many, measure_here if quick else measure_apart, step))


async def _measure(
    users: int, many: int, measure_one: Callable[[Run], Awaitable[Measured]], step: Step
) -> CaseResult:
    runs = (Run(users, len(TRAITS)), Run(users, len(TRAITS), tenth=True), Run(many, MANY_TRAITS, tenth=True))
    found: list[Measured] = []
    for run in runs:
        step(f"snapshots of {run.users:,} users with {run.traits} traits, {_crowd(run)}, with live events")
        found.append(await measure_one(run))
    figures = [figure for measured in found for figure in _figures(measured)]
    checks = [check for measured in found for check in _checks(measured)]
    curves = {
        f"live batches, {_short(measured.run)}, {one.name}": one.waits for measured in found for one in measured.taken
    }
    return CaseResult("traits", figures, checks, curves, {_short(measured.run): _notes(measured) for measured in found})


def _crowd(run: Run) -> str:
    return "a tenth of them in audiences" if run.tenth else "all in audiences"


def _short(run: Run) -> str:
    return f"{run.users:,} users, {_crowd(run)}"


def _figures(measured: Measured) -> list[Figure]:
    run, (first, next_day, _) = measured.run, measured.taken
    last = measured.taken[-1]
    name = f"{run.users:,} users, {run.traits} traits, {_crowd(run)}"
    target = SECONDS_TARGET if run.users <= USERS else None
    longest = max(one.longest_wait_ms for one in measured.taken)
    return [
        Figure(f"{name}: the next day's read, diffed and taken", round(next_day.total_s, 1), "s", target, "lower"),
        Figure("the first", round(first.total_s, 1), "s", target, "lower"),
        Figure("the first, read, typed and stored alone", round(first.loaded.read_s + first.loaded.store_s, 1), "s",
               better="lower"),
        Figure("longest wait of a live batch meanwhile", longest, "ms", DELAY_MS_TARGET, "lower"),
        Figure("longest wait of a live batch in calm", measured.calm_longest_ms, "ms", better="lower"),
        Figure("p99 of a live batch meanwhile", max(one.p99_wait_ms for one in measured.taken), "ms", better="lower"),
        Figure("p99 of a live batch in calm", measured.calm_p99_ms, "ms", better="lower"),
        Figure("snapshot", round(last.loaded.table_bytes / run.users), "bytes/user", better="lower"),
        Figure("loader, most memory", round(last.loaded.peak_bytes / run.users), "bytes/user", better="lower"),
        Figure("evaluator, most memory", round(measured.evaluator_bytes / run.users), "bytes/user", better="lower"),
    ]  # fmt: skip


def _checks(measured: Measured) -> list[Check]:
    name, expected = _short(measured.run), measured.taken[-1].loaded.rows
    away = 2 * measured.run.users // 100
    return [
        Check(f"{name}: every snapshot was taken to its end", measured.versions == {"users": len(measured.taken)},
              str(measured.versions)),
        Check(f"{name}: a sample is where the newest snapshot says", measured.wrong == 0,
              f"{measured.wrong} of 200 users elsewhere"),
        Check(f"{name}: no live batch failed", measured.failed == 0, f"{measured.failed} failed"),
        Check(f"{name}: users are those of the snapshot", abs(measured.users - expected) <= away,
              f"{measured.users:,} and {expected:,}"),
    ]  # fmt: skip


def _notes(measured: Measured) -> dict[str, Any]:
    return {one.name: _note(one) for one in measured.taken}


def _note(one: Taken) -> dict[str, Any]:
    return {
        "read_s": one.loaded.read_s, "store_s": one.loaded.store_s, "take_s": one.take_s,
        "transitions": one.transitions, "longest_wait_ms": one.longest_wait_ms, "p99_wait_ms": one.p99_wait_ms,
        "checkpoint_pause_ms": one.checkpoint_pause_ms, "loader_peak_bytes": one.loaded.peak_bytes,
    }  # fmt: skip
