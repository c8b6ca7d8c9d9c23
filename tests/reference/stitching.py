"""Anonymous ids that join users: a plain reading of docs/stitching.md, from scratch for every row."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.reference.admission import KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX, InvalidText, id_text
from tests.reference.conditions import Language, User

BOUNDS = {"events": 1_000_000, "events_per_link": 10_000, "ids_per_user": 100, "links": 1_000_000}
#: Where a link row has the id that joins, by its type.
LINKS = {"identify": "anonymous_id", "alias": "previous_id"}


@dataclasses.dataclass
class Link:
    """An id that belongs to a user; `told` is the clock of the newest row that said so."""

    user: str
    told: int


class Stitching:
    """The links of the one parent that has stitching."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        parents = [parent for parent in document.get("parent_models", []) if parent.get("stitching")]
        self.parent: str | None = parents[0]["id"] if parents else None
        given = parents[0]["stitching"] if parents and isinstance(parents[0]["stitching"], dict) else {}
        self._bounds = {**BOUNDS, **given}
        self._retention_ms = Language(document).universe_ms(self.parent) if self.parent else 0
        self._links: dict[str, Link] = {}
        self._identified: dict[str, int] = {}
        #: Accepted events of ids that belonged to nobody, so far.
        self.arrived = 0
        self.counts: Counter[str] = Counter()

    def owner(self, row: Mapping[str, Any], clock: int) -> str | None:
        """Whom the row's anonymous id belongs to, where the row names no user."""
        if self.parent is None or _id(row, "user_id") is not None:
            return None
        link = self._links.get(_id(row, "anonymous_id") or "")
        return link.user if link is not None and self._recent(link.told, clock) else None

    def link_of(self, row: Mapping[str, Any]) -> tuple[str, str | None] | None:
        """The user of a link row, and the id that joins if it has one; None: it is no link row."""
        if self.parent is None or row.get("type") not in LINKS:
            return None
        user = _id(row, "user_id")
        try:
            id_text(row.get("message_id"), MESSAGE_ID_BYTES_MAX)
        except InvalidText:
            return None
        if user is None or len(user.encode()) > KEY_BYTES_MAX:
            return None
        id_ = _id(row, LINKS[row["type"]])
        return user, id_ if id_ is None or len(id_.encode()) <= KEY_BYTES_MAX else None

    def judge(self, user: str, id_: str | None, clock: int, of_id: User | None) -> str:
        """What a link row comes to."""
        live = {each: link for each, link in self._links.items() if self._recent(link.told, clock)}
        if id_ is None or id_ == user:
            return "nothing"
        if id_ in live:
            return "renewed" if live[id_].user == user else "other_user"
        if self._recent(self._identified.get(id_), clock):
            return "is_user"
        if user in live:
            return "user_is_joined"
        if sum(link.user == user for link in live.values()) >= self._bounds["ids_per_user"]:
            return "ids_per_user"
        if len(live) >= self._bounds["links"]:
            return "links"
        named = [event.ts for event in of_id.events if event.names_user] if of_id is not None else []
        return "is_user" if any(self._recent(ts, clock) for ts in named) else "joined"

    def hold(self, user: str, id_: str, clock: int) -> None:
        """The id belongs to the user from now on."""
        self._links[id_] = Link(user, clock)

    def identify(self, user: str, clock: int) -> None:
        """A link row called someone this user."""
        self._identified[user] = clock

    def newest(self, arrivals: set[int]) -> list[int]:
        """Those of an id's events that join, in their order."""
        kept = sorted(number for number in arrivals if number >= self.arrived - self._bounds["events"])
        return kept[-self._bounds["events_per_link"] :]

    def _recent(self, ts: int | None, clock: int) -> bool:
        return ts is not None and ts + self._retention_ms > clock


def _id(row: Mapping[str, Any], field: str) -> str | None:
    return id_text(row.get(field), 1 << 40)
