"""The Bytewax dataflow: events keyed by share of the users, audiences in `stateful_batch`.

Bytewax wakes a key by the wall clock alone (`notify_at`), so event time is the state's own: a heap of due times a
share, worked off before each event and up to the last event of each batch, and at the end of input.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.peers.flows.audiences import Audiences, Event, Transition
from benchmarks.peers.flows.serving import SHARES, Stopwatch, Workload, serve, share_of

#: A share's number and its events.
Chunk = tuple[int, list[Event]]


class Reader(StatelessSourcePartition[tuple[str, Chunk]]):
    """Gives the events a batch of the file at a time: one item a share, its key and its events."""

    def __init__(self, workload: Workload, watch: Stopwatch) -> None:
        watch.start()
        self._batches = workload.batches()

    def next_batch(self) -> Iterable[tuple[str, Chunk]]:
        """Deal one batch of the file."""
        events = next(self._batches, None)
        if events is None:
            raise StopIteration
        dealt: list[list[Event]] = [[] for _ in range(SHARES)]
        for event in events:
            dealt[share_of(event[1])].append(event)
        return [(str(share), (share, part)) for share, part in enumerate(dealt) if part]


class Source(DynamicSource[tuple[str, Chunk]]):
    """The files, read by the first worker."""

    def __init__(self, workload: Workload, watch: Stopwatch) -> None:
        self._workload, self._watch = workload, watch

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Reader:
        """Make the reader."""
        return Reader(self._workload, self._watch)


class Logic(StatefulBatchLogic[Chunk, list[Transition], Audiences]):
    """The audiences of one share; which one it is comes with the first events."""

    def __init__(self, shares: list[Audiences], until_ms: int) -> None:
        self._shares, self._until_ms = shares, until_ms
        self._audiences = shares[0]

    def on_batch(self, values: list[Chunk]) -> tuple[Iterable[list[Transition]], bool]:
        """Evaluate, then make what is due up to the last event."""
        self._audiences = self._shares[values[0][0]]
        for _, events in values:
            self._audiences.apply(events)
            self._audiences.advance(events[-1][0])
        return self._given(), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[list[Transition]], bool]:
        """Make what is due up to the end."""
        self._audiences.advance(self._until_ms)
        return self._given(), StatefulBatchLogic.RETAIN

    def _given(self) -> list[list[Transition]]:
        made = self._audiences.made[:]
        self._audiences.made.clear()
        return [made]

    def notify_at(self) -> datetime | None:
        """Ask for no waking: event time moves with the events."""
        return None

    def snapshot(self) -> Audiences:
        """Give the state, asked each epoch; without a recovery store it goes nowhere."""
        return self._audiences


class Writer(StatelessSinkPartition[list[Transition]]):
    """Keeps what comes."""

    def __init__(self, kept: list[list[Transition]], watch: Stopwatch) -> None:
        self._kept, self._watch = kept, watch

    def write_batch(self, items: list[list[Transition]]) -> None:
        """Keep them."""
        self._kept += items

    def close(self) -> None:
        """Stop the watch: all input is worked off."""
        self._watch.stop()


class Sink(DynamicSink[list[Transition]]):
    """Memory."""

    def __init__(self, kept: list[list[Transition]], watch: Stopwatch) -> None:
        self._kept, self._watch = kept, watch

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Writer:
        """Make the writer."""
        return Writer(self._kept, self._watch)


def run(workload: Workload, watch: Stopwatch) -> Iterable[Transition]:
    """Evaluate all events in one worker."""
    shares, until_ms = workload.shares(), workload.table["until_ms"]
    kept: list[list[Transition]] = [share.made[:] for share in shares]
    for share in shares:
        share.made.clear()

    flow = Dataflow("audiences")
    chunks = op.input("events", flow, Source(workload, watch))
    transitions = op.stateful_batch("audiences", chunks, lambda _: Logic(shares, until_ms))
    op.output("transitions", op.key_rm("values", transitions), Sink(kept, watch))
    run_main(flow)
    return (transition for part in kept for transition in part)


if __name__ == "__main__":
    serve(version("bytewax"), run)
