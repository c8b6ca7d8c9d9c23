"""`usher status`: everything in one look, and what is wrong in full."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from cluster.cli.status import _whole, state_text
from cluster.client.calls import status
from cluster.client.models import Status

REPORT = {
    "url": "http://127.0.0.1:8080",
    "version": 3,
    "partitions": 64,
    "nodes": [{"id": "n1", "host": "here", "alive": True}, {"id": "n2", "host": "gone-host", "alive": False}],
    "actors": [
        {"name": "evaluator-0", "kind": "evaluator", "pid": 4321, "node": "n1", "state": "live", "lag_ms": 7,
         "users": 12_345, "log_bytes": 3_000_000,
         "checkpoints": {
             "newest": {"seq": 9, "taken_at_ms": 1_764_518_400_000, "bytes": 5_000_000, "pause_ms": 1.2, "write_ms": 3},
             "error": "Checkpoints at s3://b cannot be written (x): no answer.", "events_since": 4_321,
             "recovered": {"from": "checkpoint 7", "checkpoint_seq": 7, "events": 5, "passed_over": [
                 {"checkpoint": "8.checkpoint", "reason": "damaged", "message": "It is cut off."}]}}},
        {"name": "delivery", "kind": "delivery", "pid": None, "node": None, "state": "unreachable",
         "message": "no answer within 2000 ms"},
    ],
    "traits": [
        {"parent": "users", "state": "failed", "rows": 5, "loaded_at_ms": 1_764_518_400_000, "source": "u.parquet",
         "error": {"reason": "missing_column", "message": "Column ltv is missing."}},
    ],
    "sources": [
        {"id": "orders", "topics": ["shop.events"], "state": "waiting", "readers": 2, "partitions": 4, "lag": 71_234,
         "records": 9_001, "dead_letters": {"invalid_json": 3, "empty": 2}, "missed": 17,
         "problems": {"edge-ingest-0": "1/1 brokers are down"}},
    ],
    "audiences": [{"id": "hide_promo", "name": "Hide", "version": 2, "status": "backfilling 7 %", "size": None}],
    "syncs": [{"id": "push", "state": "broken", "backlog": 1_500, "delivered": 7, "failed": 2, "reason": "410 Gone"}],
    "events": {"accepted": 1_234_567, "duplicates": 3, "rejected": 4, "too_late": 5, "lag_ms": 7},
}  # fmt: skip


def read(report: object) -> Status:
    return status().result(200, {}, json.dumps(report).encode())


@pytest.mark.parametrize("width", [80, 160])
def test_the_one_look_shows_every_part_and_every_reason(width: int) -> None:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(_whole(read(REPORT), "http://127.0.0.1:8080"))
    shown = captured.get()
    for part in (
        "1,234,567 events accepted", "64 partitions", "1 node", "gone-host is gone", "evaluator-0", "12,345", "3 MiB",
        "delivery: no answer within 2000 ms", "users: Column ltv is missing.", "hide_promo", "backfilling 7 %",
        "71,234", "orders: edge-ingest-0: 1/1 brokers are down", "orders: 17 records were deleted before they were",
        "1,500", "push: 410 Gone", "5 MiB", "4,321", "checkpoint 7", "passed over 8.checkpoint: It is cut off.",
        "checkpoint: Checkpoints at s3://b cannot be written (x): no answer.",
    ):  # fmt: skip
        assert part in shown
    assert max(map(len, shown.splitlines())) <= width


def test_an_empty_system_says_how_to_go_on() -> None:
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(_whole(read({"actors": []}), "http://127.0.0.1:8080"))
    assert "usher apply" in captured.get()


STYLES = [
    ("live", "green"), ("preparing", "yellow"), ("backfilling 7 %", "yellow"), ("broken", "red"), ("", "dim"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "style"), STYLES)
def test_states_are_coloured_by_whether_somebody_must_look(state: str, style: str) -> None:
    assert state_text(state).style == style
