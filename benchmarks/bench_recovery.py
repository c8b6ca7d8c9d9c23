"""`recovery`: how long an evaluator takes to come back, by users, and what a checkpoint costs events meanwhile.

One evaluator's worker over a real log, without Ray: 100 audiences, users with traits and windows, message ids. A
checkpoint is taken among live batches; then events are logged that nobody evaluates, and a fresh process recovers, as
one does that Ray started again: from the checkpoint alone, from it and the events since, from the log alone. What it
comes back to is compared between the two ways. Sketch for a million users of 1 KB and 5 M events: reading and
unpacking 1 GB 1 s, decoding 1.2 µs an event beside feeding windows 0.8 µs, everybody's truth anew 1.3 µs a user,
membership files 1 µs a user.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
import xxhash

from actors.evaluator.checkpointing.checkpointer import Checkpointer, log_id, stand_back
from actors.evaluator.key_table import KEYS_A_STEP
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.recovery import COUNTS
from actors.evaluator.stimuli import TakeCheckpoint
from actors.evaluator.worker import EvaluatorWorker
from benchmarks.bench_publish import RETAINED_ROWS, Live, event_texts, first_publication, request, requests
from benchmarks.cases import Step
from benchmarks.results import CaseResult, Check, Figure, Line, LinePlot
from benchmarks.workloads import Workload, engine_workload
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.checkpoints.settings import CheckpointSettings
from cluster.checkpoints.store import CheckpointStore
from cluster.clock import ManualClock
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.log.records import Entry
from cluster.log.sqlite import EvaluatorLog
from cluster.wire.envelope import envelope_of, pack

USERS, USERS_QUICK = (100_000, 300_000, 1_000_000), (5_000,)
#: Events logged since the checkpoint.
SINCE, SINCE_QUICK = 5_000_000, 20_000
#: In so many seconds: as long as windows are, so that most of the events still count at the end.
SINCE_S: Final = 300
RECOVERY_TARGET_S: Final = 10.0
PAUSE_TARGET_MS: Final = 50.0
#: Live batches timed without a checkpoint.
_BATCHES, _BATCHES_QUICK = 150, 20
_PARTITIONS: Final = tuple(range(64))
_EVALUATOR: Final = "evaluator-0"
_NATIVE: Final = 0


@dataclass(frozen=True, slots=True)
class Size:
    """What one number of users came to. Seconds are of whole recoveries, in fresh processes."""

    users: int
    state_bytes: int
    checkpoint_bytes: int
    pause_ms: float
    write_s: float
    added_ms: float
    restore_s: float
    recovery_s: float
    log_alone_s: float
    rss_bytes: int
    same: bool
    from_checkpoint: bool

    @property
    def pause_per_100k_ms(self) -> float:
        """What evaluation waits for a copy."""
        return self.pause_ms / self.users * 100_000


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure each number of users; up to 8 GB and some minutes."""
    since = SINCE_QUICK if quick else SINCE
    sizes = [_size(users, since, quick, step) for users in (USERS_QUICK if quick else USERS)]
    largest = sizes[-1]
    return CaseResult(
        case="recovery",
        figures=[
            *(
                Figure(f"recovery of {size.users:,} users and {since:,} events since the checkpoint", size.recovery_s,
                       "s", None if quick or size is not largest else RECOVERY_TARGET_S, "lower")
                for size in sizes
            ),
            *(Figure(f"recovery of {size.users:,} users, no event since", size.restore_s, "s", None, "lower")
              for size in sizes),
            *(Figure(f"recovery of {size.users:,} users from the log alone", size.log_alone_s, "s", None, "lower")
              for size in sizes),
            *(Figure(f"pause for a checkpoint of {size.users:,} users, per 100,000", round(size.pause_per_100k_ms, 2),
                     "ms", PAUSE_TARGET_MS, "lower") for size in sizes),
            Figure("added to the longest live batch by a checkpoint", largest.added_ms, "ms", None, "lower"),
            Figure("checkpoint, written", largest.write_s, "s", None, "lower"),
            Figure("checkpoint, size", round(largest.checkpoint_bytes / largest.users), "bytes/user", None, "lower"),
            Figure("state", round(largest.state_bytes / largest.users), "bytes/user", None, "lower"),
        ],
        checks=[
            *(Check(f"{size.users:,} users: recovered from the checkpoint", size.from_checkpoint) for size in sizes),
            *(Check(f"{size.users:,} users: the same members with and without the checkpoint", size.same)
              for size in sizes),
        ],
        notes={"events_since": since, "audiences": 100, "peak_rss_bytes": [size.rss_bytes for size in sizes]},
        plots=[_plot(sizes, since)] if len(sizes) > 1 else [],
    )  # fmt: skip


