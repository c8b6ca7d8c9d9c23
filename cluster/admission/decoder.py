"""Envelopes to hits, the fast way: one JSON parse a batch into Structs made from the plan, then whole columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.admission.contracts import Contracts
from cluster.admission.hits import Decoded, EventColumns, ReplayRows, assemble, merge
from cluster.admission.json_columns import JsonColumns
from cluster.admission.plan import EventPlan
from cluster.admission.structs import StructTree
from cluster.admission.timestamps import Bools, Format
from cluster.admission.wire_paths import paths_read, paths_watched
from cluster.wire.repair import parse_leniently

#: What msgspec raises for an event it cannot read; its own errors are ValueErrors.
_UNREADABLE = (ValueError, RecursionError)


class Decoder:
    """Decodes under one plan. Keeps parsers and nothing of the events; not for several threads at once.

    `replay` true: an event without `source` fits every model.
    """

    def __init__(self, plan: EventPlan, *, replay: bool = False) -> None:
        self.plan = plan
        self._fit = plan.fit_table(sourceless_fits_all=replay)
        self._contracts = Contracts(plan)
        self._trees: dict[Format, StructTree] = {}

    def decode(self, envelope: pa.RecordBatch) -> Decoded:
        """Give the hits of a batch, in row order. No event raises; what is none is `invalid`."""
        formats = pc.unique(envelope["format"]).to_pylist()
        if len(formats) == 1:
            return self._decode(Format(formats[0]), envelope, None)
        parts = []
        for fmt in formats:
            rows = np.flatnonzero(envelope["format"].to_numpy() == fmt)
            parts.append((rows, self._decode(Format(fmt), envelope.take(pa.array(rows)), None)))
        return merge(self.plan, envelope.num_rows, parts)

    def parse(self, fmt: Format, envelope: pa.RecordBatch) -> tuple[JsonColumns, Bools | None]:
        """Give the columns of events that are all of one format, and which of them are no events at all."""
        tree = self._tree(fmt)
        events, broken = parse_events(tree, envelope["raw"])
        columns = JsonColumns(fmt, tree.reader(events), len(events), envelope["source"], envelope["sent_at_ms"])
        return columns, broken

    def assemble(self, columns: EventColumns, broken: Bools | None, replay: ReplayRows | None) -> Decoded:
        """Put together the hits of parsed events (replay asks for their times in between)."""
        return assemble(self.plan, self._fit, columns, broken=broken, replay=replay, contracts=self._contracts)

    def _decode(self, fmt: Format, envelope: pa.RecordBatch, replay: ReplayRows | None) -> Decoded:
        columns, broken = self.parse(fmt, envelope)
        return self.assemble(columns, broken, replay)

    def _tree(self, fmt: Format) -> StructTree:
        if fmt not in self._trees:
            self._trees[fmt] = StructTree(paths_read(fmt, self.plan), paths_watched(fmt, self.plan))
        return self._trees[fmt]


def parse_events(tree: StructTree, raw: pa.BinaryArray) -> tuple[list[Any], Bools | None]:
    """Parse a batch in one call; if one event resists, each by itself. Also gives which ones are no events at all."""
    try:
        events = tree.decoder.decode(_as_array(raw.to_pylist()))
    except _UNREADABLE:
        return _one_by_one(tree, raw.to_pylist())
    return (events, None) if len(events) == len(raw) else _one_by_one(tree, raw.to_pylist())


def _as_array(texts: list[bytes]) -> bytes:
    """Write a JSON array, in one copy: the memory of a large one costs as much as its parsing. Changes `texts`."""
    if not texts:
        return b"[]"
    texts[0] = b"[" + texts[0]
    texts[-1] += b"]"
    return b",".join(texts)


def _one_by_one(tree: StructTree, texts: list[bytes]) -> tuple[list[Any], Bools | None]:
    """Parse each event, by the lenient parser if the fast one refuses (`properties` is no object, 1e999, ...)."""
    events = []
    broken = np.zeros(len(texts), np.bool_)
    for row, text in enumerate(texts):
        try:
            events.extend(_alone(tree, text))
        except _UNREADABLE:
            parsed = _parsed(text)
            broken[row] = parsed is None
            events.append(tree.build(parsed or {}))
    return events, broken if broken.any() else None


def _alone(tree: StructTree, text: bytes) -> list[Any]:
    events = tree.decoder.decode(b"[" + text + b"]")
    if len(events) != 1:
        message = "not one event"
        raise ValueError(message)
    return events


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        parsed = parse_leniently(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
