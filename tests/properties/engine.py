"""The engine behind the reference evaluator's methods: real parsing, real decoding, the real machine, no server.

Imports of the engine are inside the functions, so that the strategies and the oracle can be used without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.reference.admission import row_time
from tests.reference.evaluator import Transition, ordered

if TYPE_CHECKING:
    from actors.evaluator.machine import EvaluatorMachine
    from cluster.definitions.model import Published

Row = Mapping[str, Any]
#: A row and the clock at it; None: the row has no time (replay), it is counted and moves nothing.
Clocked = tuple[Row, int | None]

TRAIT_ARROW_TYPES = {
    "number": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "timestamp": pa.int64(),
    "list": pa.list_(pa.string()),
}
OUTCOMES = ("accepted", "duplicate", "too_late")


class Engine:
    """One `EvaluatorMachine` under `document`, published at `clock`, with the snapshots that already hold."""

    def __init__(
        self, document: Row, traits: Mapping[str, pa.Table], clock: int, *, sourceless_fits_all: bool = True
    ) -> None:
        from actors.evaluator.machine import EvaluatorMachine

        self.transitions: list[Transition] = []
        #: What became of each row, in order.
        self.outcomes: list[str] = []
        self._sourceless_fits_all = sourceless_fits_all
        self._rows: list[Clocked] = []
        self._tables = dict(traits)
        self._read(document, None)
        self._machine = EvaluatorMachine(self._published, clock_ms=0, seed=0x5EED)
        self._machine.load([], self._snapshots(), clock)
        self._take(self._machine.difference_from(None))

    @property
    def clock(self) -> int:
        """The machine's clock."""
        return self._machine.clock_ms

    @property
    def machine(self) -> EvaluatorMachine:
        """The machine in force."""
        return self._machine

    def batch(self, rows: Sequence[Clocked], *, live: bool = False) -> None:
        """Handle rows as one batch: live, all of one `received_at`; in replay each with its own clock."""
        timed = [clock for _, clock in rows if clock is not None]
        end = max([self.clock, *timed])
        hits, reasons = self._hits(rows, with_clocks=not live)
        result = self._machine.handle_batch(hits, end, None if live else end)
        self._take(self._machine.transitions_table(result.transitions))
        self._rows += rows
        for row, outcome in zip(hits["row"].to_pylist(), result.outcomes.tolist(), strict=True):
            reasons[row] = min(reasons.get(row, "unknown"), OUTCOMES[outcome], key=_rank)
        self.outcomes += [reasons[row] for row in range(len(rows))]

    def advance(self, to_ms: int) -> None:
        """A tick."""
        self._take(self._machine.transitions_table(self._machine.tick(to_ms)))

    def traits(self, parent: str, table: pa.Table, now_ms: int) -> None:
        """A new snapshot of one parent."""
        self._tables[parent] = table
        changes = self._machine.apply_traits(parent, self._snapshots()[parent], now_ms)
        self._take(self._machine.transitions_table(changes))

    def publish(self, document: Row, now_ms: int) -> None:
        """New definitions, backfilled from every row so far."""
        from actors.evaluator.machine import EvaluatorMachine

        self._read(document, self._published)
        retained = [self._hits(self._rows, with_clocks=True)[0]]
        self.advance(now_ms)
        fresh = EvaluatorMachine(self._published, clock_ms=0, seed=0x5EED)
        fresh.load(retained, self._snapshots(), self.clock)
        self._take(fresh.difference_from(self._machine))
        self._machine = fresh

    def members(self) -> set[tuple[str, str]]:
        """Who is in what at the clock, as (audience id, user id)."""
        machine = self._machine
        return {
            (audience, key)
            for audience in machine.program.audiences
            for key in machine.user_keys(machine.members(audience)).to_pylist()
        }

    def _read(self, document: Row, previous: Published | None) -> None:
        from cluster.admission.decoder import Decoder
        from cluster.admission.plan import EventPlan
        from cluster.definitions.parsing import parse_document
        from cluster.definitions.versions import publish

        self._published = publish(previous, parse_document(document, "test.json", {}))
        self._plan = EventPlan(self._published.definitions)
        self._decoder = Decoder(self._plan, replay=self._sourceless_fits_all)

    def _hits(self, rows: Sequence[Clocked], *, with_clocks: bool) -> tuple[pa.RecordBatch, dict[int, str]]:
        """Decode the rows that have a time; gives the hits and the reasons of rows without any."""
        from cluster.wire.envelope import envelope_of

        numbers = [number for number, (_, clock) in enumerate(rows) if clock is not None]
        events = [json.dumps(rows[number][0]).encode() for number in numbers]
        decoded = self._decoder.decode(envelope_of(events, 0))
        reasons = dict.fromkeys(range(len(rows)), "unknown")
        reasons.update({number: "no_timestamp" for number, (_, clock) in enumerate(rows) if clock is None})
        reasons.update({numbers[row]: reason for row, reason in decoded.rejected})
        places = [numbers[row] for row in decoded.hits["row"].to_pylist()]
        hits = _with_column(decoded.hits, "row", pa.array(places, pa.int32()))
        if with_clocks:
            hits = _with_column(hits, "clock_ms", pa.array([rows[place][1] for place in places], pa.int64()))
        return hits, reasons

    def _snapshots(self) -> dict[str, pa.Table]:
        return {
            name: snapshot_of(parent.primary_key, _types(parent.snapshot_columns), self._tables[name])
            for name, parent in self._published.definitions.parent_models.items()
            if name in self._tables
        }

    def _take(self, table: pa.RecordBatch) -> None:
        self.transitions += [
            {name: value for name, value in row.items() if name != "partition"} for row in table.to_pylist()
        ]


