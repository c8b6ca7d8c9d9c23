"""What is defined, known and sent while processes die: little enough to work out by hand, odd enough to matter.

Every event says when it happened, and the machine has one clock, so membership follows from the set of events that were
acknowledged, whenever and however often they were sent. Audiences that look back for hours keep their members to the
end; those that look back for seconds keep evaluators busy with time.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any, Final

import pyarrow as pa

WRITE_KEY: Final = "chaos-write-key"
#: Whoever has ordered is in this audience for hours: an acknowledged order must show in every later look-up.
BUYERS: Final = "buyers"
#: Syncs by what they deliver.
SYNCS: Final = {"every_change": "just_bought", "every_entry": BUYERS, "net": "thrice"}
#: The longest look-back of an audience that time moves within a run, in s.
SHORT_S: Final = 3
_HOURS: Final = "12h"

Node = dict[str, Any]

_COLUMNS: Final = {
    "channel": {"path": "properties.channel", "type": "string"},
    "amount": {"path": "properties.amount", "type": "number"},
}
_MODEL: Final[Node] = {"parent": "users", "type": "track", "timestamp": "timestamp", "columns": _COLUMNS}
#: `gifts` finds the second user of an order: one event, two users, often of two evaluators.
_MODELS: Final[list[Node]] = [
    {"id": "views", "event": "view", "foreign_key": "user_id"},
    {"id": "orders", "event": "order", "foreign_key": "user_id"},
    {"id": "gifts", "event": "order", "foreign_key": "properties.gift_to"},
]
_AUDIENCES: Final[dict[str, Node]] = {
    BUYERS: {"event": "orders", "within": _HOURS},
    # True of nobody any more whose order was counted twice.
    "thrice": {"event": "orders", "exactly": 3, "within": _HOURS},
    "spenders": {"event": "orders", "sum": "amount", "gt": 100, "within": _HOURS},
    "looked_then_bought": {"sequence": [{"event": "views"}, {"event": "orders"}], "within": _HOURS},
    "rich_buyers": {"all": [{"trait": "ltv", "gt": 100}, {"event": "orders", "within": _HOURS}]},
    "given": {"event": "gifts", "within": _HOURS, "where": {"property": "channel", "eq": "web"}},
    "givers_alone": {"all": [{"audience": BUYERS}, {"not": {"audience": "given"}}]},
    "just_bought": {"event": "orders", "within": "2s"},
    "a_while_ago": {"event": "orders", "between_ago": ["1s", "3s"]},
    "abandoned": {"event": "views", "within": f"{SHORT_S}s", "not_followed_by": {"event": "orders"}, "after": "1s"},
}
#: What the other of the two definitions has in place of these.
_OTHER_AUDIENCES: Final[dict[str, Node]] = {
    "spenders": {"event": "orders", "sum": "amount", "gt": 60, "within": _HOURS},
    "quiet": {"event": "views", "at_most": 1, "within": _HOURS},
    "choosy": {"event": "views", "distinct": "channel", "gte": 3, "within": _HOURS},
}


def document(traits_path: str, url: str, secret: str, *, other: bool = False) -> Node:
    """Make the definitions, or the other ones that are published in turn with them."""
    audiences = {**_AUDIENCES, **_OTHER_AUDIENCES} if other else _AUDIENCES
    models = _MODELS[::-1] if other else _MODELS
    columns = {"ltv": {"type": "number"}}
    traits = {"source": {"kind": "parquet", "path": traits_path}, "columns": columns, "refresh": "1s"}
    return {
        "version": 1,
        "settings": {"retention": _HOURS, "dedup": {"horizon": _HOURS}},
        "sources": [{"id": "web", "kind": "http", "write_key": WRITE_KEY}],
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": traits}],
        "event_models": [{**_MODEL, **model} for model in models],
        "audiences": [{"id": name, "parent": "users", "where": where} for name, where in audiences.items()],
        "destinations": [{
            "id": "hook", "kind": "webhook", "url": url, "secret": secret, "allow_private": True, "timeout": "3s",
            "batch_size": 20,
        }],
        "syncs": [
            {
                "id": sync, "audience": audience, "destination": "hook", "identifiers": {"user_id": "user_id"},
                "deliver": "state" if sync == "net" else "changes", "batch_age": "20ms",
            }
            for sync, audience in SYNCS.items()
        ],
    }  # fmt: skip


def traits(users: int, stream: Random) -> pa.Table:
    """Make a trait snapshot: some users have no row, some no value."""
    rows = [f"user-{number}" for number in range(users) if stream.random() < 0.8]
    return pa.table({"user_id": rows, "ltv": [stream.choice([50.0, 150.0, None]) for _ in rows]})


class Shoppers:
    """Makes events. Users come and go, so that everybody has few events however long it takes."""

    def __init__(self, seed: int) -> None:
        self._stream = Random(seed)
        self._made = 0
        self._last_ms = 0

    def request(self) -> list[Node]:
        """Make the events of one request, which happen now or within the next few ms.

        No two at the same ms: which is first would be a matter of which request arrives first.
        """
        return [self._event() for _ in range(self._stream.randint(1, 12))]

    def _event(self) -> Node:
        stream, number = self._stream, self._made
        self._made += 1
        self._last_ms = max(self._last_ms + 1, int(time.time() * 1000))
        properties: Node = {"mark": number, "channel": stream.choice(["web", "app", "shop"])}
        kind = stream.choice(["view", "order"])
        if kind == "order":
            properties["amount"] = stream.choice([5, 20, 40])
            if stream.random() < 0.3:
                properties["gift_to"] = self._user()
        return {
            "type": "track", "event": kind, "user_id": self._user(), "message_id": f"m-{number}",
            "timestamp": self._last_ms, "properties": properties,
        }  # fmt: skip

    def _user(self) -> str:
        return f"user-{self._made // USER_EVERY_EVENTS + self._stream.randrange(USERS_AT_ONCE)}"


#: Users who are about at the same time, and after how many events one of them makes way for the next.
USERS_AT_ONCE: Final = 300
USER_EVERY_EVENTS: Final = 12


def users_of(row: Node) -> list[str]:
    """Give everybody whom an event is of."""
    gifted = row["properties"].get("gift_to")
    return [row["user_id"]] if gifted is None else [row["user_id"], gifted]
