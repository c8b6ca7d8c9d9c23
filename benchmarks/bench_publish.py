"""`publish`: what a publication costs while events flow: its backfill's seconds, live batches meanwhile, the switch.

One evaluator's worker over a real log, without Ray: 100 audiences in force, a log full of retained events, live
batches at a steady rate, and one more audience published among them. Batches are timed from hand-over to committed
and shown, once with nothing beside them and once with the backfill on its thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.evaluator.backfill import Backfill
from actors.evaluator.stimuli import Append, Prepare, Publish, Stimulus, TakeTraits
from actors.evaluator.worker import EvaluatorWorker, Reply
from benchmarks.workloads import CHANNELS, START_MS, Workload, engine_workload
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.log.records import Entry
from cluster.log.sqlite import EvaluatorLog
from cluster.wire.envelope import envelope_of, pack

#: Rows of a retained batch, as the edge sends at most, and of a live one.
RETAINED_ROWS: Final = 8_192
LIVE_ROWS: Final = 500
#: A live batch comes so often: 25,000 events/s.
LIVE_EVERY_S: Final = 0.02
#: Live batches timed with nothing beside them, and while the new machine follows; a fifth of them after the switch.
BATCHES: Final = 250
QUICK_BATCHES: Final = 25
_PARTITIONS: Final = tuple(range(64))
_NATIVE: Final = 0


@dataclass
class Live:
    """A worker with live batches at a steady rate. They are made before, and sent round and round."""

    worker: EvaluatorWorker
    clock: ManualClock
    requests: list[Append]
    took_ms: list[float] = field(default_factory=list)

    def batch(self) -> None:
        """Let the next batch's time come, and time it."""
        self.clock.advance(round(LIVE_EVERY_S * 1000))
        self.took_ms.append(self.timed(self.requests[len(self.took_ms) % len(self.requests)])[0])

    def timed(self, stimulus: Stimulus) -> tuple[float, Reply]:
        """Give the ms that a stimulus took, and its answer."""
        began = time.perf_counter()
        [reply] = self.worker.process([stimulus])
        return (time.perf_counter() - began) * 1000, reply

    def run(self, goes_on: Callable[[int], bool]) -> dict[str, float]:
        """Send batches while told to; give p50, p99 and the greatest time, ms."""
        self.took_ms = []
        while goes_on(len(self.took_ms)):
            began = time.perf_counter()
            self.batch()
            time.sleep(max(0.0, LIVE_EVERY_S - (time.perf_counter() - began)))
        p50, p99, worst = np.percentile(self.took_ms, [50, 99, 100]).tolist()
        return {"batches": len(self.took_ms), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2),
                "max_ms": round(worst, 2)}


def requests(workload: Workload, version: int, decoder: Decoder, count: int) -> list[Append]:
    """Give live batches as an edge sends them; their events have no ids, so that none is ever a duplicate."""
    made = []
    for number in range(count):
        texts = event_texts(workload, number * LIVE_ROWS, LIVE_ROWS)
        made.append(request([text.replace(b"message_id", b"other_id") for text in texts], version, decoder))
    return made


def request(texts: list[bytes], version: int, decoder: Decoder) -> Append:
    """Give one batch as an edge sends it."""
    envelope = envelope_of(texts, _NATIVE)
    hits = decoder.decode(envelope).hits
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, hits.schema) as writer:
        writer.write_batch(hits)
    return Append(version, len(texts), pack(envelope), sink.getvalue().to_pybytes())


def event_texts(workload: Workload, first: int, count: int) -> list[bytes]:
    """Give events as native JSON, round and round."""
    rows = [(first + i) % len(workload) for i in range(count)]
    return [
        b'{"type":"track","event":"event_%d","user_id":"user_%d","message_id":"m%d",'
        b'"properties":{"channel":"%s","amount":%d}}'
        % (model, user, first + i, channel.encode(), amount)
        for i, (model, user, channel, amount) in enumerate(
            zip(workload.models[rows].tolist(), workload.users[rows].tolist(),
                [CHANNELS[c] for c in workload.channels[rows].tolist()], workload.amounts[rows].tolist(), strict=True)
        )
    ]  # fmt: skip


