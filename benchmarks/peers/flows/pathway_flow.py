"""The Pathway dataflow: events in chunks by share of the users, audiences in a stateful reducer of each share.

Pathway keeps the values of its tables for updates to come and hands versions on, so what a chunk makes is a version of
its share's row: a subscriber takes them as they come. A version may be of several chunks; none is left out, since the
reducer gives what all of them made. Event time is the state's own, as with Bytewax: a heap of due times a share. The
state lies beside the table, which holds its number: Pathway would pickle all of it with each version.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import pathway as pw
from pathway.internals.parse_graph import G

from benchmarks.peers.flows.audiences import Audiences, Event, Transition
from benchmarks.peers.flows.serving import SHARES, Stopwatch, Workload, serve, share_of


class Chunk(pw.Schema):
    """Events of one share, in order; `number` orders the chunks of a share, and the last has none."""

    share: int
    number: int
    events: pw.PyObjectWrapper


class Reader(pw.io.python.ConnectorSubject):
    """Gives the events a batch of the file at a time: one row a share, then one commit."""

    def __init__(self, workload: Workload, watch: Stopwatch) -> None:
        super().__init__()
        self._workload, self._watch = workload, watch

    def run(self) -> None:
        """Deal the file, then say of each share that it is at its end."""
        self._watch.start()
        number = 0
        for events in self._workload.batches():
            dealt: list[list[Event]] = [[] for _ in range(SHARES)]
            for event in events:
                dealt[share_of(event[1])].append(event)
            self._give(number, dealt)
            number += 1
        self._give(number, [[] for _ in range(SHARES)])

    def _give(self, number: int, dealt: list[list[Event]]) -> None:
        for share, events in enumerate(dealt):
            if events or not any(dealt):
                self.next(share=share, number=number, events=pw.PyObjectWrapper(events))
        self.commit()

    @property
    def _deletions_enabled(self) -> bool:
        return False


def run(workload: Workload, watch: Stopwatch) -> Iterable[Transition]:
    """Evaluate all events in one worker."""
    shares, until_ms = workload.shares(), workload.table["until_ms"]
    kept: list[list[Transition]] = [share.made[:] for share in shares]
    for share in shares:
        share.made.clear()
    G.clear()

    @pw.reducers.stateful_many
    def evaluate(state: Any, rows: list[tuple[list[Any], int]]) -> Any:
        chunks = sorted((row for row, _ in rows), key=lambda row: int(row[1]))
        audiences = shares[chunks[0][0]]
        for _, _, events in chunks:
            _take(audiences, events.value, until_ms)
        made = audiences.made[:]
        audiences.made.clear()
        return pw.PyObjectWrapper(made)

    def keep(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition:
            kept.append(row["made"].value)

    chunks = pw.io.python.read(Reader(workload, watch), schema=Chunk, autocommit_duration_ms=None)
    made = chunks.groupby(chunks.share).reduce(made=evaluate(chunks.share, chunks.number, chunks.events))
    pw.io.subscribe(made, on_change=keep, on_end=watch.stop)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    return (transition for part in kept for transition in part)


def _take(audiences: Audiences, events: list[Event], until_ms: int) -> None:
    """Evaluate a chunk, then make what is due up to its last event, at the end up to the end."""
    audiences.apply(events)
    audiences.advance(events[-1][0] if events else until_ms)


if __name__ == "__main__":
    serve(version("pathway"), run)
