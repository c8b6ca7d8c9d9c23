"""The report behind `usher status`: asks every part with a time limit and adds up what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.definitions.model import Published
from cluster.runtime.protocols import ClusterState, Delivery, Evaluator, Reply


class Part(Protocol):
    """Anything that gives a status."""

    async def status(self) -> Reply:
        """Give counts, `pid` and `node`."""
        ...


@dataclass(frozen=True, slots=True)
class Peers:
    """Everyone the controller calls, by evaluator index or actor name."""

    evaluators: dict[int, Evaluator]
    delivery: Delivery
    traits: Part
    edges: dict[str, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replies:
    """Status replies; a part that did not answer has `{"error": "unreachable", ...}`."""

    evaluators: Mapping[int, Reply]
    edges: Mapping[str, Reply]
    delivery: Reply
    traits: Reply


async def gather_replies(peers: Peers, timeout_ms: int) -> Replies:
    """Ask everyone at once; returns within `timeout_ms`, whoever hangs or is gone."""
    parts: list[Part] = [*peers.evaluators.values(), *peers.edges.values(), peers.delivery, peers.traits]
    replies = await asyncio.gather(*(_ask(part.status(), timeout_ms) for part in parts))
    evaluators = dict(zip(peers.evaluators, replies, strict=False))
    edges = dict(zip(peers.edges, replies[len(evaluators) :], strict=False))
    return Replies(evaluators, edges, replies[-2], replies[-1])


async def _ask(call: Awaitable[Reply], timeout_ms: int) -> Reply:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await call
    except TimeoutError:
        return {"error": "unreachable", "message": f"no answer within {timeout_ms} ms"}


def build_report(
    state: ClusterState,
    target: Published | None,
    nodes: list[dict[str, Any]],
    controller: Reply,
    replies: Replies,
) -> Reply:
    """Give the whole of `usher status --json` (interfaces.md), from what every part answered."""
    present = {info.index for info in state.evaluators}
    evaluators = [reply for index, reply in replies.evaluators.items() if index in present]
    return {
        "url": state.settings.get("url"),
        "version": state.published.version if state.published else 0,
        "nodes": nodes,
        "actors": _actors(controller, replies),
        "partitions": len(state.owner_of_partition),
        "audiences": _audiences(state, target, evaluators),
        "syncs": replies.delivery.get("syncs", []),
        "alerts": replies.delivery.get("alerts", {}),
        "traits": replies.traits.get("parents", []),
        "sources": _sources(replies.edges),
        "events": _events(evaluators, list(replies.edges.values())),
    }


def _sources(edges: Mapping[str, Reply]) -> list[dict[str, Any]]:
    """Give, for each source that Usher reads itself, how far all edges together are with it."""
    rows: dict[str, dict[str, Any]] = {}
    for name, reply in edges.items():
        for part in reply.get("intakes", []):
            row = rows.setdefault(part["source"], {
                "id": part["source"], "topics": part["topics"], "state": "reading", "readers": 0, "partitions": 0,
                "lag": 0, "records": 0, "dead_letters": {}, "missed": 0, "problems": {},
            })  # fmt: skip
            row["readers"] += 1
            for key in ("partitions", "lag", "records", "missed"):
                row[key] += part[key]
            for reason, count in part["dead_letters"].items():
                row["dead_letters"][reason] = row["dead_letters"].get(reason, 0) + count
            if part["problem"]:
                row["state"] = "waiting"
                row["problems"][name] = part["problem"]
    return [rows[source] for source in sorted(rows)]


def _actors(controller: Reply, replies: Replies) -> list[dict[str, Any]]:
    rows = [_actor("controller", "controller", controller)]
    rows += [
        _actor(f"evaluator-{index}", "evaluator", reply) for index, reply in replies.evaluators.items()
    ]
    rows += [_actor(name, "edge", reply) for name, reply in replies.edges.items()]
    rows.append(_actor("delivery", "delivery", replies.delivery))
    rows.append(_actor("traits", "traits", replies.traits))
    return rows


def _actor(name: str, kind: str, reply: Reply) -> dict[str, Any]:
    row = {"name": name, "kind": kind, "pid": reply.get("pid"), "node": reply.get("node")}
    if "error" in reply:
        return {**row, "state": reply["error"], "message": reply.get("message", "")}
    row["state"] = reply.get("state", "ready")
    if "url" in reply:
        row["url"] = reply["url"]
    if kind == "evaluator":
        shown = ("partitions", "users", "seq", "log_bytes", "history_from_ms", "clock_ms", "lag_ms", "checkpoints")
        row.update({key: reply[key] for key in shown if key in reply})
    return row


def _audiences(
    state: ClusterState, target: Published | None, evaluators: list[Reply]
) -> list[dict[str, Any]]:
    newest = target or state.published
    if newest is None:
        return []
    preparing = set(state.preparing)
    percent = backfilled_percent(newest.version, evaluators)
    return [
        {
            "id": audience.id,
            "name": audience.name,
            "version": newest.audience_versions.get(audience.id, 0),
            "status": audience_status(audience.status, audience.id in preparing, percent),
            "size": _audience_size(audience.id, evaluators) if audience.evaluated else 0,
        }
        for audience in newest.definitions.audiences.values()
    ]


def audience_status(declared: str, preparing: bool, percent: int | None) -> str:
    """Say where an audience is.

    A published one is `preparing` from when it was accepted, `backfilling n %` from when evaluators work on it, `live`
    once all of them have this version of it in force; another is as declared: paused, draft, archived.
    """
    if declared != "published":
        return declared
    if not preparing:
        return "live"
    return "preparing" if percent is None else f"backfilling {percent} %"


def backfilled_percent(version: int, evaluators: list[Reply]) -> int | None:
    """Give how far the evaluator that is least far is with a publication; None while none has begun."""
    shares = [_share(version, reply) for reply in evaluators]
    if all(share is None for share in shares):
        return None
    return min(share or 0 for share in shares)


def _share(version: int, reply: Reply) -> int | None:
    if reply.get("version", 0) >= version:
        return 100
    backfill = reply.get("backfill")
    return int(backfill["percent"]) if backfill and backfill["version"] == version else None


def _audience_size(audience_id: str, evaluators: list[Reply]) -> int | None:
    """Add up over evaluators; None where one does not answer, because a part of the sum would mislead."""
    if any("error" in reply for reply in evaluators):
        return None
    return sum(int(reply.get("audiences", {}).get(audience_id, {}).get("size", 0)) for reply in evaluators)


def _events(evaluators: list[Reply], edges: list[Reply]) -> dict[str, Any]:
    counters = {
        name: sum(reply.get("events", {}).get(name, 0) for reply in evaluators)
        for name in ("accepted", "duplicates", "too_late")
    }
    rejected = sum(_total(reply.get("events", {}).get("rejected", 0)) for reply in [*evaluators, *edges])
    lag_ms = max((reply.get("lag_ms") or 0 for reply in evaluators), default=0)
    capped = sum(reply.get("counters", {}).get("events_capped", 0) for reply in evaluators)
    return {**counters, "rejected": rejected, "capped": capped, "lag_ms": lag_ms}


def _total(count: int | Mapping[str, int]) -> int:
    """Add up a count that may be kept by reason."""
    return sum(count.values()) if isinstance(count, Mapping) else count
