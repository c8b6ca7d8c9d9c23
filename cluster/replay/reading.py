"""An event file as decoded batches with a clock: the input of a replay (semantics.md §3, §4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cluster.admission.decoder import Decoder
from cluster.admission.hits import Decoded, EventColumns, ReplayRows
from cluster.admission.plan import TIMESTAMP_PATH, EventPlan
from cluster.admission.timestamps import Format, Times, first_known
from cluster.errors import EventFileError
from cluster.replay.event_files import Lines, Rows, slices
from cluster.replay.table_columns import TableColumns
from cluster.wire.envelope import envelope_of

_RECEIVED_AT_PATH = ("received_at",)
#: Below every clock.
_NO_CLOCK = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class ReplaySlice:
    """Some rows of the file. `decoded.hits` have `clock_ms`; `row` counts from the slice's own first row.

    `first_clock_ms` is the clock of the file's first row that has a time, `end_clock_ms` the one after this slice's
    last row; both are None as long as no row had a time, and then there are no hits either.
    """

    decoded: Decoded
    first_clock_ms: int | None
    end_clock_ms: int | None


def read_events(file: str, plan: EventPlan, *, until_ms: int | None = None) -> Iterator[ReplaySlice]:
    """Read a file of events to its end, or up to the first row whose clock is above `until_ms`.

    Raises EventFileError while iterating, with file and row or line. An NDJSON line that is no JSON
    object stops the reading.
    """
    decoder = Decoder(plan, replay=True)
    clock = _Clock(until_ms)
    for part in slices(file):
        columns = _of_lines(decoder, part, file) if isinstance(part, Lines) else _of_rows(plan, part)
        rows = clock.pass_over(columns)
        if len(rows.clock_ms) < columns.row_count:
            columns = columns.select(np.arange(len(rows.clock_ms)))
        if columns.row_count:
            yield ReplaySlice(decoder.assemble(columns, None, rows), clock.first_ms, clock.now_ms)
        if clock.over:
            return


def _of_lines(decoder: Decoder, lines: Lines, file: str) -> EventColumns:
    columns, broken = decoder.parse(Format.NATIVE, envelope_of(lines.texts, Format.NATIVE))
    if broken is not None:
        row = int(np.flatnonzero(broken)[0])
        found = repr(lines.texts[row])[1:]
        message = (f"{file}: line {lines.numbers[row]} is no JSON object; "
                   f"found {found[:60]}{'...' if len(found) > 60 else ''}.")
        raise EventFileError(message, next_step="Every line is one JSON object: mend this one, or take it out.")
    return columns


def _of_rows(plan: EventPlan, rows: Rows) -> EventColumns:
    return TableColumns(rows.columns, rows.row_count, plan, rows.where)


class _Clock:
    """The clock of a replay. It never goes back; a row's time is its `received_at`, else its `timestamp`."""

    def __init__(self, until_ms: int | None) -> None:
        self._until_ms = until_ms
        self._last_ms = _NO_CLOCK
        self.first_ms: int | None = None
        #: A row above `until_ms` was met: nothing after it is read.
        self.over = False

    @property
    def now_ms(self) -> int | None:
        """The clock after the last row passed, None before the first time."""
        return None if self.first_ms is None else self._last_ms

    def pass_over(self, columns: EventColumns) -> ReplayRows:
        """Give the clock at each row, up to the end of reading."""
        times = first_known(columns.times_at(_RECEIVED_AT_PATH), columns.times_at(TIMESTAMP_PATH))
        times = self._up_to_the_end(times)
        if self.first_ms is None and times.known.any():
            self.first_ms = int(times.ms[np.argmax(times.known)])
        steps = np.where(times.known, times.ms, _NO_CLOCK)
        clock = np.maximum(np.maximum.accumulate(steps), self._last_ms) if len(steps) else steps
        if len(clock):
            self._last_ms = int(clock[-1])
        return ReplayRows(clock, ~times.known)

    def _up_to_the_end(self, times: Times) -> Times:
        if self._until_ms is None:
            return times
        above = times.known & (times.ms > self._until_ms)
        if not above.any():
            return times
        self.over = True
        end = int(np.argmax(above))
        return Times(times.ms[:end], times.known[:end])
