"""Plans and envelopes for the tests of admission."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cluster.admission.plan import EventPlan
from cluster.admission.timestamps import Format
from cluster.definitions.parsing import parse_document
from cluster.wire.envelope import envelope_of


def model(model_id: str, *, columns: dict[str, tuple[str, str]] | None = None, **keys: Any) -> dict[str, Any]:
    """Give an event model; `columns` maps a name to (path, type)."""
    return {
        "id": model_id, "parent": "users", "foreign_key": "user_id", "timestamp": "timestamp", **keys,
        "columns": {name: {"path": path, "type": kind} for name, (path, kind) in (columns or {}).items()},
    }


def plan_of(*models: dict[str, Any]) -> EventPlan:
    """Give the plan of a document with these event models and the sources `web` and `app`."""
    document = {
        "version": 1,
        "sources": [{"id": name, "kind": "http", "write_key": f"key-{name}"} for name in ("web", "app")],
        "parent_models": [{"id": "users", "primary_key": "user_id"}],
        "event_models": list(models),
    }
    return EventPlan(parse_document(document, "test.json", {}))


def envelope(
    *events: Any, fmt: Format = Format.NATIVE, source: str | None = None, sent_at_ms: int | None = None
) -> pa.RecordBatch:
    """Give the envelope of events (dicts, or bytes as they are)."""
    texts = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return envelope_of(texts, fmt, source=source, sent_at_ms=sent_at_ms)


def column(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    """Give one column of rows."""
    return [row[name] for row in rows]
