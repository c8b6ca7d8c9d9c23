"""`waves`: what live events feel while half a million users' windows are over at once.

Two waves: all within one second (a campaign's minute, hours later), and all in one ms (`this: day`, at midnight of
a zone). Live batches of 500 events come every 5 ms of the events' own time, before and during the wave, a tenth of
their users in it; a call works off at most WAVE_USERS users of the wave beside its events, and later calls go on.
What is measured is each call, against those in calm. Sketch: a due user is two or three cache misses and a transition,
0.5 to 1 µs; 4,096 of them are 2 to 4 ms a call, and half a million take 120 calls. Without slices they are one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from actors.evaluator.results import BatchResult, Transitions
from benchmarks.cases import Step
from benchmarks.core import BATCH_ROWS, PARENT, event_model, hits, loaded, published_of, snapshot_of, user_numbers
from benchmarks.results import CaseResult, Check, Figure, Line, LinePlot, curve, quantile
from benchmarks.workloads import START_MS

USERS, USERS_QUICK = 500_000, 20_000
#: Users of the wave that one call works off.
WAVE_USERS = 4_096
ADDED_MS_TARGET = 50.0
LIVE_EVENTS, LIVE_EVERY_MS = 500, 5
#: Users of live events who have no part in the wave.
_LIVE_USERS = 100_000
#: Events that may not wait: of so many live events one is of a user of the wave.
_OF_THE_WAVE_EVERY = 10
#: Calls in calm before the wave: the first second brings the live audience to its steady state, then they are timed.
_WARM_CALLS, _CALM_CALLS = 200, 400
#: Calls before and after the wave that the plot shows.
_AROUND_CALLS = 100
#: A wave that is not over after so many calls is given up, and the checks say so.
_CALLS_MAX = 20_000
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Wave:
    """Users 0..N-1 each have one event of e0 at `clocks_ms` (ascending), whose window is over at `due_ms`."""

    name: str
    window: dict[str, str]
    clocks_ms: np.ndarray
    due_ms: np.ndarray

    def document(self) -> dict[str, Any]:
        """Give the definitions: `seen` is what the wave leaves; `active` lives on live events, half a second each."""
        return {
            "version": 1,
            "parent_models": [PARENT],
            "event_models": [event_model(0, {}), event_model(1, {})],
            "audiences": [
                {"id": "seen", "parent": "users", "where": {"event": "e0", **self.window}},
                {"id": "active", "parent": "users", "where": {"event": "e1", "within": "500ms"}},
            ],
        }


def second_wave(users: int) -> Wave:
    """Give the wave of users whose five minutes are over within one second."""
    clocks = START_MS + np.sort(np.random.default_rng(29).integers(0, 1_000, users))
    return Wave("one second", {"within": "5m"}, clocks, clocks + 300_000)


def midnight_wave(users: int) -> Wave:
    """Give the wave of users whose day in Berlin is over: at 23:00 UTC, START_MS being a UTC midnight in winter."""
    hour_ms = 3_600_000
    clocks = START_MS + np.sort(np.random.default_rng(31).integers(18 * hour_ms, 19 * hour_ms, users))
    midnight = START_MS + 23 * hour_ms
    return Wave("one ms", {"this": "day", "tz": "Europe/Berlin"}, clocks, np.full(users, midnight))


class SlicedMachine(Protocol):
    """What a wave needs of a machine: `behind` says that due changes remain, which a later call goes on with."""

    @property
    def behind(self) -> bool:
        """Whether changes due at or before the clock remain."""
        ...

    def handle_batch(
        self, hits: pa.RecordBatch, now_ms: int, end_clock_ms: int | None = None, wave_users: int | None = None
    ) -> BatchResult:
        """Apply a batch, and work off at most about `wave_users` users' due changes; None: all."""
        ...


@dataclass(frozen=True, slots=True)
class Lived:
    """One run: ms of each timed call in calm, of each from the wave's first due ms to its end, and of some after it."""

    calm_ms: np.ndarray
    wave_ms: np.ndarray
    after_ms: np.ndarray
    transitions: list[Transitions]
    over: bool

    @property
    def added_ms(self) -> np.ndarray:
        """What the wave adds to each call, against the median call in calm; never below 0."""
        return np.asarray(np.maximum(self.wave_ms - np.median(self.calm_ms), 0))


