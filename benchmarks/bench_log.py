"""`log`: events/s of the evaluator's path with a durable log against without any, by how much one commit holds.

The path of a batch within an evaluator: its hits are read and evaluated, entry and transitions committed, membership
shown. One worker, without Ray: 100 audiences, 100 k users, every event with a message id, batches as the edge sends at
most (8,192 events), as many to a commit as wait while the one before goes on. The same batches go to a worker whose log
keeps nothing and to one with a SQLite file, some commits each in turn, and to one on Kafka where USHER_BENCH_LOG names
it (`kafka://…`). Medians of the rounds; all must come to the same transitions and members, and the log must hold what
was taken, whole.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import xxhash

from actors.evaluator.stimuli import Append, Tick
from actors.evaluator.worker import EvaluatorWorker
from benchmarks.bench_publish import RETAINED_ROWS, event_texts, first_publication, request
from benchmarks.bench_recovery import members_digest
from benchmarks.cases import Step
from benchmarks.results import CaseResult, Check, Figure, Line, LinePlot, equal
from benchmarks.workloads import Workload, engine_workload
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.errors import InternalError
from cluster.log.contract import Log
from cluster.log.ends import End
from cluster.log.opening import open_log
from cluster.log.records import LASTING_KINDS, NO_META, Entry, EntryKind, LastingKind, TransitionBlock
from cluster.log.settings import LogSettings

SHARE_TARGET: Final = 0.8
#: Batches that one commit holds.
GROUPS, GROUPS_QUICK = (1, 2, 4, 8), (1, 4)
#: What the figure with the target is of: half of the calls that one edge keeps under way.
HEADLINE_GROUP: Final = 4
ROUNDS, ROUNDS_QUICK = 5, 2
#: Commits that each way takes before it is the next one's turn.
COMMITS_A_TURN: Final = 4
EVENTS, EVENTS_QUICK = 1_048_576, 65_536
USERS, USERS_QUICK = 100_000, 10_000
_PARTITIONS: Final = tuple(range(64))
_MORE_LOG: Final = "USHER_BENCH_LOG"


class NoLog:
    """A log that keeps nothing but where it would end, and what it is asked for at the start: no work of a log's."""

    def __init__(self) -> None:
        self._end = End()
        self._meta: dict[str, bytes] = {}
        self._lasting: dict[tuple[str, str], Entry] = {}

    def commit(
        self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock], meta: Mapping[str, bytes] = NO_META
    ) -> None:
        """Note the end."""
        self._end = self._end.after(entries, transitions, "no log")
        self._meta.update(meta)
        self._lasting.update({(e.kind, e.subject): e for e in entries if e.kind in LASTING_KINDS})

    def limit(self, size_bytes_max: int | None) -> None:
        """Have no bound."""

    def require_room(self, batch_bytes: int) -> None:
        """Have room."""

    def last_seq(self) -> int:
        """Give the newest entry's number."""
        return self._end.seq

    def last_clock_ms(self) -> int | None:
        """Give the newest entry's clock."""
        return self._end.clock_ms

    def last_transition_seq(self) -> int:
        """Give the newest transition's number."""
        return self._end.transition_seq

    def entries(
        self, after_seq: int = 0, kinds: Sequence[EntryKind] | None = None, from_clock_ms: int | None = None
    ) -> Iterator[Entry]:
        """Give none."""
        return iter(())

    def newest(self, kind: LastingKind) -> list[Entry]:
        """Give the newest of each subject."""
        return [entry for entry in self._lasting.values() if entry.kind == kind]

    def transitions_after(self, seq: int, limit: int) -> list[TransitionBlock]:
        """Give none."""
        return []

    def meta(self, key: str) -> bytes | None:
        """Give a value."""
        return self._meta.get(key)

    def trim(self, before_clock_ms: int, size_bytes: int | None = None) -> int:
        """Drop nothing."""
        return 0

    @property
    def archives_transitions(self) -> bool:
        """See `Log.archives_transitions`."""
        return False

    def trim_transitions(self, through_seq: int) -> int:
        """Drop nothing."""
        return 0

    def first_clock_ms(self) -> int | None:
        """Give none."""
        return None

    def size_bytes(self) -> int:
        """Give 0."""
        return 0

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its seconds, and what it came to. `logged`: a digest of the batches that the log then held, if any."""

    seconds: float
    accepted: int
    transitions: int
    changes: str
    members: str
    logged: str
    log_bytes: int


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure each way at each size of a commit, in turn; some minutes, 2 GB on the disk."""
    events, users = (EVENTS_QUICK, USERS_QUICK) if quick else (EVENTS, USERS)
    groups, rounds = (GROUPS_QUICK, ROUNDS_QUICK) if quick else (GROUPS, ROUNDS)
    workload = engine_workload(users=users, events=events)
    step("making the batches")
    runner = _Runner(workload)
    ways = {"without a log": "", "SQLite": "sqlite"}
    if other := os.environ.get(_MORE_LOG):
        ways["Kafka"] = other
    found: dict[tuple[str, int], list[Run]] = {}
    for number in range(rounds + 1):
        for group in groups:
            step(f"round {number} of {rounds}: {group} batch(es) a commit")
            runs = runner.round(ways, group)
            if number:  # the first compiles, and touches memory and disk
                for name, run in runs.items():
                    found.setdefault((name, group), []).append(run)
    return _result(found, list(ways), groups, events, runner.sent)


