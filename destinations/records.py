"""What travels to a destination: records, the batches they form, and what an attempt knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

#: A trait's or identifier's value; None only inside `traits` and in what `identify` is given.
Value: TypeAlias = str | float | bool | int | list[str] | None

Verb: TypeAlias = Literal["add", "remove"]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing to tell a destination about one user. `at_ms` is UTC ms; a user's order is `(at_ms, n)`.

    `verb` says what a list does with it. It is `add` for an entry and `remove` for an exit, except where a member's
    identifiers changed: then `kind` stays `entered`, `cause` is `identifiers`, and a `remove` of the old identifiers
    comes before an `add` of the new ones, both under the transition id of the entry.
    `identifiers` are as `Destination.identify` gave them: normalised, and hashed where the API wants hashes.
    """

    transition_id: str
    audience_id: str
    audience_version: int
    user_id: str
    identifiers: dict[str, Any]
    kind: Literal["entered", "exited"]
    at_ms: int
    n: int
    cause: str
    traits: dict[str, Any]
    verb: Verb


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one sync in sending order, all of one `key`, and the id under which every attempt travels."""

    id: str
    sync: str
    records: tuple[Record, ...] = field(repr=False)
    key: str = ""


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch as it was stored: `body` is what `encode` gave for these records."""

    id: str
    sync: str
    body: bytes = field(repr=False)
    records: tuple[Record, ...] = field(repr=False)
    key: str = ""

    @property
    def record_count(self) -> int:
        """How many records are in it: `judge` gives as many outcomes."""
        return len(self.records)


@dataclass(frozen=True, slots=True)
class SyncShape:
    """What a kind may know of a sync. `fields` are the keys of its `identifiers`."""

    sync: str
    audience_id: str
    audience_name: str
    fields: frozenset[str]
    on_exit: Literal["remove", "nothing", "archive"]
    deliver: Literal["state", "changes"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known when a request is built.

    `learned` is what steps and answers of this sync taught (list ids, cursors of a search): durable, no secrets.
    `token` is the access token where the kind's `token_scope` asks for one, else empty. `since_ms` is when the resync
    began that a `purge` ends.
    """

    now_ms: int
    sync: SyncShape
    learned: Mapping[str, Any] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    since_ms: int = 0

    @property
    def now_s(self) -> int:
        """UTC seconds."""
        return self.now_ms // 1000
