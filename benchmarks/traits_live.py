"""Snapshots beside live events: one evaluator and its loader, `python -m benchmarks.traits_live`, each in a process.

The evaluator is the real shell with its log on disk. Live batches of 500 events are sent every 20 ms, whether or not
the one before is answered: what is measured is how long each waits.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from actors.evaluator.actor import EvaluatorActor
from actors.traits.reading import load_snapshot
from actors.traits.store import SnapshotStore, open_snapshot
from actors.traits.wanted import main_table
from benchmarks.machine import peak_rss_bytes
from benchmarks.results import curve, quantile
from benchmarks.traits_users import definitions, members_expected, write_two_days
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Published
from cluster.definitions.trait_sources import ParquetSource
from cluster.errors import UsherError
from cluster.runtime.data_dir import DataDir
from cluster.runtime.warming import warm_up
from cluster.wire.envelope import envelope_of, pack

LIVE_EVENTS, LIVE_EVERY_MS = 500, 20.0
_LIVE_USERS: Final = 100_000
_CALM_S: Final = 3.0
_PARTITIONS: Final = 64
#: The snapshots that one evaluator takes: their names, and whose day's file each is.
DAYS: Final = (("first", 1), ("next day", 2), ("unchanged", 2))


class Run(msgspec.Struct, frozen=True):
    """What is measured in one process: so many users with so many traits, `tenth` of them in audiences."""

    users: int
    traits: int
    tenth: bool = False


class Loaded(msgspec.Struct, frozen=True):
    """What the loader's process says: seconds by stage, bytes, and where the copy lies."""

    read_s: float
    store_s: float
    rows: int
    table_bytes: int
    peak_bytes: int
    path: str


def load(path: Path, folder: Path, traits: int) -> Loaded:
    """Read, type and store, as the trait loader does."""
    parent = definitions(traits).definitions.parent_models["users"]
    parent = replace(parent, tables=(main_table(parent, ParquetSource(path=str(path))),))
    began = time.perf_counter()
    snapshot, fingerprint = load_snapshot(parent, _PARTITIONS, Path())
    read = time.perf_counter()
    stored = SnapshotStore(folder).write(snapshot, shape="", source="", fingerprint=fingerprint, loaded_at_ms=0)
    done = time.perf_counter()
    return Loaded(
        round(read - began, 3), round(done - read, 3), snapshot.row_count, snapshot.table.nbytes, peak_rss_bytes(),
        str(stored.path),
    )  # fmt: skip


async def load_apart(path: Path, folder: Path, traits: int) -> Loaded:
    """Do so in a process of its own."""
    return msgspec.json.decode(await _apart("load", str(path), str(folder), str(traits)), type=Loaded)


async def _apart(*arguments: str) -> bytes:
    command = [sys.executable, "-m", "benchmarks.traits_live", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        message = f"A process that was to {arguments[0]} ended with {process.returncode}."
        raise UsherError(message)
    return output


@dataclass(slots=True)
class Live:
    """Live batches: when each was due, and how long it waited, in ms."""

    due_ms: list[float]
    waited_ms: list[float]
    failed: int = 0
    stopping: bool = False


async def send(evaluator: EvaluatorActor, requests: list[dict[str, Any]], live: Live) -> None:
    """Send a batch every LIVE_EVERY_MS until told to stop: open loop, late ones count from when they were due."""
    began = time.perf_counter() * 1e3
    sent: set[asyncio.Task[None]] = set()

    async def one(due: float, request: dict[str, Any]) -> None:
        reply = await evaluator.append(request)
        live.due_ms.append(due)
        live.waited_ms.append(time.perf_counter() * 1e3 - due)
        live.failed += "error" in reply

    number = 0
    while not live.stopping:
        due = began + number * LIVE_EVERY_MS
        await asyncio.sleep(max(0.0, due / 1e3 - time.perf_counter()))
        task = asyncio.create_task(one(due, requests[number % len(requests)]))
        sent.add(task)
        task.add_done_callback(sent.discard)
        number += 1
    await asyncio.gather(*sent)


def live_requests(published: Published, users: int, count: int = 100) -> list[dict[str, Any]]:
    """Make batches of events of random users, as an edge sends them."""
    decoder, rng = Decoder(EventPlan(published.definitions)), np.random.default_rng(5)
    made = []
    for _ in range(count):
        events = [
            json.dumps({"type": "track", "event": "event_0", "user_id": f"user_{user}"}).encode()
            for user in rng.integers(0, min(users, _LIVE_USERS), LIVE_EVENTS)
        ]
        envelope = envelope_of(events, 0)
        hits = decoder.decode(envelope).hits
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, hits.schema) as writer:
            writer.write_batch(hits)
        made.append({"version": 1, "rows": LIVE_EVENTS, "envelope": pack(envelope),
                     "hits": sink.getvalue().to_pybytes()})  # fmt: skip
    return made


