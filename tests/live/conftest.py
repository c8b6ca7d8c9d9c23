"""One running Usher for all live tests, in the order of their files: starting one takes 10 s and more.

`test_restart.py` comes last and stops it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.live.usher import SECRET, WRITE_KEY, Receiver, Usher

#: How long a purchase keeps its user in `hide_promo`.
HIDE_PROMO_MS = 2_000
CHECKPOINT_EVERY_MS = 500


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


def write_definitions(folder: Path, webhook_url: str) -> Path:
    """Two audiences over order events and one trait, each with a webhook sync; one of what identify calls say."""
    traits = folder / "users.parquet"
    rows = {"user_id": [f"rich-{i}" for i in range(50)] + ["poor-0"], "ltv": [500.0] * 50 + [1.0]}
    pq.write_table(pa.table(rows), traits)
    order = {"event": "order_completed"}
    web = {"property": "channel", "eq": "web"}
    document: dict[str, Any] = {
        "version": 1,
        "sources": [{"id": "shop", "kind": "http", "write_key": WRITE_KEY}],
        "parent_models": [
            {
                "id": "users",
                "primary_key": "user_id",
                "traits": {
                    "source": {"kind": "parquet", "path": str(traits)},
                    "refresh": "60s",
                    "columns": {"ltv": {"type": "number"}, "plan": {"type": "string", "source": "identify"}},
                },
            }
        ],
        "event_models": [
            {
                "id": "order_completed",
                "parent": "users",
                "event": "order_completed",
                "foreign_key": "user_id",
                "timestamp": "timestamp",
                "columns": {"channel": {"path": "properties.channel", "type": "string"}},
            },
            {"id": "calls", "parent": "users", "type": "identify", "foreign_key": "user_id"},
        ],
        "audiences": [
            {"id": "hide_promo", "parent": "users", "where": {**order, "within": f"{HIDE_PROMO_MS}ms", "where": web}},
            {
                "id": "rich_buyers",
                "parent": "users",
                "where": {"all": [{**order, "within": "1h"}, {"trait": "ltv", "gt": 300}]},
            },
            {
                "id": "rich_pros",
                "parent": "users",
                "where": {"all": [{"trait": "plan", "eq": "pro"}, {"trait": "ltv", "gt": 300}]},
            },
        ],
        "destinations": [
            {"id": "hook", "kind": "webhook", "url": webhook_url, "secret": SECRET, "allow_private": True}
        ],
        "syncs": [
            {
                "id": f"{audience}_hook",
                "audience": audience,
                "destination": "hook",
                "identifiers": {"user_id": "user_id"},
                "batch_age": "5ms",
            }
            for audience in ("hide_promo", "rich_buyers")
        ],
    }
    path = folder / "definitions.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="session")
def usher(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Usher]:
    folder = tmp_path_factory.mktemp("live")
    definitions = write_definitions(folder, receiver.url)
    usher = Usher(folder / "data", definitions=[str(definitions)], checkpoint_every_ms=CHECKPOINT_EVERY_MS)
    try:
        usher.await_ready()
        yield usher
        if usher.process.poll() is None:
            usher.stop()
    finally:
        usher.close()
