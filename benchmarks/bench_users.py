"""`users`: throughput and memory from 10,000 to 5 million users, and what is left when every window is over.

20 audiences over 4 event models. Each size runs in a process of its own, so that its peak of memory is its own: traits
loaded, one longest window of events to fill the state, then the events that are timed, then nothing until the last
window is over. What grows with the users is the memory that an event may touch: expect two to four more cache and page
misses an event at 5 million than at 10,000, and the same instructions.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import Transitions
from benchmarks.cases import Step
from benchmarks.core import loaded, published_of, same_as_plain, snapshot_of
from benchmarks.crowd import CHUNK_ROWS, COLUMNS, TOUCHES, WINDOW_S, Crowd, leaves_held
from benchmarks.machine import memory_available_bytes, peak_rss_bytes
from benchmarks.results import CaseResult, Check, Figure, Line, LinePlot
from benchmarks.workloads import engine_document
from cluster.definitions.model import Published

SIZES, SIZES_QUICK = (10_000, 100_000, 1_000_000, 5_000_000), (1_000, 10_000)
AUDIENCES, MODELS = 20, 4
#: The state that is held, at every size (`state_bytes_max`): 15 to 20 % above what was measured at 10,000 users to a
#: million with 0.9 to 13 leaves touched a user. 192 of a user's bytes are its row; a leaf takes 26 (many events a user)
#: to 40 (few: a block of whole cache lines for one event).
FIXED_BYTES, USER_BYTES, LEAF_BYTES = 8 * 2**20, 230, 35
#: State after all windows are over, of what it was before the first event.
LAPSED_TARGET = 1.1
_TIMED_CHUNKS, _CHUNK_ROWS_QUICK = 8, 8_192
#: The largest array lies beside its old self while it grows; the first figures showed 1.1 times the state at most.
_GROWTH = 1.6
#: Interpreter, libraries, compiled kernels and a chunk of events; and the traits, beside the state, a user.
_PROCESS_BYTES, _TRAITS_BYTES = 500 * 2**20, 200
#: A guess for the first size, from which the next ones are reckoned.
_STATE_BYTES_GUESS = 4_000.0


@dataclass(frozen=True, slots=True)
class Sized:
    """What one number of users gave.

    `loaded_bytes`, `state_bytes`, `lapsed_bytes`: the state before the first event, after the timed ones, after the
    last window.
    """

    users: int
    events: int
    fill_per_s: float
    rates: list[float]
    transitions_an_event: float
    loaded_bytes: int
    state_bytes: int
    lapsed_bytes: int
    leaves_held: int
    peak_bytes: int
    lapse_exits: int
    checks: list[Check]

    @property
    def per_s(self) -> float:
        """Events per processor second of the median chunk."""
        return statistics.median(self.rates)

    @property
    def state_bytes_max(self) -> int:
        """The most that the state may be: a fixed part, one a user, and one a user and leaf touched."""
        return FIXED_BYTES + USER_BYTES * self.users + LEAF_BYTES * self.leaves_held


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure every size that this machine's memory is enough for."""
    sizes, rows = (SIZES_QUICK, _CHUNK_ROWS_QUICK) if quick else (SIZES, CHUNK_ROWS)
    step("a sample that plain Python evaluates too")
    sample = _sample()
    found: list[Sized] = []
    skipped: list[Figure] = []
    for users in sizes:
        needed = needed_bytes(users, found[-1] if found else None)
        available = memory_available_bytes()
        if available is not None and needed > available:
            why = f"skipped, needs about {_gib(needed)} GiB of {_gib(available)} available"
            skipped.append(Figure(f"{users:,} users: {why}", None, "events/CPU s"))
            continue
        step(f"{users:,} users: filling, timing, letting every window go by")
        found.append(_in_fresh_process(Crowd(users, MODELS, rows)))
    checks = [sample, *(check for size in found for check in (*size.checks, within_bounds(size)))]
    return CaseResult("users", [*_figures(found), *skipped], checks, notes=_notes(found), plots=_plots(found))


