"""Identify calls of the real SDKs, byte for byte over HTTP, hold as traits in conditions."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from actors.evaluator.machine import EvaluatorMachine
from cluster.admission.plan import EventPlan
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from tests.cluster.edge.serving import DOCUMENT, FIXTURES, START_MS, Site, at_site
from tests.cluster.edge.test_segment import raw_exchange

#: What the captured calls say of u_1001, and what they do not.
HOLD: dict[str, dict[str, Any]] = {
    "pro": {"trait": "plan", "eq": "pro"},
    "busy": {"trait": "logins", "gte": 42},
    "vip": {"trait": "vip", "eq": True},
    "old": {"trait": "created_at", "more_than_ago": "1d"},
    "beta": {"trait": "tags", "has": "BETA", "ignore_case": True},
    "here": {"trait": "city", "eq": "Lisbon"},
    "unreferred": {"trait": "referrer", "is_set": False},
}
NOT: dict[str, dict[str, Any]] = {
    "free": {"trait": "plan", "ne": "pro"},
    "ranked": {"trait": "rank", "is_set": True},
}
TYPES = {
    "plan": "string", "logins": "number", "vip": "boolean", "created_at": "timestamp", "tags": "list",
    "city": "string", "referrer": "string", "rank": "number",
}  # fmt: skip


def document() -> dict[str, Any]:
    columns = {name: {"type": kind, "source": "identify"} for name, kind in TYPES.items()}
    columns["city"]["path"] = "traits.address.city"
    keys = ["user_id", "anonymous_id"]
    return {
        "version": 1,
        "settings": {"retention": "30d"},
        "sources": DOCUMENT["sources"],
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {"columns": columns}}],
        "event_models": [{"id": "calls", "parent": "users", "type": "identify", "foreign_key": keys}],
        "audiences": [{"id": id_, "parent": "users", "where": where} for id_, where in {**HOLD, **NOT}.items()],
    }


@pytest.mark.parametrize(
    "path",
    ["segment/segment-analytics-python", "rudderstack/rudder-sdk-python", "hightouch/events-sdk-python"],
)
def test_traits_of_a_captured_call_hold_in_conditions(path: str) -> None:
    captured = json.loads((FIXTURES / f"{path}-identify.json").read_text())
    published = publish(None, parse_document(document(), "test.json", {}))

    async def check(site: Site) -> None:
        for request in captured["requests"]:
            assert (await raw_exchange(site.server.port, request))[0] == 200
        machine = EvaluatorMachine(published, clock_ms=0, seed=1)
        machine.load([], {}, START_MS)
        hits = pa.RecordBatch.from_pylist(site.evaluators[0].hits, EventPlan(published.definitions).hits_schema)
        machine.handle_batch(hits, START_MS)
        assert {name for name in {**HOLD, **NOT} if machine.is_member(name, "u_1001")} == set(HOLD)

    at_site(check, document=document())
