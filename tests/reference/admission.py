"""From rows to accepted events: clock, keys, dedup, late rows (semantics.md §3)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.reference.conditions import AcceptedEvent, Language
from tests.reference.values import MISSING, at_path, coerce, duration_ms, number_text, read_timestamp

KEY_BYTES_MAX = 1024
MESSAGE_ID_BYTES_MAX = 1024
#: Of several faults of one row (one a model), the one it is counted under: the furthest it got.
REASONS = ("too_late", "duplicate", "invalid", "no_key", "no_model")
#: (source, parent model, user key, message_id): "Rows without source share one".
Identity = tuple[str | None, str, str, str | None]


class InvalidText(ValueError):
    """A key or message id that is too long."""


@dataclasses.dataclass(frozen=True)
class Hit:
    """One event model that takes a row and finds a key in it."""

    model: str
    parent: str
    key: str
    ts: int
    values: Mapping[str, Any]
    said: Mapping[str, Any]


@dataclasses.dataclass
class Verdict:
    """What became of a row: the events to apply by (parent, key), or the reason it was rejected."""

    events: dict[tuple[str, str], list[AcceptedEvent]]
    reason: str | None


class Admission:
    """Reads rows under one document; remembers what dedup needs, and counts."""

    def __init__(self, document: Mapping[str, Any], *, sourceless_fits_all: bool) -> None:
        self._sourceless_fits_all = sourceless_fits_all
        self._language = Language(document)
        dedup = document.get("settings", {}).get("dedup", {})
        self._horizon_ms = duration_ms(dedup.get("horizon", "24h"))
        self._ids_max: int | None = dedup.get("max_ids")
        self._accepted_at: dict[Identity, int] = {}
        self._position = 0
        self.counts: Counter[str] = Counter()
        self.invalid_values: Counter[str] = Counter()

    def take(self, row: Mapping[str, Any], clock: int | None) -> Verdict:
        """Judge one row at the clock it has already moved; None: the row has no time and moved nothing."""
        self.counts["events"] += 1
        self._position += 1
        verdict = Verdict({}, "no_timestamp") if clock is None else self._judge(row, clock)
        self.counts["accepted" if verdict.reason is None else verdict.reason] += 1
        return verdict

    def _judge(self, row: Mapping[str, Any], clock: int) -> Verdict:
        fitting = [model for model in self._language.models.values() if fits(model, row, self._sourceless_fits_all)]
        if not fitting:
            return Verdict({}, "no_model")
        faults: set[str] = set()
        hits: list[Hit] = []
        try:
            message_id = id_text(row.get("message_id"), MESSAGE_ID_BYTES_MAX)
        except InvalidText:
            return Verdict({}, "invalid")
        for model in fitting:
            try:
                key = self._key(model, row)
            except InvalidText:
                faults.add("invalid")
                continue
            if key is None:
                faults.add("no_key")
            else:
                hits.append(self._hit(model, row, key, clock))
        return self._apply(hits, source_of(row), message_id, clock, faults)

    def _apply(
        self, hits: list[Hit], source: str | None, message_id: str | None, clock: int, faults: set[str]
    ) -> Verdict:
        events: dict[tuple[str, str], list[AcceptedEvent]] = {}
        # All of a row is judged before any of it registers: it is not a duplicate of itself.
        for hit in hits:
            if self._repeated((source, hit.parent, hit.key, message_id), clock):
                faults.add("duplicate")
            elif hit.ts <= clock - self._language.retention_ms[hit.model]:
                faults.add("too_late")
            else:
                event = AcceptedEvent(hit.model, hit.ts, self._position, hit.values, hit.said)
                events.setdefault((hit.parent, hit.key), []).append(event)
        for parent, key in events:  # "rows that changed nothing do not register"
            self._register((source, parent, key, message_id), clock)
        if events:
            return Verdict(events, None)
        return Verdict({}, next(reason for reason in REASONS if reason in faults))

    def _repeated(self, identity: Identity, clock: int) -> bool:
        """Was it accepted at a clock above `clock - dedup.horizon`?"""
        accepted_at = self._accepted_at.get(identity)
        return identity[3] is not None and accepted_at is not None and accepted_at > clock - self._horizon_ms

    def _register(self, identity: Identity, clock: int) -> None:
        if identity[3] is None:
            return
        self._accepted_at.pop(identity, None)
        self._accepted_at[identity] = clock
        if self._ids_max is not None and len(self._accepted_at) > self._ids_max:
            del self._accepted_at[next(iter(self._accepted_at))]  # "evicts the oldest first"

    def _key(self, model: Mapping[str, Any], row: Mapping[str, Any]) -> str | None:
        """The first non-empty of the foreign key's paths."""
        paths = model["foreign_key"]
        for path in paths if isinstance(paths, list) else [paths]:
            text = id_text(at_path(row, path), KEY_BYTES_MAX)
            if text is not None:
                return text
        return None

    def _hit(self, model: Mapping[str, Any], row: Mapping[str, Any], key: str, clock: int) -> Hit:
        ts = read_timestamp(at_path(row, model.get("timestamp", "timestamp")))
        # "Missing or unreadable: the clock. ts above the clock becomes the clock."
        ts = clock if ts is None else min(ts, clock)
        values = {}
        for name, column in model.get("columns", {}).items():
            found = at_path(row, column["path"])
            values[name] = coerce(found, column["type"])
            if found is not None and values[name] is MISSING:
                self.invalid_values[model["id"]] += 1
        return Hit(model["id"], model["parent"], key, ts, values, self._said(model, row))

    def _said(self, model: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        """The traits that an identify call has: "an explicit null clears it, an absent one leaves it"."""
        said: dict[str, Any] = {}
        columns = self._language.said_columns(model["parent"]) if model.get("type") == "identify" else {}
        for name, column in columns.items():
            path = column.get("path", f"traits.{name}")
            holder, _, key = path.rpartition(".")
            there = at_path(row, holder)
            if isinstance(there, Mapping) and key in there:
                said[name] = coerce(there[key], column["type"])
                if there[key] is not None and said[name] is MISSING:
                    self.invalid_values[model["id"]] += 1
        return said


def fits(model: Mapping[str, Any], row: Mapping[str, Any], sourceless_fits_all: bool) -> bool:
    """Type, name and source; "in replay an event without `source` fits every model"."""
    if row.get("type") != model.get("type", "track"):
        return False
    if "event" in model and row.get("event") != model["event"]:
        return False
    if "source" not in model:
        return True
    source = source_of(row)
    return sourceless_fits_all if source is None else source == model["source"]


def source_of(row: Mapping[str, Any]) -> str | None:
    """The source's id; empty, or no text, is none."""
    source = row.get("source")
    return source if isinstance(source, str) and source else None


def id_text(value: Any, bytes_max: int) -> str | None:
    """Ids that come as numbers become text; empty, and what is neither text nor number, is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = number_text(value)
    if not isinstance(value, str) or value == "":
        return None
    if len(value.encode()) > bytes_max:
        raise InvalidText
    return value


def row_time(row: Mapping[str, Any]) -> int | None:
    """In replay `received_at` is the row's, or its canonical `timestamp` where it has none."""
    received_at = read_timestamp(row.get("received_at"))
    return received_at if received_at is not None else read_timestamp(row.get("timestamp"))