def _plot(sizes: list[Size], since: int) -> LinePlot:
    users = [float(size.users) for size in sizes]
    ways = {
        f"checkpoint and {since:,} events": [size.recovery_s for size in sizes],
        "checkpoint alone": [size.restore_s for size in sizes],
        "log alone": [size.log_alone_s for size in sizes],
    }
    return LinePlot(
        "recovery", "Time to recover", "users", "seconds", [Line(name, users, y) for name, y in ways.items()],
        limit=RECOVERY_TARGET_S, limit_name="target",
    )  # fmt: skip


# --- one size ----------------------------------------------------------------------------------------


def _size(users: int, since: int, quick: bool, step: Step) -> Size:
    rate = max(1, since // SINCE_S)
    workload = engine_workload(users=users, events=users + since, events_per_second=rate)
    with TemporaryDirectory(prefix="usher-bench-") as name:
        folder = Path(name)
        step(f"{users:,} users: filling an evaluator")
        filled = _Filled(folder, workload, users)
        step(f"{users:,} users: live batches, then a checkpoint among them")
        live, added_ms = filled.checkpoint(_BATCHES_QUICK if quick else _BATCHES)
        newest = live["newest"]
        state_bytes = filled.state_bytes()
        filled.close()
        step(f"{users:,} users: recovering from the checkpoint alone")
        restored = _recovered(folder, 2)
        step(f"{users:,} users: logging {since:,} events, recovering")
        _log_events(folder, workload, users)
        recovered = _recovered(folder, 4)
        step(f"{users:,} users: recovering from the log alone")
        alone = _recovered(folder, 5, checkpoints=False)
        return Size(
            users=users,
            state_bytes=state_bytes,
            checkpoint_bytes=newest["bytes"],
            pause_ms=newest["pause_ms"],
            write_s=newest["write_ms"] / 1000,
            added_ms=added_ms,
            restore_s=restored["seconds"],
            recovery_s=recovered["seconds"],
            log_alone_s=alone["seconds"],
            rss_bytes=recovered["rss_bytes"],
            same=recovered["members"] == alone["members"],
            from_checkpoint=recovered["checkpoint_seq"] > 0 and (restored["events"], recovered["events"]) == (0, since),
        )


def _worker(folder: Path, clock: ManualClock, epoch: int, *, checkpoints: bool = True) -> EvaluatorWorker:
    log = EvaluatorLog.open(folder / "evaluator-0.db", owner_epoch=epoch)
    store = CheckpointStore(str(folder / ("checkpoints" if checkpoints else "none")), _EVALUATOR, log_id(log))
    return EvaluatorWorker(
        log, folder / "membership", _PARTITIONS, seed=epoch, now_ms=clock.now_ms,
        checkpoints=Checkpointer(store, CheckpointSettings(), log, _PARTITIONS),
    )  # fmt: skip


class _Filled:
    """A worker that has evaluated one event a user, and can be timed."""

    def __init__(self, folder: Path, workload: Workload, events: int) -> None:
        published = publish(None, parse_document(workload.document, "<benchmark>", {}))
        self._clock = ManualClock(int(workload.clocks[0]))
        self._worker = _worker(folder, self._clock, 1)
        first_publication(self._worker, published, folder, workload)
        decoder = Decoder(EventPlan(published.definitions))
        for start in range(0, events, RETAINED_ROWS):
            count = min(RETAINED_ROWS, events - start)
            self._clock.advance(max(0, int(workload.clocks[start]) - self._clock.now_ms()))
            self._worker.process([request(event_texts(workload, start, count), published.version, decoder)])
        self._requests = requests(workload, published.version, decoder, 20)

    def checkpoint(self, batches: int) -> tuple[dict[str, Any], float]:
        """Take a checkpoint among live batches; gives its status, and what it added to the longest batch, in ms."""
        live = Live(self._worker, self._clock, self._requests)
        live.run(lambda done: done < batches // 5)
        alone = live.run(lambda done: done < batches)
        checkpointer = self._worker.checkpoints
        assert checkpointer is not None
        assert self._worker.machine is not None
        making = _Beside(checkpointer.make_room, self._worker.machine)
        before = live.run(lambda done: making.goes_on())
        copied_ms, reply = live.timed(TakeCheckpoint())
        writing = _Beside(checkpointer.write, reply["taken"])
        beside = live.run(lambda done: writing.goes_on())
        longest = float(max(copied_ms, before["max_ms"], beside["max_ms"]))
        measured = checkpointer.status()
        # Another one with nothing after it: what a recovery of so many users alone takes.
        checkpointer.make_room(self._worker.machine)
        checkpointer.write(live.timed(TakeCheckpoint())[1]["taken"])
        return measured, round(max(0.0, longest - float(alone["max_ms"])), 1)

    def state_bytes(self) -> int:
        assert self._worker.machine is not None
        return self._worker.machine.counters()["state_bytes"]

    def close(self) -> None:
        self._worker.log.close()


class _Beside:
    """Something on a thread that stands back, as checkpoints are made."""

    def __init__(self, function: Any, *args: Any) -> None:
        def run() -> None:
            stand_back()
            function(*args)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def goes_on(self) -> bool:
        return self._thread.is_alive()


def _log_events(folder: Path, workload: Workload, first: int) -> None:
    """Log the workload's events from `first` on, as an evaluator does, and evaluate nothing."""
    log = EvaluatorLog.open(folder / "evaluator-0.db", owner_epoch=3)
    counts = msgspec.json.decode(log.meta(COUNTS) or b"{}", type=dict[str, int])
    clock = log.last_clock_ms() or 0
    for start in range(first, len(workload), RETAINED_ROWS):
        count = min(RETAINED_ROWS, len(workload) - start)
        clock = max(clock, int(workload.clocks[start]))
        payload = pack(envelope_of(event_texts(workload, start, count), _NATIVE))
        counts["accepted"] += count
        meta = {COUNTS: msgspec.json.encode(counts)}
        log.commit([Entry(log.last_seq() + 1, clock, "batch", 1, count, payload)], [], meta)
    log.close()


# --- in a fresh process ------------------------------------------------------------------------------


def _recovered(folder: Path, epoch: int, *, checkpoints: bool = True) -> dict[str, Any]:
    """Recover in a process of its own; gives what it says."""
    way = "checkpoints" if checkpoints else "log"
    command = [sys.executable, "-m", "benchmarks.bench_recovery", str(folder), str(epoch), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def recover_here(folder: Path, epoch: int, *, checkpoints: bool) -> dict[str, Any]:
    """Recover as a starting evaluator does once its code is loaded; membership is shown at the end."""
    import asyncio

    from cluster.runtime.warming import warm_up

    asyncio.run(warm_up())
    began = time.perf_counter()
    worker = _worker(folder, ManualClock(0), epoch, checkpoints=checkpoints)
    seconds = time.perf_counter() - began
    assert worker.machine is not None
    assert worker.checkpoints is not None
    recovered = worker.checkpoints.status()["recovered"]
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": round(seconds, 2), "rss_bytes": peak_kib * 1024, "members": members_digest(worker.machine),
        "sizes": worker.sizes.all(), **recovered,
    }  # fmt: skip


def members_digest(machine: EvaluatorMachine) -> str:
    """Give a digest of who is in what: the same whatever the users' order."""
    total = np.zeros(1, np.uint64)
    for first, stop in _steps(machine.user_count):
        keys, _ = machine.keys_between(first, stop)
        words = machine.membership_rows(np.arange(first, stop, dtype=np.int32))[:, 1:]
        for key, row in zip(keys, words, strict=True):
            total += np.uint64(xxhash.xxh3_64_intdigest(key + row.tobytes()))
    return f"{int(total[0]):016x} of {machine.user_count}"


def _steps(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, KEYS_A_STEP):
        yield first, min(count, first + KEYS_A_STEP)


if __name__ == "__main__":
    print(json.dumps(recover_here(Path(sys.argv[1]), int(sys.argv[2]), checkpoints=sys.argv[3] == "checkpoints")))
