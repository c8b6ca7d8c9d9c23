"""`usher replay`: files in, transitions out, by the same engine as the cluster (semantics.md §4). No Ray, no server."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from actors.evaluator.layout import CAUSE_DEFINITION
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import Transitions, joined
from cluster.admission.plan import EventPlan
from cluster.definitions.evaluable import unsupported
from cluster.definitions.model import Definitions, Published
from cluster.definitions.parsing import load_paths, located
from cluster.definitions.versions import publish
from cluster.errors import DefinitionError, InputError
from cluster.model.values import coerce_timestamp
from cluster.replay.progress import expected_rows
from cluster.replay.reading import ReplaySlice, read_events
from cluster.replay.traits import load_snapshots
from cluster.replay.writing import check_target, write_nothing, write_transitions
from destinations.registry import KINDS

#: Called after each slice with the share done (None: not known) and the rows read.
OnProgress: TypeAlias = Callable[[float | None, int], None]

#: Outcomes of a hit by how far it got: a row counts as the furthest of its hits (accepted, too late, duplicate).
_FURTHEST: Final = np.array([0, 2, 1], np.uint8)
_REASONS: Final = ("accepted", "too_late", "duplicate")


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What `usher replay` was told. `traits` are `T` or `PARENT=T`, `until` RFC 3339 or whole ms."""

    definitions: tuple[Path, ...]
    events: Path
    out: Path
    traits: tuple[str, ...] = ()
    until: str | None = None


@dataclass(slots=True)
class ReplaySummary:
    """What a run did. `rejected` counts rows by reason; seconds are of wall-clock time."""

    events: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    transitions: int = 0
    read_s: float = 0.0
    evaluate_s: float = 0.0
    write_s: float = 0.0
    peak_rss_bytes: int = 0

    @property
    def events_per_s(self) -> float:
        """Events over the seconds of reading and evaluation."""
        spent_s = self.read_s + self.evaluate_s
        return self.events / spent_s if spent_s else 0.0

    def as_json(self) -> dict[str, Any]:
        """Give the object that `--json` prints."""
        return {
            "events": self.events,
            "accepted": self.accepted,
            "rejected": dict(sorted(self.rejected.items())),
            "transitions": self.transitions,
            "read_s": round(self.read_s, 6),
            "evaluate_s": round(self.evaluate_s, 6),
            "write_s": round(self.write_s, 6),
            "peak_rss_bytes": self.peak_rss_bytes,
        }


def replay(options: ReplayOptions, on_progress: OnProgress = lambda done, rows: None) -> ReplaySummary:
    """Run a replay and write its transitions; `out` appears whole or not at all.

    Raises DefinitionError, InputError, EventFileError, SnapshotError, StorageFull.
    """
    until_ms = None if options.until is None else time_of(options.until)
    check_target(options.out)
    definitions = load_paths(options.definitions, os.environ, KINDS)
    if faults := unsupported(definitions):
        raise DefinitionError(located(faults, options.definitions))
    run = _Run(definitions, load_snapshots(definitions, options.traits, Path.cwd()), until_ms)
    run.read(options.events, on_progress)
    run.write(options.out)
    return run.summary


def time_of(text: str) -> int:
    """Read `--until`: whole ms since 1970, or RFC 3339."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) <= 15:
        return int(text)
    at_ms = coerce_timestamp(text)
    if at_ms is None:
        message = f"--until {text!r} is no time."
        raise InputError(message, next_step="Allowed: 2026-11-23T10:00:00Z, or ms since 1970.")
    return at_ms


class _Run:
    """One replay. The machine begins at the first row that has a time; without one there is none."""

    def __init__(self, definitions: Definitions, snapshots: Mapping[str, Any], until_ms: int | None) -> None:
        self.summary = ReplaySummary()
        self._published: Published = publish(None, definitions)
        self._plan = EventPlan(definitions)
        self._snapshots = dict(snapshots)
        self._until_ms = until_ms
        self._machine: EvaluatorMachine | None = None
        self._parts: list[Transitions] = []

    def read(self, events: Path, on_progress: OnProgress) -> None:
        """Read and evaluate the file, then make the changes due up to `until`."""
        expected = expected_rows(events)
        slices = read_events(str(events), self._plan, until_ms=self._until_ms)
        while (part := self._next(slices)) is not None:
            with self._timed("evaluate_s"):
                self._evaluate(part)
            on_progress(min(self.summary.events / expected, 1.0) if expected else None, self.summary.events)
        if self._machine is not None and self._until_ms is not None:
            with self._timed("evaluate_s"):
                self._parts.append(self._machine.tick(self._until_ms))

    def write(self, out: Path) -> None:
        """Write what was found, and close the summary."""
        with self._timed("write_s"):
            if self._machine is None:
                write_nothing(out)
            else:
                transitions = joined(self._parts)
                self._parts = []
                self.summary.transitions = len(transitions)
                write_transitions(out, self._machine, transitions)
        self.summary.peak_rss_bytes = peak_rss_bytes()

    def _next(self, slices: Iterator[ReplaySlice]) -> ReplaySlice | None:
        with self._timed("read_s"):
            return next(slices, None)

    def _evaluate(self, part: ReplaySlice) -> None:
        decoded = part.decoded
        self.summary.events += decoded.row_count
        self.summary.rejected.update(reason for _, reason in decoded.rejected)
        if part.first_clock_ms is None or part.end_clock_ms is None:
            return
        if self._machine is None:
            self._machine = self._begin(part.first_clock_ms)
        result = self._machine.handle_batch(decoded.hits, part.end_clock_ms, part.end_clock_ms)
        self._parts.append(result.transitions)
        self._count(decoded.hits.column("row"), result.outcomes)

    def _begin(self, clock_ms: int) -> EvaluatorMachine:
        """Publish, as version 1, at the clock of the first row: who is a member then enters, cause `definition`."""
        machine = EvaluatorMachine(self._published)
        machine.load([], self._snapshots, clock_ms)
        machine.difference_from(None)  # notes the entries, so that later ones at this instant count on
        self._parts.append(_entries(machine))
        self._snapshots = {}
        return machine

    def _count(self, rows: Any, outcomes: Any) -> None:
        """Count each row that has hits once, by the furthest of them."""
        if len(outcomes) == 0:
            return
        of_row = np.asarray(rows)
        starts = np.flatnonzero(np.concatenate([[True], of_row[1:] != of_row[:-1]]))
        counts = np.bincount(np.minimum.reduceat(_FURTHEST[outcomes], starts), minlength=len(_REASONS))
        self.summary.accepted += int(counts[0])
        for reason, count in zip(_REASONS[1:], counts[1:].tolist(), strict=True):
            if count:
                self.summary.rejected[reason] += count

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            setattr(self.summary, name, getattr(self.summary, name) + time.perf_counter() - began)


def _entries(machine: EvaluatorMachine) -> Transitions:
    """Give the entry of everybody who is a member now, by slots: millions of names need not be made to be sorted."""
    members = [machine.members(audience) for audience in machine.program.audiences]
    users = np.concatenate([np.zeros(0, np.int32), *members])
    count = len(users)
    return Transitions(
        user=users,
        audience=np.repeat(np.arange(len(members), dtype=np.int32), [len(slots) for slots in members]),
        at=np.full(count, machine.clock_ms, np.int64),
        n=np.zeros(count, np.int32),
        entered=np.ones(count, np.uint8),
        cause=np.full(count, CAUSE_DEFINITION, np.uint8),
    )


def peak_rss_bytes() -> int:
    """Give the most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
