"""`audiences`: what an event costs while audiences grow from 1 to 10,000 and the leaves it matches stay the same.

Sketch: an event is one look-up of its campaign among the model's values, then about 10 leaves of its user, whatever
else is defined. What may grow is what a user's row holds for all audiences, and with it the cache misses.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.campaigns import COLUMNS, Campaigns, campaign_batches, campaigns
from benchmarks.cases import Step
from benchmarks.core import loaded, published_of, same_as_plain, snapshot_of, timed
from benchmarks.results import CaseResult, Check, Figure, Line, LinePlot
from cluster.definitions.model import Published

SIZES = (1, 10, 100, 1_000, 10_000)
#: The size that others are held against: from it on an event matches the same leaves, of users who meet the same pairs.
BASE = 100
SHARE_TARGET = 0.6
#: Events a user and second: every size of the crowd below has it.
_PER_USER_S = 0.03
_USERS, _EVENTS, _ROUNDS = 50_000, 1_000_000, 5
_SAMPLE_USERS, _SAMPLE_EVENTS = 1_000, 20_000
#: How far transitions an event may differ from the base's: only the drawn windows and traits differ.
_PLAUSIBLE = 0.1


@dataclass(slots=True)
class Sized:
    """One number of audiences: its workload, and what its runs found."""

    audiences: int
    workload: Campaigns
    published: Published
    batches: list[pa.RecordBatch]
    publish_s: float
    seconds: list[float] = field(default_factory=list)
    transitions: list[int] = field(default_factory=list)
    accepted: bool = True
    bytes_per_user: int = 0

    @property
    def events(self) -> int:
        """Events of one run."""
        return sum(batch.num_rows for batch in self.batches)

    @property
    def per_s(self) -> float:
        """Events/s of the median run."""
        return self.events / statistics.median(self.seconds)

    @property
    def transitions_an_event(self) -> float:
        """Transitions of one run over its events."""
        return self.transitions[0] / self.events


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure every size in turn, several times over, and compare samples with plain Python."""
    if quick:
        return run(SIZES, step, users=2_000, events=50_000, rounds=1)
    return run(SIZES, step)


def run(
    audiences: tuple[int, ...], step: Step, *, users: int = _USERS, events: int = _EVENTS, rounds: int = _ROUNDS
) -> CaseResult:
    """Measure these numbers of audiences, ascending."""
    checks = [_sample(count) for count in _said(audiences, step, "the sample that plain Python evaluates too")]
    sizes = [_sized(count, users, events) for count in _said(audiences, step, "making events")]
    snapshot = snapshot_of(users, np.random.default_rng(13))
    for size in sizes:
        loaded(size.published, snapshot).handle_batch(size.batches[0], 0)  # compile
    for turn in range(rounds):
        for size in sizes:
            step(f"{named(size.audiences)}, round {turn + 1} of {rounds}")
            _once(size, snapshot)
    return CaseResult(
        "audiences", _figures(sizes), [*checks, *_checks(sizes)], plots=[_plot(sizes)], notes=_notes(sizes, users)
    )


def named(audiences: int) -> str:
    """Give a number of audiences in words."""
    return f"{audiences:,} audience{'' if audiences == 1 else 's'}"


def _said(audiences: tuple[int, ...], step: Step, what: str) -> Iterator[int]:
    for count in audiences:
        step(f"{named(count)}: {what}")
        yield count


def _sample(audiences: int) -> Check:
    size = _sized(audiences, _SAMPLE_USERS, _SAMPLE_EVENTS)
    snapshot = snapshot_of(_SAMPLE_USERS, np.random.default_rng(13))
    return same_as_plain(f"{named(audiences)}, a sample", size.published, snapshot, size.batches, COLUMNS)


def _sized(audiences: int, users: int, events: int) -> Sized:
    workload = campaigns(audiences)
    began = time.perf_counter()
    published = published_of(workload.document)
    took = time.perf_counter() - began
    batches = campaign_batches(workload, users=users, events=events, events_per_second=users * _PER_USER_S)
    return Sized(audiences, workload, published, list(batches), round(took, 2))


def _once(size: Sized, snapshot: pa.Table) -> None:
    machine = loaded(size.published, snapshot)
    seconds, transitions = 0.0, 0
    for took, result in timed(machine, size.batches):
        seconds += took
        transitions += len(result.transitions)
        size.accepted &= not result.outcomes.any()
    size.seconds.append(seconds)
    size.transitions.append(transitions)
    size.bytes_per_user = round(machine.counters()["state_bytes"] / machine.user_count)


def _figures(sizes: list[Sized]) -> list[Figure]:
    figures = [Figure(named(size.audiences), round(size.per_s), "events/s") for size in sizes]
    base, largest = _base(sizes), sizes[-1]
    if base is not None and largest.audiences > BASE:
        name = f"{named(largest.audiences)}, of the events/s at {BASE}"
        # Of pairs of runs a few seconds apart: a machine that slows down slows both.
        shares = [before / after for before, after in zip(base.seconds, largest.seconds, strict=True)]
        figures.append(Figure(name, round(statistics.median(shares), 3), "times", SHARE_TARGET))
    figures += [
        Figure(f"state at {named(size.audiences)}", size.bytes_per_user, "bytes/user", better="lower")
        for size in sizes
    ]
    return figures


def _base(sizes: list[Sized]) -> Sized | None:
    return next((size for size in sizes if size.audiences == BASE), None)


def _checks(sizes: list[Sized]) -> list[Check]:
    return [
        Check("every event was accepted, at every size", all(size.accepted for size in sizes)),
        Check("every round made as many transitions", all(len(set(size.transitions)) == 1 for size in sizes)),
        *plausible(_base(sizes), [size for size in sizes if size.audiences > BASE]),
    ]


def plausible(base: Sized | None, larger: list[Sized]) -> list[Check]:
    """Check that larger sizes make as many transitions an event as the base: what concerns an event is alike."""
    if base is None or not larger:
        return []
    found = {size.audiences: round(size.transitions_an_event, 2) for size in larger}
    expected = base.transitions_an_event
    inside = all(abs(value - expected) <= _PLAUSIBLE * expected for value in found.values())
    detail = f"{expected:.2f} at {BASE}, " + ", ".join(f"{value} at {count:,}" for count, value in found.items())
    return [Check(f"transitions an event stay within {_PLAUSIBLE:.0%} while audiences grow", inside, detail)]


def _plot(sizes: list[Sized]) -> LinePlot:
    x = [float(size.audiences) for size in sizes]
    return LinePlot(
        "throughput",
        "Throughput of one core and state while audiences grow",
        "audiences (an event matches about 10 of their conditions: 8 at 10 audiences, 1 at 1)",
        "events/s",
        [Line("events/s, median", x, [round(size.per_s) for size in sizes])],
        right_label="bytes/user",
        right=[Line("state, bytes/user", x, [float(size.bytes_per_user) for size in sizes])],
    )


def _notes(sizes: list[Sized], users: int) -> dict[str, Any]:
    return {
        "events": sizes[0].events,
        "users": users,
        "by_audiences": {
            str(size.audiences): {
                "leaves": size.workload.leaves,
                "event_models": size.workload.models,
                "campaigns": size.workload.values,
                "leaves_an_event": round(size.workload.leaves / size.workload.pairs, 1),
                "transitions_an_event": round(size.transitions_an_event, 2),
                "events_per_s": sorted(round(size.events / took) for took in size.seconds),
                "publish_s": size.publish_s,
            }
            for size in sizes
        },
    }