def _types(columns: Mapping[str, Any]) -> dict[str, str]:
    return {name: column.type for name, column in columns.items()}


def snapshot_of(primary_key: str, types: Mapping[str, str], table: pa.Table) -> pa.Table:
    """A trait table as the machine takes it (docs/architecture.md §5)."""
    columns = {"key": table.column(primary_key), "partition": pa.array([0] * table.num_rows, pa.int16())}
    columns |= {name: table.column(name).cast(TRAIT_ARROW_TYPES[declared]) for name, declared in types.items()}
    return pa.table(columns)


def replay(
    document: Row, rows: Sequence[Row], traits: Mapping[str, pa.Table], cuts: Sequence[int] = (), until_ms: int = 0
) -> Engine | None:
    """Run the engine as `usher replay` does, the stream cut into batches; None where no row has a time."""
    clocked = clocks_of(rows)
    first = next((clock for _, clock in clocked if clock is not None), None)
    if first is None:
        return None
    engine = Engine(document, traits, first)
    ends = [*cuts, len(clocked)]
    for start, end in zip([0, *ends], ends, strict=False):
        engine.batch(clocked[start:end])
    engine.advance(until_ms)
    engine.transitions = ordered(engine.transitions)
    return engine


def clocks_of(rows: Sequence[Row]) -> list[Clocked]:
    """Each row with the clock at it: a value below the clock counts as the clock."""
    clock: int | None = None
    result: list[Clocked] = []
    for row in rows:
        time = row_time(row)
        if time is not None:
            clock = time if clock is None else max(clock, time)
        result.append((row, None if time is None else clock))
    return result


def comparable(transitions: Sequence[Transition]) -> list[tuple[Any, ...]]:
    """All of a transition but its version: what engine and reference must agree on."""
    return [tuple(each[name] for name in COMPARED) for each in ordered(transitions)]


COMPARED = ("at", "audience_id", "user_id", "n", "kind", "cause")


def _rank(outcome: str) -> int:
    """A row counts as the furthest that one of its hits got."""
    return ("accepted", "too_late", "duplicate").index(outcome) if outcome in OUTCOMES else 9


def _with_column(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, batch.schema.field(index), values)
