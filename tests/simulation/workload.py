"""What is sent and asked: definitions and events, few enough for a story to be read, odd enough to matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

Node = dict[str, Any]

KEY: Final = "web-key"
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PARTITIONS: Final = 8
USERS: Final = ("ann", "bob", "cem", "dee", "eva", "fay", "gil", "hal")

_COLUMNS: Final = {
    "channel": {"path": "properties.channel", "type": "string"},
    "amount": {"path": "properties.amount", "type": "number"},
}
#: `gifts` finds the second user of an order: one event, two users, often of two evaluators.
_MODELS: Final[list[Node]] = [
    {"id": "views", "event": "view", "foreign_key": "user_id"},
    {"id": "orders", "event": "order", "foreign_key": "user_id"},
    {"id": "gifts", "event": "order", "foreign_key": "properties.gift_to"},
    {"id": "calls", "type": "identify", "foreign_key": "user_id", "retention": "14s"},
]
_MODEL: Final[Node] = {"parent": "users", "type": "track", "timestamp": "timestamp", "columns": _COLUMNS}

#: Conditions that counts, windows, dedup, order and time each show in. All end within 20 s.
CONDITIONS: Final[Mapping[str, Node]] = {
    "buyers": {"event": "orders", "within": "8s"},
    "twice": {"event": "orders", "at_least": 2, "within": "16s"},
    "looked_twice": {"event": "views", "exactly": 2, "within": "6s"},
    "abandoned": {"event": "views", "within": "12s", "not_followed_by": {"event": "orders"}, "after": "2s"},
    "spenders": {"event": "orders", "sum": "amount", "gt": 50, "within": "12s"},
    "looked_then_bought": {"sequence": [{"event": "views"}, {"event": "orders"}], "within": "8s"},
    "undecided": {"all": [{"event": "views", "within": "12s"}, {"not": {"event": "orders", "within": "4s"}}]},
    "rich": {"all": [{"trait": "ltv", "gt": 100}, {"event": "views", "within": "4s"}]},
    "a_while_ago": {"event": "orders", "between_ago": ["2s", "5s"]},
    "given": {"event": "gifts", "within": "7s", "where": {"property": "channel", "eq": "web"}},
    "choosy": {"event": "views", "distinct": "channel", "gte": 2, "within": "12s"},
    "quiet": {"event": "views", "at_most": 1, "within": "8s"},
    "on_pro": {"trait": "plan", "eq": "pro"},
    "off_pro": {"all": [{"trait": "plan", "ne": "pro"}, {"event": "views", "within": "6s"}]},
    "renewing": {"any": [{"trait": "renews", "within_next": "5s"}, {"trait": "renews", "within_last": "3s"}]},
}


RETENTION_LONG: Final = "2m"
#: How long events and message ids are kept: for long, or hardly longer than the longest window.
_MEMORIES: Final[list[Node]] = [
    {"retention": RETENTION_LONG, "dedup": {"horizon": "90s"}},
    {"retention": "16s", "dedup": {"horizon": "5s"}},
]


def document(stream: Random) -> Node:
    """Make definitions of a few audiences, with one sync of every change and one of the state."""
    names = sorted(stream.sample(sorted(CONDITIONS), stream.randint(2, 4)))
    audiences = [{"id": name, "parent": "users", "where": CONDITIONS[name]} for name in names]
    if stream.random() < 0.3:
        both = {"all": [{"audience": names[0]}, {"not": {"audience": names[1]}}]}
        audiences.append({"id": "both", "parent": "users", "where": both})
    columns = {
        "ltv": {"type": "number"}, "plan": {"type": "string", "source": "identify"},
        "renews": {"type": "timestamp", "source": "identify"},
    }  # fmt: skip
    traits = {"source": {"kind": "parquet", "path": "users.parquet"}, "columns": columns}
    return {
        "version": 1,
        "settings": {**stream.choice(_MEMORIES), "partitions": PARTITIONS},
        "sources": [{"id": "web", "kind": "http", "write_key": KEY}],
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": traits}],
        "event_models": [{**_MODEL, **model} for model in _MODELS],
        "audiences": audiences,
        "destinations": [
            {
                "id": f"{deliver}-hook", "kind": "webhook", "url": f"https://{deliver}-hook.example/hook",
                "secret": SECRET, "timeout": "3s", "batch_size": stream.choice([1, 2, 5]),
            }
            for deliver in ("changes", "state")
        ],
        "syncs": [
            {
                "id": deliver, "audience": stream.choice(names), "destination": f"{deliver}-hook", "deliver": deliver,
                "identifiers": {"user_id": "user_id"}, "batch_age": stream.choice(["5ms", "200ms", "2s"]),
            }
            for deliver in ("changes", "state")
        ],
    }  # fmt: skip


def changed(stream: Random, before: Node) -> Node:
    """Make definitions that follow these: audiences come, go and change; what syncs name stays."""
    kept = {sync["audience"] for sync in before["syncs"]}
    audiences = [each for each in before["audiences"] if each["id"] in kept]
    there = {each["id"] for each in audiences}
    new_names = [name for name in stream.sample(sorted(CONDITIONS), 2) if name not in there]
    audiences += [{"id": name, "parent": "users", "where": CONDITIONS[name]} for name in new_names]
    if stream.random() < 0.5:
        place = stream.randrange(len(audiences))
        other = CONDITIONS[stream.choice(sorted(CONDITIONS))]
        audiences[place] = {**audiences[place], "where": {"any": [audiences[place]["where"], other]}}
    new = {**before, "audiences": [each for each in audiences if not _refers(each["where"])]}
    if stream.random() < 0.5:
        # Models and columns have other places then: what was decoded for the old ones fits the new ones no more.
        new["event_models"] = list(reversed(before["event_models"]))
    return new


def _refers(node: Any) -> bool:
    """Say whether a condition names an audience: that one may be gone."""
    if isinstance(node, list):
        return any(map(_refers, node))
    return isinstance(node, dict) and ("audience" in node or any(map(_refers, node.values())))


def event(stream: Random, users: Sequence[str], mark: int, now_ms: int) -> Node:
    """Make an event that differs from every other in `properties.mark`."""
    properties: Node = {"mark": mark, "channel": stream.choice(["web", "app"])}
    row: Node = {"type": "track", "event": stream.choice(["view", "order", "order"]), "user_id": stream.choice(users)}
    if row["event"] == "order":
        properties["amount"] = stream.choice([5, 20, 40])
        if stream.random() < 0.4:
            properties["gift_to"] = stream.choice(users)
    if stream.random() < 0.9:
        row["message_id"] = f"m{mark}"
    chance = stream.random()
    if chance < 0.15:
        row["timestamp"] = now_ms - stream.choice([1, 900, 5_000, 15_000, 130_000])
    elif chance < 0.2:
        row["timestamp"] = now_ms + 4_000
    if stream.random() < 0.04:
        row["event"] = "no such event"
    if stream.random() < 0.2:
        said = {"plan": ["pro", "pro", "free", None], "renews": [now_ms + 7_000, now_ms - 1_000, None, "soon"]}
        row.update(type="identify", event="call")
        properties.pop("gift_to", None)
        row["traits"] = {name: stream.choice(values) for name, values in said.items() if stream.random() < 0.7}
    return {**row, "properties": properties}
