"""Envelopes to hits, the clear way: event by event, value by value. The tests hold `Decoder` to it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cluster.admission.contracts import Contracts, note, violations_of
from cluster.admission.hits import Decoded
from cluster.admission.plan import EventPlan, FitTable
from cluster.admission.sources import source_code, source_index
from cluster.admission.structs import walk
from cluster.admission.timestamps import Format, cut, event_time
from cluster.admission.typing_columns import id_text
from cluster.admission.wire_paths import (
    NAME_PATH,
    NAMED_TYPES,
    ORIGINAL_TIMESTAMP_PATH,
    SENT_AT_PATH,
    second_path,
    wire_path,
)
from cluster.definitions.model import Path
from cluster.limits import KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX
from cluster.model.values import coerce, coerce_timestamp
from cluster.wire.repair import parse_leniently


def decode_plain(plan: EventPlan, envelope: pa.RecordBatch, *, replay: bool = False) -> Decoded:
    """Give exactly what `Decoder(plan, replay=replay).decode(envelope)` gives, at some 20 µs an event."""
    fit = plan.fit_table(sourceless_fits_all=replay)
    hits: list[dict[str, Any]] = []
    rejected: list[tuple[int, str]] = []
    invalid_values: dict[str, int] = {}
    contracts = Contracts(plan)
    broken: dict[tuple[str, str], tuple[int, int]] = {}
    for row, envelope_row in enumerate(envelope.to_pylist()):
        event = _Event.read(envelope_row)
        reason = "invalid" if event is None else _take(plan, fit, event, row, hits, invalid_values, contracts, broken)
        if reason is not None:
            rejected.append((row, reason))
    batch = pa.RecordBatch.from_arrays(
        [pa.array([hit[field.name] for hit in hits], field.type) for field in plan.hits_schema],
        schema=plan.hits_schema,
    )
    return Decoded(batch, envelope.num_rows, rejected, invalid_values, violations_of(broken))


class _Event:
    """One parsed event, read at canonical paths."""

    def __init__(self, parsed: dict[str, Any], envelope_row: dict[str, Any]) -> None:
        self._parsed = parsed
        self._format = Format(envelope_row["format"])
        self._sent_at_ms: int | None = envelope_row["sent_at_ms"]
        self._source: str | None = envelope_row["source"]

    @classmethod
    def read(cls, envelope_row: dict[str, Any]) -> _Event | None:
        """Parse an event; None if it is none."""
        try:
            parsed = parse_leniently(envelope_row["raw"])
        except ValueError:
            return None
        return cls(parsed, envelope_row) if isinstance(parsed, dict) else None

    def at(self, path: Path) -> Any:
        """Give the raw value at a canonical path, None where it is null or absent."""
        place = wire_path(self._format, path)
        if place is None:
            return None
        named = _text(self._parsed.get("type")) in NAMED_TYPES
        if path == ("event",) and self._format is not Format.NATIVE and named:
            place = NAME_PATH
        value = walk(self._parsed, place)
        second = second_path(self._format, path)
        if value is None and second is not None and self._parsed.get("type") == "identify":
            return walk(self._parsed, second)
        return value

    def has(self, path: Path) -> bool:
        """Say whether something, be it null, is at a canonical path."""
        second = second_path(self._format, path) if self._parsed.get("type") == "identify" else None
        places = [place for place in (wire_path(self._format, path), second) if place is not None]
        objects = [(walk(self._parsed, place[:-1]), place[-1]) for place in places]
        return any(isinstance(found, dict) and key in found for found, key in objects)

    def source(self) -> str | None:
        """Give the source: the envelope's, else, in the native format, the event's own."""
        if self._source is not None or self._format is not Format.NATIVE:
            return self._source
        stated = self._parsed.get("source")
        return stated if isinstance(stated, str) else None

    def time(self, path: Path) -> tuple[int | None, bool]:
        """Give (ts_ms, ts_relative) of a model with this `timestamp` path."""
        at_path = coerce_timestamp(self.at(path))
        if path != ("timestamp",):
            return cut(at_path), False
        original = coerce_timestamp(walk(self._parsed, ORIGINAL_TIMESTAMP_PATH))
        sent = coerce_timestamp(walk(self._parsed, SENT_AT_PATH))
        return event_time(self._format, at_path, original, sent, self._sent_at_ms)


def _take(
    plan: EventPlan, fit: FitTable, event: _Event, row: int, hits: list[dict[str, Any]], invalid: dict[str, int],
    contracts: Contracts, broken: dict[tuple[str, str], tuple[int, int]],
) -> str | None:
    """Add the event's hits; the reason if there are none."""
    source = event.source()
    models = fit.fitting(
        fit.type_codes[_text(event.at(("type",)))], fit.name_codes[_text(event.at(("event",)))],
        source_code(plan, source),
    )
    if not models:
        return "no_model"
    message_id = id_text(event.at(("message_id",)))
    if _bytes(message_id) > MESSAGE_ID_BYTES_MAX:
        return "invalid"
    reason: str | None = "no_key"
    hit_count = len(hits)
    for index in models:
        model = plan.models[index]
        key = next((text for text in (id_text(event.at(path)) for path in model.foreign_key) if text), None)
        if _bytes(key) > KEY_BYTES_MAX:
            reason = "invalid"
        elif key is not None:
            ts_ms, relative = event.time(model.timestamp)
            _count_invalid(plan, index, event, invalid)
            missing = [c.name for c in model.columns.values() if coerce(event.at(c.path), c.type) is None]
            rules = contracts.broken(index, missing, event.at(("properties",)))
            for rule in rules:
                note(broken, model.id, rule, row)
            if rules and model.contract is not None and model.contract.blocks:
                reason = "contract" if reason == "no_key" else reason
                continue
            hits.append({
                "row": row, "model": index, "key": key, "clock_ms": None, "ts_ms": ts_ms, "ts_relative": relative,
                "message_id": message_id, "source": source_index(plan, source), **_values(plan, index, event),
            })
    return reason if len(hits) == hit_count else None


def _values(plan: EventPlan, model: int, event: _Event) -> dict[str, Any]:
    says = bool(plan.says[model])
    own = {
        f"c{index}": coerce(event.at(path), kind) if says or index not in plan.said_alone else None
        for index, (path, kind) in enumerate(plan.columns)
    }
    return own | {f"p{index}": says and event.has(path) for index, path in enumerate(plan.presences)}


def _count_invalid(plan: EventPlan, model: int, event: _Event, invalid: dict[str, int]) -> None:
    for column in plan.columns_of_model[model].values():
        path, kind = plan.columns[column]
        raw = event.at(path)
        if raw is not None and coerce(raw, kind) is None:
            id_ = plan.models[model].id
            invalid[id_] = invalid.get(id_, 0) + 1


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _bytes(text: str | None) -> int:
    return len(text.encode()) if text else 0
