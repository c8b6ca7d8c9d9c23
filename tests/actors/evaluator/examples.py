"""Small definitions and hits for tests of the evaluator."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish

COLUMNS = {
    "channel": {"path": "properties.channel", "type": "string"},
    "amount": {"path": "properties.amount", "type": "number"},
}
HIDE_PROMO = {"event": "order", "within": "5s", "where": {"property": "channel", "eq": "web"}}
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "settings": {"retention": "1h", "dedup": {"horizon": "10m"}},
    "sources": [{"id": "web", "kind": "http", "write_key": "k"}],
    "parent_models": [
        {
            "id": "users",
            "primary_key": "user_id",
            "traits": {
                "source": {"kind": "parquet", "path": "users.parquet"},
                "columns": {"ltv": {"type": "number"}, "tier": {"type": "string"}},
            },
        }
    ],
    "event_models": [
        {
            "id": name, "parent": "users", "type": "track", "event": name, "foreign_key": "user_id",
            "timestamp": "timestamp", "columns": COLUMNS,
        }
        for name in ("order", "view")
    ],
    "audiences": [
        {"id": "hide_promo", "parent": "users", "where": HIDE_PROMO},
        {
            "id": "eligible",
            "parent": "users",
            "where": {"all": [
                {"event": "view", "within": "30s"}, {"not": {"event": "order", "within": "5s"}},
                {"trait": "ltv", "gt": 300},
            ]},
        },
        {"id": "quiet", "parent": "users", "where": {"event": "order", "at_most": 1, "within": "1m"}},
    ],
}


def document(**changes: Any) -> dict[str, Any]:
    """Give the document with top-level parts replaced."""
    return {**DOCUMENT, **changes}


def published(previous: Published | None = None, **changes: Any) -> Published:
    """Publish the document with top-level parts replaced."""
    return publish(previous, parse_document(document(**changes), "test.yaml", {}))


def event(name: str, user: str, message: str | None = None, **fields: Any) -> dict[str, Any]:
    """Make a native event."""
    result: dict[str, Any] = {"type": "track", "event": name, "user_id": user, "source": "web"}
    if message is not None:
        result["message_id"] = message
    properties = {key: fields.pop(key) for key in ("channel", "amount") if key in fields}
    return {**result, "properties": properties, **fields}


def snapshot(**ltv: float | None) -> pa.Table:
    """Make a snapshot of users with an LTV each."""
    rows = len(ltv)
    return pa.table({
        "key": pa.array(list(ltv), pa.string()),
        "partition": pa.array([0] * rows, pa.int16()),
        "ltv": pa.array(list(ltv.values()), pa.float64()),
        "tier": pa.nulls(rows, pa.string()),
    })
