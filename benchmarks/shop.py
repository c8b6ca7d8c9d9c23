"""The workload of the cases that run a whole Usher: a shop's definitions, its customers, and its events as requests.

The audiences are the engine's (windows of minutes, so that time moves members too) and five whose membership stays
put for hours: what was sent says who must be in them, and that is checked.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa

from benchmarks.workloads import CHANNELS, engine_document

WRITE_KEY = "bench-write-key"
#: Where a request's number goes, so that its message ids are its own though its bytes are prebuilt.
PLACEHOLDER = b"############"
EVENTS_A_REQUEST = 500
EVENT_MODELS = 4
#: When the prebuilt events say they happened: `sentAt` says the same, so an event is as old as its way here.
_SENT_AT = "2026-11-23T10:00:00.000Z"
_SKUS = 1_000
_HOURS = "6h"

#: Audiences whose members are known from what was sent (`expected_members`).
CHECKED: dict[str, dict[str, Any]] = {
    "viewed": {"event": "e0", "within": _HOURS},
    "regulars": {"event": "e1", "at_least": 3, "within": _HOURS},
    "web_buyers": {"event": "e2", "within": _HOURS, "where": {"property": "channel", "eq": "web"}},
    "rich_spenders": {"all": [
        {"event": "e2", "at_least": 2, "within": _HOURS, "where": {"property": "amount", "gte": 50}},
        {"trait": "ltv", "gt": 300},
    ]},
    "gold_without_e3": {"all": [
        {"trait": "tier", "eq": "gold"}, {"not": {"event": "e3", "within": _HOURS}},
    ]},
}  # fmt: skip


def user_name(index: int) -> str:
    """Give a customer's key."""
    return f"user_{index}"


def customers(count: int, seed: int = 7) -> pa.Table:
    """Make the traits of `count` customers."""
    rng = np.random.default_rng(seed)
    return pa.table({
        "user_id": [user_name(index) for index in range(count)],
        "ltv": rng.integers(0, 600, count).astype(np.float64),
        "tier": rng.choice(["bronze", "silver", "gold"], count),
    })


def shop_document(traits_path: str, *, audiences: int = 20, seed: int = 7) -> dict[str, Any]:
    """Make the definitions; a case adds audiences and syncs of its own."""
    document = engine_document(audiences, EVENT_MODELS, np.random.default_rng(seed))
    document["sources"] = [{"id": "web", "kind": "http", "write_key": WRITE_KEY}]
    document["parent_models"][0]["traits"]["source"]["path"] = traits_path
    document["audiences"] += [{"id": name, "parent": "users", "where": where} for name, where in CHECKED.items()]
    return document


@dataclass(frozen=True, slots=True)
class EventBlock:
    """Events as columns: user, event model, channel, amount; one request's worth of them."""

    users: np.ndarray
    models: np.ndarray
    channels: np.ndarray
    amounts: np.ndarray

    def __len__(self) -> int:
        """Give the number of events."""
        return len(self.users)


def event_blocks(count: int, users: int, *, size: int = EVENTS_A_REQUEST, seed: int = 11) -> list[EventBlock]:
    """Make `count` requests' worth of events of the first `users` customers."""
    rng = np.random.default_rng(seed)
    return [
        EventBlock(
            rng.integers(0, users, size), rng.integers(0, EVENT_MODELS, size),
            rng.integers(0, len(CHANNELS), size), rng.integers(0, 100, size),
        )
        for _ in range(count)
    ]  # fmt: skip


def expected_members(
    traits: pa.Table, blocks: Sequence[EventBlock], times_sent: Sequence[int]
) -> dict[str, np.ndarray]:
    """Say who must be in each of the CHECKED audiences, by customer, once each block was taken so many times."""
    users = traits.num_rows
    web = CHANNELS.index("web")
    counts = {name: np.zeros(users, np.int64) for name in ("e0", "e1", "e2 web", "e2 big", "e3")}
    for block, times in zip(blocks, times_sent, strict=True):
        chosen = {
            "e0": block.models == 0, "e1": block.models == 1, "e3": block.models == 3,
            "e2 web": (block.models == 2) & (block.channels == web),
            "e2 big": (block.models == 2) & (block.amounts >= 50),
        }  # fmt: skip
        for name, rows in chosen.items():
            counts[name] += times * np.bincount(block.users[rows], minlength=users)
    ltv = traits.column("ltv").to_numpy()
    gold = np.asarray(traits.column("tier").to_pylist()) == "gold"
    return {
        "viewed": counts["e0"] >= 1,
        "regulars": counts["e1"] >= 3,
        "web_buyers": counts["e2 web"] >= 1,
        "rich_spenders": (counts["e2 big"] >= 2) & (ltv > 300),
        "gold_without_e3": gold & (counts["e3"] == 0),
    }


# --- requests ------------------------------------------------------------------------------------------


def batch_request(host: str, block: EventBlock) -> bytes:
    """Give a `POST /v1/batch` as Segment's libraries send it, with PLACEHOLDER for the request's number."""
    events = [segment_event(*row, position) for position, row in enumerate(rows_of(block))]
    return request_bytes("POST", "/v1/batch", host, _basic(), "application/json",
                         _json({"batch": events, "sentAt": _SENT_AT}))