@dataclass(frozen=True, slots=True)
class Exits:
    """Who left: `count` exits of `users` users in all of the wave's `due` users, `wrong` of them at another ms."""

    count: int
    users: int
    due: int
    wrong: int


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure both waves, sliced several times, and once whole for comparison."""
    users, rounds = (USERS_QUICK, 1) if quick else (USERS, _ROUNDS)
    figures, checks, plots, curves = [], [], [], {}
    notes: dict[str, Any] = {"users": users, "wave_users_a_call": WAVE_USERS, "live_events_a_batch": LIVE_EVENTS,
                             "live_batch_every_ms": LIVE_EVERY_MS}  # fmt: skip
    for wave in (second_wave(users), midnight_wave(users)):
        runs = []
        for turn in range(rounds + 1):
            how = f"round {turn + 1} of {rounds}" if turn < rounds else "in one piece"
            step(f"a wave of {users:,} users in {wave.name}, {how}")
            runs.append(run_wave(wave, WAVE_USERS if turn < rounds else None))
        lived = [one for one, _ in runs]
        sliced, whole = lived[:-1], lived[-1]
        checks += _checks(wave, lived, [exits for _, exits in runs])
        figures += _figures(wave, sliced, whole)
        plots.append(_plot(wave, sliced[0], whole))
        curves[f"{wave.name}, calm"] = curve(np.concatenate([one.calm_ms for one in sliced]))
        curves[f"{wave.name}, wave"] = curve(np.concatenate([one.wave_ms for one in sliced]))
        notes[wave.name] = _notes(sliced, whole)
    return CaseResult("waves", figures, checks, curves, notes, plots)


def run_wave(wave: Wave, wave_users: int | None) -> tuple[Lived, Exits]:
    """Fill a machine, live through its wave, and see who left when."""
    users = len(wave.due_ms)
    machine = loaded(published_of(wave.document()), snapshot_of(users + _LIVE_USERS, np.random.default_rng(37)))
    who = np.random.default_rng(41).permutation(users)
    for start in range(0, users, BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        clocks = wave.clocks_ms[part]
        machine.handle_batch(hits(np.zeros(len(clocks)), who[part], clocks), 0)
    lived = live_through(machine, live_batches(users), int(wave.due_ms.min()), int(wave.due_ms.max()), wave_users)
    due_of = np.zeros(users, np.int64)
    due_of[who] = wave.due_ms
    return lived, exits_of(lived.transitions, machine.program.audience_index["seen"], user_numbers(machine), due_of)


def live_batches(wave_users: int) -> Iterator[pa.RecordBatch]:
    """Give live batches of e1 without end: users beside the wave, and one in ten of it."""
    rng = np.random.default_rng(43)
    ones = np.ones(LIVE_EVENTS)
    while True:
        who = wave_users + rng.integers(0, _LIVE_USERS, LIVE_EVENTS)
        inside = slice(None, None, _OF_THE_WAVE_EVERY)
        who[inside] = rng.integers(0, wave_users, len(who[inside]))
        yield hits(ones, who, None)


def live_through(
    machine: SlicedMachine, batches: Iterator[pa.RecordBatch], first_due_ms: int, last_due_ms: int,
    wave_users: int | None,
) -> Lived:  # fmt: skip
    """Send a live batch every LIVE_EVERY_MS until nothing of the wave is left, and a little longer; time each call."""
    calm: list[float] = []
    in_wave: list[float] = []
    after: list[float] = []
    transitions = []
    now = first_due_ms - (_WARM_CALLS + _CALM_CALLS) * LIVE_EVERY_MS
    done_to = now - 1
    while len(after) < _AROUND_CALLS and len(in_wave) < _CALLS_MAX:
        pending = done_to < last_due_ms or machine.behind
        batch = next(batches)
        began = time.perf_counter()
        result = machine.handle_batch(batch, now, wave_users=wave_users)
        took = (time.perf_counter() - began) * 1e3
        (calm if now < first_due_ms else in_wave if pending else after).append(took)
        transitions.append(result.transitions)
        done_to = now
        now += LIVE_EVERY_MS
    over = len(after) == _AROUND_CALLS
    return Lived(np.array(calm[_WARM_CALLS:]), np.array(in_wave), np.array(after), transitions, over)


def exits_of(made: Sequence[Transitions], audience: int, numbers: np.ndarray, due_of: np.ndarray) -> Exits:
    """Compare an audience's exits with each user's due ms; `numbers`: the user number of each slot."""
    chosen = [(t.audience == audience) & (t.entered == 0) for t in made]
    users = numbers[np.concatenate([t.user[one] for t, one in zip(made, chosen, strict=True)])]
    at = np.concatenate([t.at[one] for t, one in zip(made, chosen, strict=True)])
    return Exits(len(users), len(np.unique(users)), len(due_of), int((due_of[users] != at).sum()))


def _checks(wave: Wave, lived: Sequence[Lived], exits: Sequence[Exits]) -> list[Check]:
    name, wrong = f"wave in {wave.name}", sum(one.wrong for one in exits)
    once = all(one.count == one.users == one.due for one in exits)
    counts = ", ".join(f"{one.count:,}" for one in exits)
    return [
        Check(f"{name}: worked off to its end", all(one.over for one in lived)),
        Check(f"{name}: every user of it left, once, in every run", once, f"{counts} exits of {exits[0].due:,} users"),
        Check(f"{name}: each at exactly its due ms", wrong == 0, f"{wrong:,} at another ms" if wrong else ""),
    ]


def _figures(wave: Wave, sliced: Sequence[Lived], whole: Lived) -> list[Figure]:
    longest = float(np.median([one.added_ms.max() for one in sliced]))
    over_s = float(np.median([one.wave_ms.sum() for one in sliced])) / 1e3
    name = f"wave in {wave.name}"
    return [
        Figure(f"{name}: longest delay added to a batch", round(longest, 2), "ms", ADDED_MS_TARGET, "lower"),
        Figure(f"{name}: p99 of a batch meanwhile", quantile(np.concatenate([one.wave_ms for one in sliced]), 0.99),
               "ms", better="lower"),
        Figure(f"{name}: p99 of a batch in calm", quantile(np.concatenate([one.calm_ms for one in sliced]), 0.99),
               "ms", better="lower"),
        Figure(f"{name}: worked off in", round(over_s, 2), "s", better="lower"),
        Figure(f"{name}: longest delay without slices", round(float(whole.added_ms.max()), 1), "ms", better="lower"),
    ]


def _plot(wave: Wave, sliced: Lived, whole: Lived) -> LinePlot:
    def line(name: str, lived: Lived) -> Line:
        calm = lived.calm_ms[-_AROUND_CALLS:]
        calls = np.concatenate([calm, lived.wave_ms, lived.after_ms])
        x = (np.arange(len(calls)) - len(calm)) * float(LIVE_EVERY_MS)
        return Line(name, x.tolist(), [round(float(ms), 3) for ms in calls])

    return LinePlot(
        wave.name.replace(" ", "-"),
        f"Batches of {LIVE_EVENTS} events while {len(wave.due_ms):,} users' windows are over in {wave.name}",
        "ms of events' time since the wave's first due ms",
        "ms a batch",
        [line("the wave in one piece", whole), line(f"at most {WAVE_USERS:,} users of the wave a call", sliced)],
        log_x=False,
        log_y=True,
        limit=float(np.median(sliced.calm_ms)) + ADDED_MS_TARGET,
        limit_name=f"target: {ADDED_MS_TARGET:g} ms more than in calm",
        markers=False,
    )


def _notes(sliced: Sequence[Lived], whole: Lived) -> dict[str, Any]:
    return {
        "longest_added_ms": [round(float(one.added_ms.max()), 2) for one in sliced],
        "calls": [len(one.wave_ms) for one in sliced],
        "calm_median_ms": [round(float(np.median(one.calm_ms)), 3) for one in sliced],
        "whole_longest_ms": round(float(whole.wave_ms.max()), 1),
        "whole_calls": len(whole.wave_ms),
    }
