"""Visitors who are known only later: a parent model with stitching, in some plans beside the users that all have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

from cluster.model.partitions import HOME_PARTITION, partition_of
from tests.conftest import START_MS
from tests.simulation.dice import dice
from tests.simulation.workload import PARTITIONS, Node

if TYPE_CHECKING:
    from tests.simulation.plans import Plan, Request

#: What keys of this parent begin with, and no other key does.
MARK: Final = "v-"
_VISITORS: Final = tuple(f"{MARK}{name}" for name in ("kim", "lea", "max"))
_DEVICES: Final = tuple(f"{MARK}device-{n}" for n in range(4))
_PARENT: Final[Node] = {"id": "visitors", "primary_key": "user_id", "stitching": {"ids_per_user": 2}}
_MODEL: Final[Node] = {
    "id": "visits", "parent": "visitors", "type": "track", "event": "visit", "timestamp": "timestamp",
    "foreign_key": ["user_id", "anonymous_id"], "columns": {},
}  # fmt: skip
_AUDIENCES: Final[list[Node]] = [
    {"id": "here", "parent": "visitors", "where": {"event": "visits", "within": "9s"}},
    {"id": "regulars", "parent": "visitors", "where": {"event": "visits", "at_least": 3, "within": "15s"}},
    {"id": "once", "parent": "visitors", "where": {"event": "visits", "exactly": 1, "within": "12s"}},
]


def partition_of_user(user: str) -> int:
    """Give the partition of a key, whichever parent it is of."""
    return HOME_PARTITION if user.startswith(MARK) else partition_of(user, PARTITIONS)


def is_visitors(row: Node) -> bool:
    """Say whether a row is about visitors."""
    return any(id_.startswith(MARK) for id_ in ids_of(row))


def with_visitors(plan: Plan) -> Plan:
    """Give a plan with visitors beside all else that it has; as it is where it has them."""
    if _PARENT in plan.documents[0][1]["parent_models"]:
        return plan
    stream = dice(plan.seed, "visitors")
    requests: list[Request] = list(plan.requests)
    mark = max(row["properties"]["mark"] for request in requests for row in request.rows)
    for place, request in enumerate(requests):
        rows = []
        for _ in range(stream.choice([0, 1, 2, 4])):
            mark += 1
            rows.append(_row(stream, mark, START_MS + int(request.at_s * 1000)))
        requests[place] = replace(request, rows=[*request.rows, *rows])
    documents = [(at_s, _with_parent(document)) for at_s, document in plan.documents]
    return plan.without(requests=requests, documents=documents)


def _with_parent(document: Node) -> Node:
    # Identify calls are links here: what they say of other users' traits comes from a source that sends nothing.
    others = [
        {**model, "source": "app"} if model["type"] == "identify" else model for model in document["event_models"]
    ]
    return {
        **document,
        "sources": [*document["sources"], {"id": "app", "kind": "http", "write_key": "app-key"}],
        "parent_models": [*document["parent_models"], _PARENT],
        "event_models": [*others, _MODEL],
        "audiences": [*document["audiences"], *_AUDIENCES],
    }


def _row(stream: Random, mark: int, now_ms: int) -> Node:
    """Make a visit, known or not, or a link: at times of a device that is another's, or of a user's own id."""
    user, device = stream.choice(_VISITORS), stream.choice(_DEVICES)
    row: dict[str, Any] = {"properties": {"mark": mark}}
    if stream.random() < 0.9:
        row["message_id"] = f"m{mark}"
    if stream.random() < 0.15:
        row["timestamp"] = now_ms - stream.choice([900, 5_000, 15_000])
    chance = stream.random()
    if chance < 0.55:
        return {**row, "type": "track", "event": "visit", "user_id": "", "anonymous_id": device}
    if chance < 0.7:
        return {**row, "type": "track", "event": "visit", "user_id": user, "anonymous_id": device}
    if chance < 0.9:
        return {**row, "type": "identify", "event": "identify", "user_id": user, "anonymous_id": device}
    other = stream.choice([device, *_VISITORS])
    return {**row, "type": "alias", "event": "alias", "user_id": user, "previous_id": other}


def ids_of(row: Node) -> Sequence[str]:
    """Give every id that a row names."""
    named = (row.get(field) for field in ("user_id", "anonymous_id", "previous_id"))
    return [id_ for id_ in (*named, row["properties"].get("gift_to")) if id_]