def needed_bytes(users: int, smaller: Sized | None) -> int:
    """Estimate the memory that a size takes at its peak, from the state of the size before."""
    per_user = _STATE_BYTES_GUESS if smaller is None else smaller.state_bytes / smaller.users
    return _PROCESS_BYTES + math.ceil(users * (per_user * _GROWTH + _TRAITS_BYTES))


def _gib(count: int) -> float:
    return round(count / 2**30, 1)


def _definitions() -> Published:
    return published_of(engine_document(AUDIENCES, MODELS, np.random.default_rng(19)))


def _sample() -> Check:
    crowd = Crowd(2_000, MODELS, rows=20_000)
    snapshot = snapshot_of(crowd.users, np.random.default_rng(23))
    return same_as_plain("a sample", _definitions(), snapshot, list(crowd.chunk(0).batches()), COLUMNS)


def _in_fresh_process(crowd: Crowd) -> Sized:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_size, crowd).result()


def run_size(crowd: Crowd) -> Sized:
    """Measure one size in this process."""
    published = _definitions()
    machine = loaded(published, snapshot_of(crowd.users, np.random.default_rng(23)))
    loaded_bytes, first = machine.counters()["state_bytes"], _sizes(machine)
    tally = Tally(np.zeros(len(first), np.int64))
    fill = math.ceil(crowd.users * TOUCHES / crowd.rows)
    fill_s = sum(_chunk_seconds(machine, crowd, index, tally) for index in range(fill))
    before = tally.made
    seconds = [_chunk_seconds(machine, crowd, index, tally) for index in range(fill, fill + _TIMED_CHUNKS)]
    made = tally.made - before
    state_bytes, peak_bytes, end_ms = machine.counters()["state_bytes"], peak_rss_bytes(), machine.clock_ms
    members = Check(f"{crowd.users:,} users: members are those before, plus entries less exits",
                    bool((_sizes(machine) == first + tally.change).all()))
    before = tally.made
    for second in range(1, WINDOW_S + 1):
        tally.add(machine.tick(end_ms + second * 1_000))
    # As an evaluator does between two groups, once nobody's numbering needs the instant any more.
    tally.add(machine.tick(end_ms + WINDOW_S * 1_000 + 1))
    machine.compact()
    held = leaves_held(crowd, fill + _TIMED_CHUNKS, published.definitions, end_ms)
    return Sized(
        users=crowd.users,
        events=(fill + _TIMED_CHUNKS) * crowd.rows,
        fill_per_s=fill * crowd.rows / fill_s,
        rates=[crowd.rows / took for took in seconds],
        transitions_an_event=made / (_TIMED_CHUNKS * crowd.rows),
        loaded_bytes=loaded_bytes,
        state_bytes=state_bytes,
        lapsed_bytes=machine.counters()["state_bytes"],
        leaves_held=held,
        peak_bytes=peak_bytes,
        lapse_exits=tally.made - before,
        checks=[members, lapsed(machine, crowd.users, first)],
    )


@dataclass(slots=True)
class Tally:
    """Transitions made, and what they change each audience's size by."""

    change: np.ndarray
    made: int = 0

    def add(self, transitions: Transitions) -> None:
        """Count transitions; O(their number)."""
        signs = transitions.entered.astype(np.float64) * 2 - 1
        self.change += np.bincount(transitions.audience, signs, len(self.change)).astype(np.int64)
        self.made += len(transitions)


def _sizes(machine: EvaluatorMachine) -> np.ndarray:
    return np.array(list(machine.audience_sizes().values()), np.int64)


def _chunk_seconds(machine: EvaluatorMachine, crowd: Crowd, index: int, tally: Tally) -> float:
    """Evaluate a chunk, made beforehand, and give the processor seconds of the evaluation alone."""
    seconds = 0.0
    for batch in list(crowd.chunk(index).batches()):
        began = time.process_time()
        result = machine.handle_batch(batch, 0)
        seconds += time.process_time() - began
        assert not result.outcomes.any()
        tally.add(result.transitions)
    return seconds


