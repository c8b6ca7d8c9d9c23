"""`traits`: a snapshot of 5 M users with 8 traits, read from Parquet, typed, stored and taken, beside live events.

The loader is a process of its own (`python -m benchmarks.bench_traits`), as in a cluster; the evaluator is the real
shell with its log on disk. Live batches of 500 events are sent every 20 ms, whether or not the one before is answered:
what is measured is how long each waits. Three snapshots come: the first (every user is new), the next day's (a
twentieth of the users have changed traits, a hundredth are new, a hundredth are gone), and one without any change.
Sketch: reading and typing are 1 µs a user, preparing (truths of conditions, in Arrow) 0.4 µs; the evaluating thread
has 0.2 µs a user and about 1 µs a transition, cut into parts of 20 ms.
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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.evaluator.actor import EvaluatorActor
from actors.traits.reading import load_snapshot
from actors.traits.store import SnapshotStore, open_snapshot
from actors.traits.wanted import main_table
from benchmarks.cases import Step
from benchmarks.core import event_model, published_of
from benchmarks.machine import peak_rss_bytes
from benchmarks.results import CaseResult, Check, Figure, curve, quantile
from benchmarks.workloads import user_keys
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Published
from cluster.definitions.trait_sources import ParquetSource
from cluster.errors import UsherError
from cluster.runtime.data_dir import DataDir
from cluster.runtime.warming import warm_up
from cluster.wire.envelope import envelope_of, pack

USERS, USERS_QUICK = 5_000_000, 40_000
MANY_USERS, MANY_USERS_QUICK, MANY_TRAITS = 10_000_000, 50_000, 10
SECONDS_TARGET: Final = 20.0
DELAY_MS_TARGET: Final = 100.0
LIVE_EVENTS, LIVE_EVERY_MS = 500, 20.0
#: Of so many users one has changed traits, is new, is gone.
_CHANGED_EVERY, _NEW_EVERY, _GONE_EVERY = 20, 100, 100
_LIVE_USERS: Final = 100_000
_CALM_S: Final = 3.0
_WRITE_ROWS: Final = 500_000
_PARTITIONS: Final = 64
#: 2026-11-30T00:00:00Z: what "30 days ago" is counted from in the data.
_NOW_S: Final = 1_795_996_800
TRAITS: Final[dict[str, str]] = {
    "ltv": "number", "orders": "number", "tier": "string", "country": "string", "last_seen": "timestamp",
    "opted_in": "boolean", "interests": "list", "email": "string",
}  # fmt: skip
_TIERS: Final = ("bronze", "silver", "gold", "platinum")
_COUNTRIES: Final = tuple(f"C{number:03}" for number in range(200))
_INTERESTS: Final = tuple(f"interest_{number}" for number in range(50))


def definitions(traits: int = len(TRAITS)) -> Published:
    """Give 20 audiences over the traits; beyond the eight, more numbers that no audience reads."""
    columns = {**TRAITS, **{f"score_{number}": "number" for number in range(traits - len(TRAITS))}}
    parent = {"id": "users", "primary_key": "user_id", "traits": {
        "columns": {name: {"type": kind} for name, kind in columns.items()}}}  # fmt: skip
    quiet = {"not": {"event": "e0", "within": "5m"}}
    wheres = [
        *({"trait": "ltv", "gt": 60 * step} for step in range(6)), *({"trait": "tier", "eq": tier} for tier in _TIERS),
        {"trait": "country", "in": list(_COUNTRIES[:20])}, {"trait": "opted_in", "eq": True},
        {"trait": "interests", "has_any": list(_INTERESTS[:3])}, {"trait": "orders", "gte": 10},
        {"trait": "email", "ends_with": "9@example.com"}, {"trait": "last_seen", "within_last": "30d"},
        *({"all": [{"trait": "ltv", "between": [low, low + 100]}, quiet]} for low in (0, 100, 200, 300)),
    ]  # fmt: skip
    audiences = [{"id": f"a{place}", "parent": "users", "where": where} for place, where in enumerate(wheres)]
    return published_of({
        "version": 1, "parent_models": [parent], "event_models": [event_model(0, {})], "audiences": audiences,
    })  # fmt: skip


def write_users(path: Path, numbers: np.ndarray, changed: np.ndarray, traits: int = len(TRAITS)) -> None:
    """Write users by number; those in `changed` (a mask by number) have other values than before."""
    writer: Any = None
    for start in range(0, len(numbers), _WRITE_ROWS):
        rows = _rows(numbers[start : start + _WRITE_ROWS], changed, traits)
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    writer.close()


def _rows(numbers: np.ndarray, changed: np.ndarray, traits: int) -> pa.Table:
    """Give rows whose values are a hash of the number, and of whether it has changed."""
    seeds = numbers.astype(np.uint64) * np.uint64(2) + changed[numbers].astype(np.uint64)

    def drawn(salt: int, most: int) -> np.ndarray:
        mixed = (seeds + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        spread = (mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(40)
        return np.asarray(spread.astype(np.int64) % most)

    keys = user_keys(numbers)
    lists = pa.array(np.arange(0, 2 * len(numbers) + 1, 2, dtype=np.int32))
    interests = pa.array(np.stack([drawn(7, 50), drawn(8, 50)], axis=1).reshape(-1))
    columns = {
        "user_id": keys,
        "ltv": pa.array(drawn(1, 60_000) / 100.0),
        "orders": pa.array(drawn(2, 50)),
        "tier": pa.array(_TIERS).take(pa.array(drawn(3, len(_TIERS)))),
        "country": pa.array(_COUNTRIES).take(pa.array(drawn(4, len(_COUNTRIES)))),
        "last_seen": pa.array((_NOW_S - drawn(5, 90 * 86_400)) * 1_000_000, pa.timestamp("us", "UTC")),
        "opted_in": pa.array(drawn(6, 2) == 1),
        "interests": pa.ListArray.from_arrays(lists, pa.array(_INTERESTS).take(interests)),
        "email": pc.binary_join_element_wise(keys, pa.scalar("@example.com"), ""),
    }
    extra = {f"score_{number}": pa.array(drawn(20 + number, 1_000) / 10.0) for number in range(traits - len(TRAITS))}
    return pa.table({**columns, **extra})


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


async def load_apart(path: Path, folder: Path, traits: int = len(TRAITS)) -> Loaded:
    """Do so in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_traits", str(path), str(folder), str(traits)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        message = f"The loader ended with {process.returncode}."
        raise UsherError(message)
    return msgspec.json.decode(output, type=Loaded)


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