@dataclass(slots=True)
class _Lane:
    """A worker on a log of its own, and what it came to so far."""

    where: str
    folder: Path
    clock: ManualClock
    worker: EvaluatorWorker
    seconds: float = 0.0
    changes: Any = field(default_factory=xxhash.xxh3_64)

    def take(self, commits: Sequence[Sequence[tuple[int, Append]]]) -> None:
        """Take batches, timed."""
        for part in commits:
            self.clock.advance(max(0, part[-1][0] - self.clock.now_ms()))
            began = time.perf_counter()
            replies = self.worker.process([batch for _, batch in part])
            self.seconds += time.perf_counter() - began
            if refused := [reply for reply in replies if "error" in reply]:
                raise InternalError(str(refused[0]["message"]))
            for block in self.worker.fresh:
                self.changes.update(block.payload)


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]


class _Runner:
    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._published: Published = publish(None, parse_document(workload.document, "<benchmark>", {}))
        decoder = Decoder(EventPlan(self._published.definitions))
        self._batches: list[tuple[int, Append]] = []
        digest = xxhash.xxh3_64()
        for start in range(0, len(workload), RETAINED_ROWS):
            count = min(RETAINED_ROWS, len(workload) - start)
            made = request(event_texts(workload, start, count), self._published.version, decoder)
            digest.update(made.envelope)
            self._batches.append((int(workload.clocks[start]), made))
        #: A digest of all that is sent.
        self.sent: str = digest.hexdigest()
        self._number = 0

    def round(self, ways: Mapping[str, str], group: int) -> dict[str, Run]:
        """Have each way take all batches once, `group` to a commit: some commits, then the next way's turn.

        So what else the machine does falls on all of them alike.
        """
        self._number += 1
        with TemporaryDirectory(prefix="usher-bench-") as name:
            lanes = {way: self._lane(way, where, Path(name) / way) for way, where in ways.items()}
            commits = [self._batches[start : start + group] for start in range(0, len(self._batches), group)]
            for start in range(0, len(commits), COMMITS_A_TURN):
                for way in _rotated(list(lanes), start // COMMITS_A_TURN):
                    lanes[way].take(commits[start : start + COMMITS_A_TURN])
            return {way: self._ended(lane) for way, lane in lanes.items()}

    def _lane(self, way: str, where: str, folder: Path) -> _Lane:
        folder.mkdir()
        log = self._log(where, folder, 1)
        clock = ManualClock(int(self._workload.clocks[0]))
        worker = EvaluatorWorker(log, folder / "membership", _PARTITIONS, seed=7, now_ms=clock.now_ms)
        first_publication(worker, self._published, folder, self._workload)
        return _Lane(where, folder, clock, worker)

    def _ended(self, lane: _Lane) -> Run:
        worker = lane.worker
        worker.process([Tick()])
        assert worker.machine is not None
        members = members_digest(worker.machine)
        accepted, transitions = worker.counts["accepted"], worker.log.last_transition_seq()
        worker.log.close()
        logged, size = self._logged(lane.where, lane.folder)
        return Run(lane.seconds, accepted, transitions, lane.changes.hexdigest(), members, logged, size)

    def _log(self, where: str, folder: Path, epoch: int) -> Log:
        if not where:
            return NoLog()
        uri = "" if where == "sqlite" else where
        name = f"bench-{os.getpid()}-{self._number}"
        return open_log(LogSettings(uri), name, folder / "e.db", folder / "e.cache.db", owner_epoch=epoch)

    def _logged(self, where: str, folder: Path) -> tuple[str, int]:
        """Open the log anew, as after a crash; give a digest of the batches in it, and its size."""
        if not where:
            return "", 0
        log = self._log(where, folder, 2)
        digest = xxhash.xxh3_64()
        for entry in log.entries(kinds=("batch",)):
            digest.update(entry.payload)
        size = log.size_bytes()
        log.close()
        return digest.hexdigest(), size


def _result(
    found: dict[tuple[str, int], list[Run]], ways: list[str], groups: Sequence[int], events: int, sent: str
) -> CaseResult:
    rates = {key: events / statistics.median(run.seconds for run in runs) for key, runs in found.items()}
    shares = {
        (way, group): round(statistics.median(
            without.seconds / run.seconds for without, run in zip(found[ways[0], group], found[way, group], strict=True)
        ), 3)
        for way in ways for group in groups
    }  # fmt: skip
    figures = []
    for way in ways[1:]:
        for group in groups:
            target = SHARE_TARGET if way == "SQLite" and group == HEADLINE_GROUP else None
            share = shares[way, group]
            name = f"{way}: events/s of those without a log, {group} batch(es) of {RETAINED_ROWS:,} a commit"
            figures.append(Figure(name, share, "times", target))
    for way in ways:
        figures += [Figure(f"{way}, {g} batch(es) a commit", round(rates[way, g]), "events/s") for g in groups]
    durable = [run for (way, _), runs in found.items() if way != ways[0] for run in runs]
    figures.append(Figure("log", round(durable[0].log_bytes / events, 1), "bytes/event", better="lower"))
    return CaseResult(
        case="log",
        figures=figures,
        checks=[*_checks(found, ways, groups, events), *(
            [equal("every log holds all that was sent, after it was opened anew", {r.logged for r in durable}, {sent})]
        )],
        notes={"events": events, "rounds": len(next(iter(found.values()))), "seconds": {
            f"{way}, {group}": [round(run.seconds, 3) for run in runs] for (way, group), runs in found.items()
        }},
        plots=[_plot(rates, shares, ways, groups)] if len(groups) > 2 else [],
    )  # fmt: skip


def _checks(
    found: dict[tuple[str, int], list[Run]], ways: list[str], groups: Sequence[int], events: int
) -> list[Check]:
    checks = [equal("every event was accepted, in every run",
                    {run.accepted for runs in found.values() for run in runs}, {events})]  # fmt: skip
    for group in groups:
        outcomes = {
            (run.transitions, run.changes, run.members) for way in ways for run in found[way, group]
        }
        same = len(outcomes) == 1
        checks.append(Check(f"{group} batch(es) a commit: the same transitions and members with and without", same))
    return checks


def _plot(
    rates: Mapping[tuple[str, int], float], shares: Mapping[tuple[str, int], float], ways: list[str],
    groups: Sequence[int],
) -> LinePlot:
    events = [float(group * RETAINED_ROWS) for group in groups]
    return LinePlot(
        "log", "Evaluation with and without a durable log", "events a commit", "events/s",
        [Line(way, events, [rates[way, group] for group in groups]) for way in ways],
        right_label="of those without",
        right=[Line(f"{way}, share", events, [shares[way, group] for group in groups]) for way in ways[1:]],
    )  # fmt: skip
