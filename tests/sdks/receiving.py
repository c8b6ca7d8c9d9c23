"""A site whose definitions read what the stories send, and what it took of them, by canonical names."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import rudderstack.analytics.client as rudderstack_client
import segment.analytics.client as segment_client

from tests.cluster.edge.serving import Site, at_site
from tests.sdks import javascript

WRITE_KEY = "wk_shop"
#: When bob bought, long before the SDK was asked to say so.
LONG_AGO = datetime(2025, 11, 30, 15, tzinfo=UTC)
#: How far an event's time may lie from when it was made, here where everything is slow.
NEAR_MS = 120_000
Calls = list[tuple[str, dict[str, Any]]]

_IDS = ["user_id", "anonymous_id"]


def model(name: str, kind: str, event: str | None, **columns: tuple[str, str]) -> dict[str, Any]:
    read = {column: {"path": path, "type": type_} for column, (path, type_) in columns.items()}
    named = {"event": event} if event else {}
    return {"id": name, "parent": "users", "type": kind, "foreign_key": _IDS, "columns": read, **named}


DOCUMENT: dict[str, Any] = {
    "version": 1,
    "settings": {"partitions": 16},
    "sources": [
        {"id": "shop", "kind": "http", "write_key": WRITE_KEY},
        {"id": "other", "kind": "http", "write_key": "wk_other"},
    ],
    "parent_models": [{"id": "users", "primary_key": "user_id"}],
    "event_models": [
        model("bought", "track", "bought", channel=("properties.channel", "string"),
               amount=("properties.amount", "number"), note=("properties.note", "string")),
        model("identified", "identify", None, plan=("traits.plan", "string"), seats=("traits.seats", "number")),
        model("home", "page", "Home", section=("properties.section", "string")),
        model("basket", "screen", "Basket", items=("properties.items", "number")),
        model("joined", "group", None, group=("group_id", "string"), company=("traits.name", "string")),
    ],
    "audiences": [
        {"id": "buyers", "name": "Buyers", "parent": "users", "where": {"event": "bought", "within": "5m"}},
    ],
}  # fmt: skip

#: Every call that the SDKs of servers have, as all four take it.
STORY: Calls = [
    ("identify", {"userId": "ann", "traits": {"plan": "pro", "seats": 3}}),
    ("track", {"userId": "ann", "event": "bought",
               "properties": {"channel": "web", "amount": 12.5, "note": "Füße 🎈\x00"}}),
    ("track", {"anonymousId": "visitor-1", "event": "bought", "properties": {"channel": "app"}}),
    ("track", {"userId": "bob", "event": "bought", "timestamp": LONG_AGO.isoformat()}),
    ("page", {"userId": "ann", "name": "Home", "properties": {"section": "shoes"}}),
    ("screen", {"userId": "ann", "name": "Basket", "properties": {"items": 2}}),
    ("group", {"userId": "ann", "groupId": "acme", "traits": {"name": "Acme"}}),
    ("alias", {"userId": "ann", "previousId": "visitor-1"}),
]  # fmt: skip


class Taken(NamedTuple):
    """An event that a model took.

    `age_ms`: how long before now it happened (none said: 0); `values`: those not null.
    """

    model: str
    key: str
    source: str
    age_ms: int
    values: dict[str, Any]


def taken(site: Site) -> list[Taken]:
    """Give what the evaluator was sent, in that order."""
    plan = site.server.watcher.current.decoder.plan
    found = []
    for hit in site.evaluators[0].hits:
        assert hit["message_id"], hit
        model = plan.models[hit["model"]]
        values = {name: hit[f"c{column}"] for name, column in plan.columns_of_model[hit["model"]].items()}
        at_ms = hit["ts_ms"] or 0
        age_ms = round(time.time() * 1000) - at_ms if at_ms and not hit["ts_relative"] else -at_ms
        source = plan.sources[hit["source"]]
        found.append(
            Taken(model.id, hit["key"], source, age_ms, {k: v for k, v in values.items() if v is not None})
        )
    return found


def check_story(site: Site) -> None:
    """Hold what arrived to STORY, to the last value; alias feeds no model, and is counted."""
    found = taken(site)
    assert {(event.source) for event in found} == {"shop"}
    assert sorted((event.model, event.key, event.values) for event in found) == sorted([
        ("identified", "ann", {"plan": "pro", "seats": 3.0}),
        ("bought", "ann", {"channel": "web", "amount": 12.5, "note": "Füße 🎈\x00"}),
        ("bought", "visitor-1", {"channel": "app"}),
        ("bought", "bob", {}),
        ("home", "ann", {"section": "shoes"}),
        ("basket", "ann", {"items": 2.0}),
        ("joined", "ann", {"group": "acme", "company": "Acme"}),
    ], key=lambda row: row[:2])  # fmt: skip
    for event in found:
        due_ms = time.time() * 1000 - LONG_AGO.timestamp() * 1000 if event.key == "bob" else 0
        assert abs(event.age_ms - due_ms) < NEAR_MS, event
    assert site.server.metrics.events == {"accepted": 7, "no_model": 1}


def statuses(site: Site, route: str) -> list[int]:
    """Give the status of every answer on a route, in no order."""
    found: list[int] = []
    for line in site.server.metrics.exposition().decode().splitlines():
        if line.startswith("usher_http_requests_total{") and f'route="{route}"' in line:
            labels, _, count = line.rpartition(" ")
            found += [int(labels.partition('status="')[2][:3])] * int(float(count))
    return sorted(found)


def at_shop(test: Callable[[Site], Awaitable[None]]) -> None:
    at_site(test, document=copy.deepcopy(DOCUMENT))


# --- senders: by name, all alike -------------------------------------------------------------------


async def send(
    site: Site, sdk: str, calls: Calls, key: str = WRITE_KEY, *, retries: int = 3, timeout_s: int = 30
) -> list[str]:
    """Have an SDK make calls and deliver; gives the errors that it reported."""
    kind, _, vendor = sdk.partition(" ")
    if kind == "python":
        return await asyncio.to_thread(_by_python, vendor, site.url, calls, key, retries, timeout_s)
    answer = await javascript.run(
        "servers.mjs", sdk=vendor, url=site.url, key=key, calls=calls, retries=retries, timeoutMs=timeout_s * 1_000
    )
    errors: list[str] = answer["errors"]
    return errors


def _by_python(vendor: str, url: str, calls: Calls, key: str, retries: int, timeout_s: int) -> list[str]:
    errors: list[str] = []
    client_of: Any = {"segment": segment_client.Client, "rudderstack": rudderstack_client.Client}[vendor]
    client = client_of(
        key, host=url, max_retries=retries, gzip=True, upload_interval=0.1, timeout=timeout_s,
        on_error=lambda error, items: errors.append(str(error)),
    )  # fmt: skip
    for method, parameters in calls:
        snake = {_SNAKE.get(name, name): value for name, value in parameters.items()}
        if "timestamp" in snake:
            snake["timestamp"] = datetime.fromisoformat(snake["timestamp"])
        getattr(client, method)(**copy.deepcopy(snake))
    client.flush()
    client.join()
    return errors


_SNAKE = {"userId": "user_id", "anonymousId": "anonymous_id", "groupId": "group_id", "previousId": "previous_id"}
