"""Accepted events are counted by event model and by source, whatever definitions they came under."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from actors.evaluator.arrivals import Arrivals
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_documents


def published(version: int, *models: str) -> Published:
    events = [{"id": id_, "parent": "users", "event": id_, "foreign_key": "user_id"} for id_ in models]
    document = {
        "version": 1,
        "sources": [{"id": "web", "kind": "http"}, {"id": "app", "kind": "http"}],
        "parent_models": [{"id": "users", "primary_key": "user_id"}],
        "event_models": events,
    }
    return Published(version, parse_documents([("usher.json", json.dumps(document))], {}, {}), {})


def hits(*rows: tuple[int, int]) -> pa.RecordBatch:
    return pa.record_batch({
        "model": pa.array([model for model, _ in rows], pa.int16()),
        "source": pa.array([source for _, source in rows], pa.int16()),
    })  # fmt: skip


def test_accepted_ones_count_by_name_over_changed_definitions() -> None:
    arrivals = Arrivals()
    assert arrivals.shown(None) == {"models": {}, "sources": {}}
    outcomes = np.array([0, 0, 1, 2, 0], np.uint8)
    arrivals.take(published(1, "order", "page"), hits((0, 0), (1, -1), (0, 0), (0, 0), (1, -7)), outcomes)
    later = published(2, "page", "order", "refund")
    arrivals.take(later, hits((0, 1), (0, 1)), np.zeros(2, np.uint8))

    assert arrivals.shown(later.definitions) == {
        "models": {"page": 4, "order": 1, "refund": 0}, "sources": {"web": 1, "app": 2}
    }  # fmt: skip
