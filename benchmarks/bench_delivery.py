"""`delivery`: changes to requests: the core, one webhook sync end to end, a mass exit, a destination that was down.

Sketch for a change: read and made a record 3 µs, batched 1 µs, the machine 1 µs; end to end about as much again for
the files (two commits a batch, its bytes twice), and 1 to 2 µs at the receiver. A mass exit adds nothing to that but
waiting: what is not read yet stays in the evaluators' logs, so memory must be flat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks.arrivals import arrival_checks
from benchmarks.cases import Step
from benchmarks.delivery_backlog import CaughtUp, backlog_checks, catch_up
from benchmarks.delivery_core import WAYS, Spent, checks, run
from benchmarks.delivery_line import Sent, send
from benchmarks.membership import Turns
from benchmarks.results import CaseResult, Check, Figure, Line, LinePlot, equal

CORE_TARGET: Final = 100_000
CORE_CHANGES, CORE_CHANGES_QUICK = 300_000, 20_000
CORE_USERS, CORE_USERS_QUICK = 100_000, 20_000
CORE_ROUNDS, CORE_ROUNDS_QUICK = 3, 2
#: A log of odd rounds, so that somebody is in at the end.
CHECKED_USERS, CHECKED_CHANGES = 2_000, 14_000

LINE_TARGET: Final = 20_000
LINE_BATCH: Final = 500
LINE_CHANGES, LINE_CHANGES_QUICK = 600_000, 20_000
LINE_USERS, LINE_USERS_QUICK = 100_000, 5_000
LINE_ROUNDS, LINE_ROUNDS_QUICK = 3, 1

EXIT_USERS, EXIT_USERS_QUICK = 1_000_000, 5_000
EXIT_BATCH, EXIT_BATCH_QUICK = 1_000, 100
EXIT_REQUESTS_PER_S: Final = 10
#: What requests on their way may come nearer to each other, on a busy machine.
CLOSER_S: Final = 0.5
DRAIN_TARGET: Final = 1.05
MEMORY_TARGET: Final = 1.05
#: From here on memory must be flat: readers, connections and files are at work.
MEMORY_FROM: Final = 0.1
#: Exits of a sync that sends what changes come to, with no limit but its own speed.
ROOM_USERS, ROOM_USERS_QUICK = 200_000, 20_000

#: A destination that was down, and beside it a sync with a steady rate.
BACKLOG_USERS, BACKLOG_USERS_QUICK = 10_000_000, 20_000
BACKLOG_BATCH, BACKLOG_BATCH_QUICK = 1_000, 50
BACKLOG_CALM_S, BACKLOG_CALM_S_QUICK = 10.0, 1.0
BESIDE_PER_S: Final = 200
BESIDE_TARGET_MS: Final = 150


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure all of it, each sync in a process of its own."""
    users, changes = (CORE_USERS_QUICK, CORE_CHANGES_QUICK) if quick else (CORE_USERS, CORE_CHANGES)
    step("the core: what it sends")
    found = checks(CHECKED_USERS, CHECKED_CHANGES)
    core = _core(Turns(users, changes), CORE_ROUNDS_QUICK if quick else CORE_ROUNDS, step)
    turns = Turns(LINE_USERS_QUICK, LINE_CHANGES_QUICK) if quick else Turns(LINE_USERS, LINE_CHANGES)
    rounds = []
    for number in range(LINE_ROUNDS_QUICK if quick else LINE_ROUNDS):
        step(f"{turns.count:,} changes through one webhook sync ({number + 1})")
        sent = _apart(turns, {"batch_size": LINE_BATCH}, {})
        found += _checks(f"webhook sync ({number + 1})", sent, turns)
        rounds.append(sent)
    leaving, batch = _leaving(EXIT_USERS_QUICK if quick else EXIT_USERS), EXIT_BATCH_QUICK if quick else EXIT_BATCH
    step(f"{leaving.count:,} users leave, at {EXIT_REQUESTS_PER_S} requests/s of {batch:,}")
    drained = _apart(leaving, {"batch_size": batch, "rate_limit": f"{EXIT_REQUESTS_PER_S}/s"}, {})
    theory_s = theoretical_s(drained)
    found += _checks("mass exit", drained, leaving)
    # Whatever comes late is made up for, but no second has more than its requests.
    least_s = max(0.0, int(theory_s) - CLOSER_S)
    detail = f"{drained.arrivals.seconds:.2f} s, at least {least_s:.2f} s"
    found.append(Check("mass exit: no faster than its limit", drained.arrivals.seconds >= least_s, detail))
    waiting = _leaving(ROOM_USERS_QUICK if quick else ROOM_USERS)
    step(f"{waiting.count:,} users leave a sync that sends what changes come to")
    netted = _apart(waiting, {"batch_size": batch}, {"deliver": "state"})
    found += _checks("mass exit, what changes come to", netted, waiting)
    late = _backlog(quick, step)
    found += backlog_checks("a destination that was down", late)
    return CaseResult(
        "delivery",
        [*_core_figures(core), *_line_figures(rounds), *_exit_figures(drained, theory_s, netted),
         *_backlog_figures(late)],
        found,
        notes={**_notes(core, rounds, drained, netted), **_backlog_notes(late)},
        plots=[_drain_plot(drained, theory_s)],
    )


