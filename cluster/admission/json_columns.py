"""Events that came as JSON, as columns: raw values out of the Structs, then whole columns into Arrow.

Columns whose values are all of the right kind already take Arrow's fast way; one stray value sends that column
through `cluster.model.values`, element by element.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.admission.plan import TIMESTAMP_PATH, EventPlan
from cluster.admission.sources import Sources, sources_of
from cluster.admission.structs import PathReader
from cluster.admission.timestamps import Bools, EventTimes, Format, Int64s, Times, event_times
from cluster.admission.typing_columns import Typed, id_column, time_column, times_in, typed_column
from cluster.admission.wire_paths import (
    NAME_PATH,
    NAMED_TYPES,
    ORIGINAL_TIMESTAMP_PATH,
    SENT_AT_PATH,
    second_path,
    wire_path,
)
from cluster.definitions.model import Path, ValueType


class JsonColumns:
    """One format's events of a batch. `sources` and `sent_at_ms` are the envelope's columns for these rows."""

    def __init__(self, fmt: Format, reader: PathReader, row_count: int, sources: pa.Array, sent_at_ms: pa.Array):
        self._format = fmt
        self._reader = reader
        self._row_count = row_count
        self._sources = sources
        self._sent_at_ms = sent_at_ms
        self._ids: dict[Path, pa.StringArray] = {}

    @property
    def row_count(self) -> int:
        """The number of events."""
        return self._row_count

    def select(self, rows: npt.NDArray[np.int64]) -> Self:
        """Give some of the events."""
        taken = pa.array(rows)
        return type(self)(self._format, self._reader.select(rows.tolist()), len(rows),
                          self._sources.take(taken), self._sent_at_ms.take(taken))

    def codes(self, field: str, code_of: Mapping[str, int]) -> Int64s:
        """See `EventColumns`."""
        values = self._values((field,))
        try:
            return np.fromiter(map(code_of.__getitem__, values), np.int64, len(values))
        except TypeError:  # an object or a list cannot be looked up
            known = [code_of[value] if type(value) is str else 0 for value in values]
            return np.fromiter(known, np.int64, len(values))

    def ids(self, path: Path) -> pa.StringArray:
        """See `EventColumns`."""
        found = self._ids.get(path)
        if found is None:
            found = self._ids[path] = id_column(self._values(path))
        return found

    def objects(self, path: Path) -> list[Any]:
        """See `EventColumns`."""
        return self._values(path)

    def typed(self, path: Path, kind: ValueType) -> Typed:
        """See `EventColumns`."""
        return typed_column(self._values(path), kind)

    def present(self, path: Path) -> Bools:
        """See `EventColumns`."""
        first, second = wire_path(self._format, path), second_path(self._format, path)
        found = [False] * self._row_count if first is None else self._reader.present(first)
        if second is not None:
            types = self._reader.values(("type",))
            others = self._reader.present(second)
            found = [
                here or (there and kind == "identify") for here, there, kind in zip(found, others, types, strict=True)
            ]
        return np.array(found, np.bool_)

    def times(self) -> EventTimes:
        """See `EventColumns`."""
        timestamp = self.times_at(TIMESTAMP_PATH)
        if self._format is Format.NATIVE:
            nothing = Times.unknown(self._row_count)
            return event_times(self._format, timestamp, nothing, nothing, nothing)
        original = time_column(self._reader.values(ORIGINAL_TIMESTAMP_PATH))
        event_sent = time_column(self._reader.values(SENT_AT_PATH))
        return event_times(self._format, timestamp, original, event_sent, times_in(self._sent_at_ms))

    def times_at(self, path: Path) -> Times:
        """See `EventColumns`."""
        return time_column(self._values(path))

    def sources(self, plan: EventPlan) -> Sources:
        """See `EventColumns`; what the envelope says goes before what the event says."""
        if self._format is not Format.NATIVE or not self._sources.null_count:
            return sources_of(plan, self._sources)
        stated = [name if type(name) is str else None for name in self._values(("source",))]
        return sources_of(plan, pc.coalesce(self._sources, pa.array(stated, pa.string())))

    def _values(self, path: Path) -> list[Any]:
        """Give the raw values at a canonical path."""
        first = wire_path(self._format, path)
        if first is None:
            return [None] * self._row_count
        values = self._reader.values(first)
        if self._format is not Format.NATIVE and path == ("event",):
            return self._names(values)
        second = second_path(self._format, path)
        return values if second is None else self._with_second(values, second)

    def _names(self, events: list[Any]) -> list[Any]:
        types = self._reader.values(("type",))
        names = self._reader.values(NAME_PATH)
        if _none_named(types):
            return events
        return [name if type(kind) is str and kind in NAMED_TYPES else event
                for kind, name, event in zip(types, names, events, strict=True)]

    def _with_second(self, values: list[Any], second: Path) -> list[Any]:
        types = self._reader.values(("type",))
        return [other if value is None and kind == "identify" else value
                for value, other, kind in zip(values, self._reader.values(second), types, strict=True)]


def _none_named(types: list[Any]) -> bool:
    """Tell that no event is a page or screen; False where a type cannot be looked up."""
    try:
        return NAMED_TYPES.isdisjoint(types)
    except TypeError:
        return False