class Taken(msgspec.Struct, frozen=True):
    """One snapshot: what the loader says, seconds until the evaluator has it, ms that live batches waited meanwhile.

    `checkpoint_pause_ms`: how long the evaluator stood still for its newest checkpoint, None: none was taken.
    """

    name: str
    loaded: Loaded
    take_s: float
    transitions: int
    longest_wait_ms: float
    p99_wait_ms: float
    waits: list[float]
    checkpoint_pause_ms: float | None = None

    @property
    def total_s(self) -> float:
        """From the file to the last transition."""
        return self.loaded.read_s + self.loaded.store_s + self.take_s


class Measured(msgspec.Struct, frozen=True):
    """A run. `evaluator_bytes`: the most memory that it had beyond what it began with; `wrong`: users of a sample."""

    run: Run
    taken: list[Taken]
    calm_longest_ms: float
    calm_p99_ms: float
    failed: int
    wrong: int
    users: int
    versions: dict[str, int]
    evaluator_bytes: int


async def measure_apart(run: Run) -> Measured:
    """Measure in a process of its own, whose memory is its own."""
    return msgspec.json.decode(await _apart("run", msgspec.json.encode(run).decode()), type=Measured)


async def measure_here(run: Run) -> Measured:
    """Measure in this process."""
    with tempfile.TemporaryDirectory(prefix="usher-bench-") as name:
        folder = Path(name)
        write_two_days(folder, run.users, run.traits)
        await warm_up()
        published = definitions(run.traits, tenth=run.tenth)
        before_bytes = peak_rss_bytes()
        with DataDir(folder / "data").open() as owned:
            evaluator = EvaluatorActor(0, str(folder / "data"), owned.epoch, tuple(range(_PARTITIONS)))
            await evaluator.start(published)
            live = Live([], [])
            sender = asyncio.create_task(send(evaluator, live_requests(published, run.users), live))
            await asyncio.sleep(_CALM_S)
            calm_ms = np.array(live.waited_ms[len(live.waited_ms) // 3 :])
            taken = [await _take(evaluator, run, day, folder, live) for day in range(len(DAYS))]
            live.stopping = True
            await sender
            status = await evaluator.status()
            wrong = await _wrong(evaluator, run, Path(taken[-1].loaded.path))
            await evaluator.drain()
    return Measured(
        run, taken, _ms(calm_ms.max()), _ms(quantile(calm_ms, 0.99)), live.failed, wrong, status["users"],
        status["traits"], peak_rss_bytes() - before_bytes,
    )  # fmt: skip


def _ms(value: float | None) -> float:
    return round(float(value or 0), 1)


async def _take(evaluator: EvaluatorActor, run: Run, day: int, folder: Path, live: Live) -> Taken:
    name, file = DAYS[day]
    began = time.perf_counter()
    loaded = await load_apart(folder / f"{file}.parquet", folder / f"stored-{day}", run.traits)
    before = (await evaluator.status())["seq"]
    taking = time.perf_counter()
    table = open_snapshot(Path(loaded.path))
    while "error" in (reply := await evaluator.apply_traits("users", day + 1, [table], loaded.path)):
        if reply["error"] != "not_ready":
            raise UsherError(str(reply["message"]))
        await asyncio.sleep(0.05)
    done = time.perf_counter()
    await asyncio.sleep(0.5)
    waits = [ms for due, ms in zip(live.due_ms, live.waited_ms, strict=True) if began * 1e3 <= due]
    status = await evaluator.status()
    newest = (status["checkpoints"] or {}).get("newest") or {}
    return Taken(
        name, loaded, round(done - taking, 3), status["seq"] - before, _ms(max(waits)), _ms(quantile(waits, 0.99)),
        curve(np.array(waits)), newest.get("pause_ms"),
    )  # fmt: skip


async def _wrong(evaluator: EvaluatorActor, run: Run, path: Path) -> int:
    """Count the users of a sample who are not where the newest snapshot says."""
    table = open_snapshot(path)
    rows = np.random.default_rng(11).integers(0, table.num_rows, 200)
    sample = table.take(pa.array(rows)).to_pylist()
    audiences = [f"a{place}" for place in range(10)]
    reply = await evaluator.lookup("users", [row["key"] for row in sample], audiences, False)
    return sum(
        members != members_expected(row, tenth=run.tenth)
        for row, members in zip(sample, reply["members"], strict=True)
    )


def main() -> None:
    """Load a file in this process, or measure a run, and say how that went."""
    what, *arguments = sys.argv[1:]
    if what == "load":
        path, folder, traits = arguments
        said: Any = load(Path(path), Path(folder), int(traits))
    else:
        said = asyncio.run(measure_here(msgspec.json.decode(arguments[0], type=Run)))
    sys.stdout.buffer.write(msgspec.json.encode(said))


if __name__ == "__main__":
    main()