def lapsed(machine: EvaluatorMachine, users: int, first: np.ndarray) -> Check:
    """Check that nothing is left of the windows once the longest is over: no block, no timer, the first members."""
    counters = machine.counters()
    left = {name: counters[name] for name in ("blocks", "timers")}
    same = bool((_sizes(machine) == first).all())
    detail = f"{left}, members as before the first event: {'yes' if same else 'no'}"
    name = f"{users:,} users: when the last window is over, nothing is kept of it"
    return Check(name, same and not any(left.values()), detail)


def within_bounds(size: Sized) -> Check:
    """Check that the state is at most what is promised for so many users and leaves touched."""
    found, most = (round(count / size.users) for count in (size.state_bytes, size.state_bytes_max))
    name = f"{size.users:,} users: state is within {FIXED_BYTES >> 20} MiB, {USER_BYTES} bytes a user and " \
           f"{LEAF_BYTES} a leaf that the user touched"
    detail = f"{found} of {most} bytes a user, {size.leaves_held / size.users:.2f} leaves"
    return Check(name, size.state_bytes <= size.state_bytes_max, detail)


def _figures(sizes: Sequence[Sized]) -> list[Figure]:
    """Give each size's figures."""
    figures = []
    for size in sizes:
        name = f"{size.users:,} users"
        target = round(size.state_bytes_max / size.users)
        figures += [
            Figure(name, round(size.per_s), "events/CPU s"),
            Figure(f"{name}, state", round(size.state_bytes / size.users), "bytes/user", target, "lower"),
            Figure(f"{name}, state a user and leaf touched", round(size.state_bytes / size.leaves_held, 1), "bytes",
                   better="lower"),
            Figure(f"{name}, most memory of the process", round(size.peak_bytes / 2**20), "MiB", better="lower"),
        ]
    return figures + (_figures_of_all(sizes[0], sizes[-1]) if len(sizes) > 1 else [])


def _figures_of_all(smallest: Sized, largest: Sized) -> list[Figure]:
    windows = largest.state_bytes - largest.loaded_bytes
    name = f"{largest.users:,} users"
    return [
        Figure(f"{name}, of the rate at {smallest.users:,}", round(largest.per_s / smallest.per_s, 2), "times"),
        Figure(f"{name}, of the state a user and leaf touched: windows", round(windows / largest.leaves_held, 1),
               "bytes", better="lower"),
        Figure(f"{name}, state after the last window, of that before the first event",
               round(largest.lapsed_bytes / largest.loaded_bytes, 2), "times", LAPSED_TARGET, "lower"),
    ]


def _plots(sizes: list[Sized]) -> list[LinePlot]:
    if not sizes:
        return []
    x = [float(size.users) for size in sizes]
    return [LinePlot(
        "throughput",
        "Throughput of one core and state while users grow",
        f"users ({AUDIENCES} audiences, {TOUCHES} events a user and {WINDOW_S} s)",
        "events per processor second",
        [Line("events, median chunk", x, [round(size.per_s) for size in sizes]),
         Line("events while the state is filled", x, [round(size.fill_per_s) for size in sizes])],
        right_label="bytes/user",
        right=[Line("state, bytes/user", x, [round(size.state_bytes / size.users, 1) for size in sizes]),
               Line("most state allowed", x, [round(size.state_bytes_max / size.users, 1) for size in sizes])],
    )]


def _notes(sizes: list[Sized]) -> dict[str, Any]:
    return {
        "by_users": {
            str(size.users): {
                "events": size.events,
                "events_per_cpu_s": sorted(round(rate) for rate in size.rates),
                "fill_events_per_cpu_s": round(size.fill_per_s),
                "transitions_an_event": round(size.transitions_an_event, 2),
                "leaves_touched_a_user": round(size.leaves_held / size.users, 2),
                "peak_rss_mib": round(size.peak_bytes / 2**20),
                "exits_by_time_alone_at_the_end": size.lapse_exits,
            }
            for size in sizes
        },
    }