def ndjson_request(host: str, block: EventBlock, timestamp: str) -> bytes:
    """Give a `POST /api/v1/events` of NDJSON, with PLACEHOLDER for the request's number."""
    lines = [_json(native_event(*row, position, timestamp)) for position, row in enumerate(rows_of(block))]
    return request_bytes("POST", "/api/v1/events", host, _basic(), "application/x-ndjson", b"\n".join(lines) + b"\n")


def native_request(host: str, block: EventBlock, timestamp: str, content_type: str) -> bytes:
    """Give a `POST /api/v1/events` of a JSON array, or of msgpack, with PLACEHOLDER for the request's number."""
    events = [native_event(*row, position, timestamp) for position, row in enumerate(rows_of(block))]
    body = msgpack.packb(events) if content_type == "application/msgpack" else _json(events)
    return request_bytes("POST", "/api/v1/events", host, _basic(), content_type, body)


def page_request(host: str, user: str, model: int, channel: str, amount: int) -> bytes:
    """Give a `POST /v1/track` as Segment's library for browsers sends it, with PLACEHOLDER for its number."""
    event = {
        **segment_event(user, model, channel, amount, 0), "messageId": f"ajs-next-{PLACEHOLDER.decode()}",
        "sentAt": _SENT_AT, "writeKey": WRITE_KEY, "anonymousId": f"anonymous-{user}", "context": _PAGE_CONTEXT,
        "_metadata": {"bundled": ["Segment.io"], "unbundled": [], "bundledIds": []},
    }  # fmt: skip
    return request_bytes("POST", "/v1/track", host, _basic(), "text/plain", _json(event), _PAGE_FIELDS)


def track_request(host: str, user: str, number: int) -> bytes:
    """Give a `POST /v1/track` of one event, as a page sends it."""
    event = {**segment_event(user, 0, "web", 42, 0), "messageId": f"track-{number}", "sentAt": _SENT_AT}
    return request_bytes("POST", "/v1/track", host, _basic(), "application/json", _json(event))


def membership_request(host: str, audience: str, user: str, key: str) -> bytes:
    """Give a look-up of one pair."""
    return request_bytes("GET", membership_path(audience, user), host, f"Bearer {key}")


def membership_path(audience: str, user: str) -> str:
    """Give the path of a look-up."""
    return f"/api/v1/audiences/{audience}/memberships/{user}"


def rows_of(block: EventBlock) -> list[tuple[str, int, str, int]]:
    """Give each event's user, event model, channel and amount."""
    return [
        (user_name(user), model, CHANNELS[channel], amount)
        for user, model, channel, amount in zip(
            block.users.tolist(), block.models.tolist(), block.channels.tolist(), block.amounts.tolist(), strict=True
        )
    ]


def segment_event(user: str, model: int, channel: str, amount: int, position: int) -> dict[str, Any]:
    """Give one track event in Segment's format, about 400 bytes."""
    return {
        "type": "track", "messageId": f"{PLACEHOLDER.decode()}-{position}", "userId": user, "event": f"event_{model}",
        "properties": _properties(channel, amount, position), "timestamp": _SENT_AT, "context": _CONTEXT,
        "integrations": {},
    }  # fmt: skip


def native_event(
    user: str, model: int, channel: str, amount: int, position: int, timestamp: str
) -> dict[str, Any]:
    """Give one event in the canonical form, about 350 bytes."""
    return {
        "type": "track", "event": f"event_{model}", "user_id": user,
        "message_id": f"{PLACEHOLDER.decode()}-{position}", "timestamp": timestamp,
        "properties": _properties(channel, amount, position), "context": _CONTEXT,
    }  # fmt: skip


_CONTEXT = {
    "library": {"name": "analytics-python", "version": "2.3.2"},
    "page": {"path": "/shop/kitchen", "referrer": "https://www.example.com/"},
}

_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
_PAGE_FIELDS = (
    f"User-Agent: {_AGENT}", "Accept: */*", "Accept-Language: en-US,en;q=0.9", "Accept-Encoding: gzip, deflate",
    "Origin: https://shop.example.com", "Referer: https://shop.example.com/",
)  # fmt: skip
_PAGE_CONTEXT = {
    "page": {"path": "/shop/kitchen", "referrer": "https://www.example.com/", "search": "", "title": "Kitchen",
             "url": "https://shop.example.com/shop/kitchen"},
    "userAgent": _AGENT, "locale": "en-US", "timezone": "Europe/Berlin",
    "library": {"name": "analytics.js", "version": "npm:next-1.84.3"},
}  # fmt: skip


def _properties(channel: str, amount: int, position: int) -> dict[str, Any]:
    return {"channel": channel, "amount": amount, "sku": f"sku-{position % _SKUS}", "currency": "EUR", "quantity": 1}


def request_bytes(
    method: str, path: str, host: str, authorization: str, content_type: str = "", body: bytes = b"",
    fields: Sequence[str] = (),
) -> bytes:  # fmt: skip
    """Write one HTTP/1.1 request; `fields`: further lines of its head."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: {authorization}", *fields]
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def numbered(request: bytes, number: int) -> bytes:
    """Give a prebuilt request its number; the length stays."""
    return request.replace(PLACEHOLDER, b"%012d" % number)


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