@dataclass(frozen=True, slots=True)
class Taken:
    """One snapshot: what the loader says, seconds until the evaluator has it, ms that live batches waited meanwhile."""

    name: str
    loaded: Loaded
    take_s: float
    waited_ms: np.ndarray
    transitions: int

    @property
    def total_s(self) -> float:
        """From the file to the last transition."""
        return self.loaded.read_s + self.loaded.store_s + self.take_s


def measure(quick: bool, step: Step) -> CaseResult:
    """Measure three snapshots beside live events, and a larger one's load alone."""
    users, many = (USERS_QUICK, MANY_USERS_QUICK) if quick else (USERS, MANY_USERS)
    with tempfile.TemporaryDirectory(prefix="usher-bench-") as folder:
        return asyncio.run(_measure(Path(folder), users, many, step))


async def _measure(folder: Path, users: int, many: int, step: Step) -> CaseResult:
    step(f"writing {users:,} users, twice")
    numbers, new = np.arange(users), np.arange(users, users + users // _NEW_EVERY)
    changed = np.zeros(users + len(new), np.bool_)
    write_users(folder / "1.parquet", numbers, changed)
    kept = numbers[numbers % _GONE_EVERY != 1]
    changed[kept[::_CHANGED_EVERY]] = True
    write_users(folder / "2.parquet", np.concatenate([kept, new]), changed)
    step("starting an evaluator")
    await warm_up()
    published = definitions()
    evaluator_rss = peak_rss_bytes()
    taken: list[Taken] = []
    with DataDir(folder / "data").open() as owned:
        evaluator = EvaluatorActor(0, str(folder / "data"), owned.epoch, tuple(range(_PARTITIONS)))
        await evaluator.start(published)
        live = Live([], [])
        sender = asyncio.create_task(send(evaluator, live_requests(published, users), live))
        await asyncio.sleep(_CALM_S)
        calm_ms = np.array(live.waited_ms[len(live.waited_ms) // 3 :])
        for name, file in (("first", "1"), ("next day", "2"), ("unchanged", "2")):
            step(f"the {name} snapshot, with live events")
            taken.append(await _take(evaluator, name, folder / f"{file}.parquet", len(taken) + 1, folder, live))
        live.stopping = True
        await sender
        status = await evaluator.status()
        wrong = await _wrong(evaluator, published, Path(taken[-1].loaded.path))
        await evaluator.drain()
    step(f"loading {many:,} users with {MANY_TRAITS} traits")
    write_users(folder / "many.parquet", np.arange(many), np.zeros(many, np.bool_), MANY_TRAITS)
    larger = await load_apart(folder / "many.parquet", folder / "many", MANY_TRAITS)
    return _result(users, many, taken, larger, live, calm_ms, status, wrong, peak_rss_bytes() - evaluator_rss)


async def _take(evaluator: EvaluatorActor, name: str, path: Path, version: int, folder: Path, live: Live) -> Taken:
    began = time.perf_counter()
    loaded = await load_apart(path, folder / f"stored-{version}")
    before = (await evaluator.status())["seq"]
    taking = time.perf_counter()
    table = open_snapshot(Path(loaded.path))
    while "error" in (reply := await evaluator.apply_traits("users", version, [table], loaded.path)):
        if reply["error"] != "not_ready":
            raise UsherError(str(reply["message"]))
        await asyncio.sleep(0.05)
    done = time.perf_counter()
    await asyncio.sleep(0.5)
    waited = [ms for due, ms in zip(live.due_ms, live.waited_ms, strict=True) if began * 1e3 <= due]
    transitions = (await evaluator.status())["seq"] - before
    return Taken(name, loaded, round(done - taking, 3), np.array(waited), transitions)


async def _wrong(evaluator: EvaluatorActor, published: Published, path: Path) -> int:
    """Count the users of a sample who are not where the newest snapshot says."""
    table = open_snapshot(path)
    rows = np.random.default_rng(11).integers(0, table.num_rows, 200)
    sample = table.take(pa.array(rows)).to_pylist()
    audiences = [f"a{place}" for place in range(10)]
    reply = await evaluator.lookup("users", [row["key"] for row in sample], audiences, False)
    wrong = 0
    for row, members in zip(sample, reply["members"], strict=True):
        expected = [*(row["ltv"] > 60 * place for place in range(6)), *(row["tier"] == tier for tier in _TIERS)]
        wrong += members != expected
    return wrong


def _result(
    users: int, many: int, taken: list[Taken], larger: Loaded, live: Live, calm_ms: np.ndarray,
    status: dict[str, Any], wrong: int, evaluator_bytes: int,
) -> CaseResult:  # fmt: skip
    first, next_day, _ = taken
    longest = max(float(one.waited_ms.max()) for one in taken)
    figures = [
        Figure(f"{users:,} users, 8 traits, next day's: read, diffed and taken", round(next_day.total_s, 1), "s",
               SECONDS_TARGET, "lower"),
        Figure("the first: read, diffed and taken", round(first.total_s, 1), "s", SECONDS_TARGET, "lower"),
        Figure("longest wait of a live batch meanwhile", round(longest, 1), "ms", DELAY_MS_TARGET, "lower"),
        Figure("longest wait of a live batch in calm", round(float(calm_ms.max()), 1), "ms", better="lower"),
        Figure("p99 of a live batch meanwhile", quantile(np.concatenate([one.waited_ms for one in taken]), 0.99), "ms",
               better="lower"),
        Figure(f"{many:,} users, {MANY_TRAITS} traits: read, typed and stored",
               round(larger.read_s + larger.store_s, 1), "s", better="lower"),
        Figure("the same, snapshot", round(larger.table_bytes / many), "bytes/user", better="lower"),
        Figure("the same, most memory of the loader", round(larger.peak_bytes / many), "bytes/user", better="lower"),
        Figure("evaluator, most memory", round(evaluator_bytes / users), "bytes/user", better="lower"),
    ]  # fmt: skip
    gone = users - next_day.loaded.rows + users // _NEW_EVERY
    checks = [
        Check("every snapshot was taken to its end", status["traits"] == {"users": len(taken)}, str(status["traits"])),
        Check("a sample is where the newest snapshot says", wrong == 0, f"{wrong} of 200 users elsewhere"),
        Check("no live batch failed", live.failed == 0, f"{live.failed} failed"),
        Check("users are those of the snapshot", abs(status["users"] - next_day.loaded.rows) <= gone,
              f"{status['users']:,} and {next_day.loaded.rows:,}"),
    ]  # fmt: skip
    notes = {
        one.name: {"read_s": one.loaded.read_s, "store_s": one.loaded.store_s, "take_s": one.take_s,
                   "transitions": one.transitions, "longest_wait_ms": round(float(one.waited_ms.max()), 1),
                   "loader_peak_bytes": one.loaded.peak_bytes}
        for one in taken
    }  # fmt: skip
    curves = {f"live batches, {one.name}": curve(one.waited_ms) for one in taken}
    return CaseResult("traits", figures, checks, curves, {"users": users, "many_users": many, **notes})


def main() -> None:
    """Load a file in this process and say how that went."""
    path, folder, traits = sys.argv[1:]
    sys.stdout.buffer.write(msgspec.json.encode(load(Path(path), Path(folder), int(traits))))


if __name__ == "__main__":
    main()