def theoretical_s(sent: Sent) -> float:
    """Give what the limit allows: from the first request to the last, one after another at its rate."""
    return (len(sent.arrivals.counts) - 1) / EXIT_REQUESTS_PER_S


def memory_growth(memory: Sequence[tuple[float, int]]) -> float | None:
    """Give the most memory once MEMORY_FROM of the changes arrived, as a multiple of what there was then."""
    later = [held for part, held in memory if part >= MEMORY_FROM]
    return round(max(later) / later[0], 3) if later and later[0] else None


def _leaving(users: int) -> Turns:
    return Turns(users, users, leaving=True)


def _apart(turns: Turns, destination: Mapping[str, Any], sync: Mapping[str, Any]) -> Sent:
    """Send in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(send, turns, destination, sync).result()


def _backlog(quick: bool, step: Step) -> CaughtUp:
    users = BACKLOG_USERS_QUICK if quick else BACKLOG_USERS
    batch = BACKLOG_BATCH_QUICK if quick else BACKLOG_BATCH
    step(f"{users:,} users leave a sync whose destination is down, which then catches up")
    calm_s = BACKLOG_CALM_S_QUICK if quick else BACKLOG_CALM_S
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(catch_up, users, batch, BESIDE_PER_S, calm_s).result()


def _core(turns: Turns, rounds: int, step: Step) -> dict[str, tuple[list[float], Spent]]:
    """Give each way's rates, and one run by parts; ways are interleaved."""
    rates: dict[str, list[float]] = {way.name: [] for way in WAYS}
    for number in range(rounds):
        step(f"the core, {turns.count:,} changes each way ({number + 1} of {rounds})")
        for way in WAYS:
            rates[way.name].append(run(way, turns).spent.per_s())
    return {way.name: (rates[way.name], run(way, turns, timed=True).spent) for way in WAYS}


def _checks(name: str, sent: Sent, turns: Turns) -> list[Check]:
    counted = tuple(sent.status.get(key) for key in ("delivered", "failed", "backlog"))
    return [
        *arrival_checks(name, sent.arrivals, turns),
        equal(f"{name}: status: delivered, failed, backlog", counted, (turns.count, 0, 0)),
    ]


def _core_figures(core: Mapping[str, tuple[list[float], Spent]]) -> list[Figure]:
    first = WAYS[0].name
    return [
        Figure(f"core: {name}", round(median(rates)), "changes/CPU s", CORE_TARGET if name == first else None)
        for name, (rates, _) in core.items()
    ]


def _line_figures(rounds: Sequence[Sent]) -> list[Figure]:
    return [
        Figure(f"one webhook sync end to end, batches of {LINE_BATCH}",
               round(median(sent.arrivals.per_s for sent in rounds)), "changes/s", LINE_TARGET),
    ]  # fmt: skip


def _exit_figures(drained: Sent, theory_s: float, netted: Sent) -> list[Figure]:
    ratio = round(drained.arrivals.seconds / theory_s, 3) if theory_s else None
    most = max((held for _, held in drained.memory), default=0)
    return [
        Figure("mass exit: time to drain, of the theoretical at its rate limit", ratio, "times", DRAIN_TARGET, "lower"),
        Figure("mass exit: most memory, of that after a tenth of the changes", memory_growth(drained.memory), "times",
               MEMORY_TARGET, "lower"),
        Figure("mass exit: most memory of the process", round(most / 2**20), "MiB", better="lower"),
        Figure("mass exit without a limit, sending what changes come to", round(netted.arrivals.per_s), "changes/s"),
        Figure("the same: most memory, of that after a tenth of the changes", memory_growth(netted.memory), "times",
               better="lower"),
    ]  # fmt: skip


