"""A sound document with every optional key, and a small kind of destination."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pydantic

from cluster.definitions.model import Condition, Definitions
from cluster.definitions.parsing import parse_document
from cluster.errors import DefinitionError, Fault

Tree = dict[str, Any]


class HookSettings(pydantic.BaseModel):
    """Settings of the sample kind: one of each sort that a real kind has."""

    model_config = pydantic.ConfigDict(extra="forbid")
    url: str
    secret: pydantic.SecretStr | None = None
    headers: dict[str, str] = pydantic.Field(default_factory=dict)
    retries: int | list[int] = 3
    batch_size: int = pydantic.Field(default=100, ge=1, le=1_000)


@dataclass(frozen=True)
class Kind:
    """A destination kind as definitions see it."""

    kind: str = "webhook"
    settings_model: type[pydantic.BaseModel] = HookSettings
    exits: frozenset[str] = field(default_factory=lambda: frozenset({"remove", "nothing"}))
    exit_refusals: Mapping[str, str] = field(default_factory=lambda: {"archive": "it has no list"})
    identifier_fields: Mapping[str, str] | None = None

    def sync_faults(
        self, settings: Any, *, fields: frozenset[str], on_exit: str, deliver: str | None
    ) -> Sequence[tuple[str, str, str]]:
        return [("deliver", "this hook only knows states", "state")] if "no_changes" in settings.headers else []


KINDS: Final[Mapping[str, Kind]] = {"webhook": Kind()}

_DOCUMENT: Final[Tree] = {
    "version": 1,
    "settings": {
        "retention": "7d", "dedup": {"horizon": "24h", "max_ids": 1_000}, "partitions": 32,
        "log_max_bytes": 10_000_000, "sync_log": {"keep": "3d", "max_bytes": 2**21},
    },
    "sources": [
        {"id": "web", "kind": "http", "write_key": "key-of-web", "app_id": "shop", "name": "Web",
        "description": "The shop"},
        {"id": "app", "kind": "http", "app_id": ["ios", "android"]},
    ],
    "parent_models": [
        {
            "id": "users",
            "primary_key": "user_id",
            "name": "Users",
            "description": "Shoppers",
            "traits": {
                "source": {"kind": "parquet", "path": "users.parquet"},
                "refresh": "60s",
                "columns": {
                    "ltv": {"type": "number"}, "tier": {"type": "string"}, "last_seen": {"type": "timestamp"},
                    "opted_in": {"type": "boolean"}, "interests": {"type": "list"}, "email": {"type": "string",
                    "pii": True},
                },
            },
        },
        {"id": "accounts", "primary_key": "account_id"},
    ],
    "event_models": [
        {
            "id": "order",
            "name": "Order completed",
            "description": "Paid orders",
            "parent": "users",
            "source": "web",
            "type": "track",
            "event": "order_completed",
            "foreign_key": "user_id",
            "timestamp": "timestamp",
            "retention": "2d",
            "columns": {
                "channel": {"path": "properties.channel", "type": "string"},
                "amount": {"path": "properties.amount", "type": "number"},
                "seen_at": {"path": "properties.seen_at", "type": "timestamp"},
                "first": {"path": "properties.is_first", "type": "boolean"},
                "tags": {"path": "properties.tags", "type": "list"},
            },
        },
        {"id": "view", "parent": "users", "type": "page", "foreign_key": ["user_id", "anonymous_id"]},
        {"id": "login", "parent": "accounts", "foreign_key": "group_id"},
    ],
    "audiences": [
        {
            "id": "hide_promo",
            "name": "Hide the promo",
            "description": "After a purchase",
            "parent": "users",
            "status": "published",
            "where": {
                "all": [
                    {"event": "order", "within": "5m", "where": {"property": "channel", "eq": "web"}},
                    {"trait": "ltv", "gt": 300},
                ]
            },
        },
        {"id": "quiet", "parent": "users", "status": "paused", "where": {"not": {"event": "view", "within": "1h"}}},
        {"id": "idea", "parent": "users", "status": "draft", "where": {"trait": "tier", "in": ["gold"]}},
        {"id": "old", "parent": "users", "status": "archived", "where": {"audience": "idea"}},
        {"id": "again", "parent": "users", "where": {"any": [{"audience": "hide_promo"}, {"audience": "quiet"}]}},
    ],
    "destinations": [
        {
            "id": "personalization",
            "kind": "webhook",
            "name": "Personalization",
            "description": "The shop's own",
            "url": "https://example.com/hooks",
            "secret": "hush-hush-hush",
            "headers": {"x-team": "growth"},
            "batch_size": 50,
        }
    ],
    "syncs": [
        {
            "id": "promo_suppression",
            "name": "Promo suppression",
            "description": "To the shop",
            "audience": "hide_promo",
            "destination": "personalization",
            "identifiers": {"user_id": "user_id", "mail": "email"},
            "on_exit": "remove",
            "deliver": "changes",
            "initial": "none",
            "on_delete": "keep",
            "traits": ["ltv", "tier"],
            "batch_size": 20,
            "batch_age": "250ms",
        },
        {"id": "quiet_sync", "audience": "quiet", "destination": "personalization",
        "identifiers": {"user_id": "user_id"}},
    ],
}


def document() -> Tree:
    """Give a fresh copy."""
    return copy.deepcopy(_DOCUMENT)


def parse(tree: Mapping[str, Any]) -> Definitions:
    """Parse as a document of one file, `shop.json`."""
    return parse_document(tree, "shop.json", KINDS)


def faults_of(tree: Mapping[str, Any]) -> list[Fault]:
    """Give the faults of a document that has some, none for a sound one."""
    try:
        parse(tree)
    except DefinitionError as error:
        return error.faults
    return []


def changed(path: str, value: object) -> Tree:
    """Give the sample with `value` at a dotted path (`audiences.0.where`); `...` takes the key out."""
    tree = document()
    *steps, last = path.split(".")
    holder: Any = tree
    for step in steps:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    key: Any = int(last) if isinstance(holder, list) else last
    if value is ...:
        del holder[key]
    elif isinstance(holder, list) and key == len(holder):
        holder.append(value)
    else:
        holder[key] = value
    return tree


def with_where(where: object) -> Tree:
    """Give the sample with another condition in its first audience."""
    return changed("audiences.0.where", where)


def condition(where: object) -> Condition:
    """Parse a condition in the sample's first audience."""
    return parse(with_where(where)).audiences["hide_promo"].where