def fill_log(log: EvaluatorLog, workload: Workload) -> int:
    """Commit the workload's events as the log of an evaluator that had no definitions; give its last clock."""
    clock = START_MS
    for start in range(0, len(workload), RETAINED_ROWS):
        count = min(RETAINED_ROWS, len(workload) - start)
        clock = int(workload.clocks[start])
        payload = pack(envelope_of(event_texts(workload, start, count), _NATIVE))
        log.commit([Entry(log.last_seq() + 1, clock, "batch", 0, count, payload)], [])
    return clock


def run(
    *, quick: bool = False, events: int | None = None, users: int | None = None, step: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure; `quick`: a small log, for a look at it. Else 5 M events of 1 M users: some minutes, and 8 GB."""
    count = events or (50_000 if quick else 5_000_000)
    people = users or (10_000 if quick else 1_000_000)
    workload = engine_workload(users=people, events=count, audiences=101)
    with TemporaryDirectory(prefix="usher-bench-") as folder:
        return _measure(Path(folder), workload, QUICK_BATCHES if quick else BATCHES, step)


def _measure(folder: Path, workload: Workload, batches: int, step: Callable[[str], None]) -> dict[str, Any]:
    whole = workload.document
    before = publish(None, _parsed({**whole, "audiences": whole["audiences"][:-1]}))
    after = publish(before, _parsed(whole))
    step("filling the log")
    log = EvaluatorLog.open(folder / "evaluator-0.db", owner_epoch=1)
    clock = ManualClock(fill_log(log, workload) + 1)
    step("recovering from it, as an evaluator that starts")
    worker = EvaluatorWorker(log, folder / "membership", _PARTITIONS, seed=7, now_ms=clock.now_ms)
    first = first_publication(worker, before, folder, workload)
    made = requests(workload, before.version, Decoder(EventPlan(before.definitions)), batches)
    live = Live(worker, clock, made)
    live.run(lambda done: done < batches // 10)  # compile, touch
    step("live batches alone")
    alone = live.run(lambda done: done < batches)
    step("live batches beside a backfill")
    live.timed(Prepare(after))
    backfill = worker.backfill
    assert backfill is not None, "the definitions differ"
    took: list[float] = []
    thread = threading.Thread(target=_build_and_follow, args=(backfill, took))
    thread.start()
    beside = live.run(lambda done: done < 10 or not (backfill.ready or backfill.ended))
    following = live.run(lambda done: done < batches)
    step("the switch")
    transitions = log.last_transition_seq()
    switch_ms, reply = live.timed(Publish(after))
    assert "error" not in reply, reply
    live.requests = [replace(request, version=after.version) for request in made]
    afterwards = live.run(lambda done: done < batches // 5)
    thread.join()
    return {
        "events": len(workload), "users": len(workload.user_names), "audiences": len(whole["audiences"]),
        "first_publication_s": round(first, 2), "backfill_s": round(took[0], 2),
        "backfill_events_per_s": round(len(workload) / took[0]),
        "switch_ms": round(switch_ms, 1), "switch_transitions": log.last_transition_seq() - transitions,
        "batches_alone": alone, "batches_beside_the_backfill": beside, "batches_while_it_follows": following,
        "batches_after": afterwards,
    }  # fmt: skip


def first_publication(worker: EvaluatorWorker, published: Published, folder: Path, workload: Workload) -> float:
    """Put the first definitions and the traits in force; give the seconds of the publication."""
    began = time.perf_counter()
    worker.process([Prepare(published)])
    assert worker.backfill is not None, "there were no definitions"
    worker.backfill.build()
    worker.process([Publish(published)])
    took = time.perf_counter() - began
    rows = workload.traits.num_rows
    table = pa.table({
        "key": workload.traits.column("user_id"), "partition": pa.array(np.zeros(rows, np.int16)),
        "ltv": workload.traits.column("ltv"), "tier": workload.traits.column("tier"),
    })  # fmt: skip
    path = folder / "users.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    worker.process([TakeTraits("users", 1, table, str(path))])
    return took


def _build_and_follow(backfill: Backfill, took: list[float]) -> None:
    began = time.perf_counter()
    backfill.build()
    took.append(time.perf_counter() - began)
    backfill.follow()


def _parsed(document: dict[str, Any]) -> Any:
    return parse_document(document, "<benchmark>", {})


if __name__ == "__main__":
    import argparse
    import json

    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    options.add_argument("--events", type=int)
    options.add_argument("--users", type=int)
    chosen = options.parse_args()
    print(json.dumps(run(quick=chosen.quick, events=chosen.events, users=chosen.users), indent=1))