def _backlog_figures(late: CaughtUp) -> list[Figure]:
    waiting = f"{late.on_disk:,} changes waiting on disk"
    most = max((held for _, held in late.memory), default=0)
    return [
        Figure(f"{waiting}: caught up by", round(late.arrivals.per_s), "changes/s", LINE_TARGET),
        Figure("the same: went to disk by", round(late.turns.count / late.parked_s), "changes/s"),
        Figure("the same: disk", round(late.disk_bytes / max(1, late.on_disk)), "bytes a change", better="lower"),
        Figure("the same: most memory, of that after a tenth of the work", memory_growth(late.memory), "times",
               better="lower"),
        Figure("the same: most memory of the process", round(most / 2**20), "MiB", better="lower"),
        Figure("the same: p99 of another sync's delivery meanwhile", _delay_ms(late.delays_ms[2], 99), "ms",
               BESIDE_TARGET_MS, "lower"),
    ]  # fmt: skip


def _delay_ms(delays_ms: np.ndarray, percentile: float) -> float | None:
    return round(float(np.percentile(delays_ms, percentile)), 1) if len(delays_ms) else None


def _backlog_notes(late: CaughtUp) -> dict[str, Any]:
    phases = zip(("calm", "down", "catching_up"), late.delays_ms, strict=True)
    return {
        "backlog_other_sync_ms_p50_p99_most": {
            phase: [_delay_ms(delays, each) for each in (50, 99, 100)] for phase, delays in phases
        },
        "backlog_cpu_us_a_change": round(late.cpu_s / max(1, len(late.arrivals.seqs)) * 1e6, 2),
        "backlog_longest_pause_s": round(late.arrivals.longest_pause_s, 2),
        "backlog_caught_up_s": round(late.arrivals.seconds, 1),
    }


def _notes(
    core: Mapping[str, tuple[list[float], Spent]], rounds: Sequence[Sent], drained: Sent, netted: Sent
) -> dict[str, Any]:
    return {
        "core_changes_per_cpu_s": {name: sorted(round(rate) for rate in rates) for name, (rates, _) in core.items()},
        "core_us_a_change": {name: spent.us_each() for name, (_, spent) in core.items()},
        "line_changes_per_s": sorted(round(sent.arrivals.per_s) for sent in rounds),
        "line_cpu_us_a_change": _cpu_us(rounds[0]),
        "drain_s": round(drained.arrivals.seconds, 2),
        "drain_longest_pause_s": round(drained.arrivals.longest_pause_s, 2),
        "drain_cpu_us_a_change": _cpu_us(drained),
        "netted_cpu_us_a_change": _cpu_us(netted),
        "filesystem": drained.filesystem,
    }


def _cpu_us(sent: Sent) -> dict[str, float]:
    count = max(1, len(sent.arrivals.seqs))
    spent = {"delivery": sent.delivery_cpu_s, "receiver": sent.receiver_cpu_s}
    return {name: round(seconds / count * 1e6, 2) for name, seconds in spent.items()}


def _drain_plot(sent: Sent, theory_s: float) -> LinePlot:
    arrivals = sent.arrivals
    after_s = (arrivals.came_ns - arrivals.came_ns[0]) / 1e9
    arrived = np.cumsum(arrivals.counts)
    total = float(arrived[-1]) if len(arrived) else 0.0
    chosen = np.unique(np.linspace(0, len(arrived) - 1, 200).astype(int))
    reached = [(float(np.searchsorted(arrived, part * total)), held) for part, held in sent.memory]
    places = [(float(after_s[min(int(place), len(after_s) - 1)]), held / 2**20) for place, held in reached]
    return LinePlot(
        "drain",
        "A mass exit under a rate limit, and the memory of the process that delivers it",
        "seconds",
        "users removed",
        [Line("arrived", [float(value) for value in after_s[chosen]], [float(value) for value in arrived[chosen]]),
         Line("what the limit allows", [0.0, theory_s], [float(arrivals.counts[0]), total])],
        right_label="MiB",
        right=[Line("memory", [place for place, _ in places], [held for _, held in places])],
        log_x=False,
        markers=False,
    )  # fmt: skip
