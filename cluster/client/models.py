"""What the client gives back: frozen, typed, checked when decoded. Fields a newer server adds are ignored.

Times are UTC ms since 1970. Definition objects are `Document`s: the JSON of semantics.md §1.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import field

#: A definition object or a whole document, as JSON.
Document: TypeAlias = dict[str, Any]


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One user in one audience. All but `is_member` need `detail=True`.

    `since` is when the user entered; `changes_at` when membership changes next if nothing happens (None: not
    by itself).
    """

    is_member: bool = field(name="isMember")
    as_of: int | None = None
    since: int | None = None
    changes_at: int | None = None
    version: int | None = None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One user and one audience."""

    user: str
    audience: str
    is_member: bool = field(name="isMember")


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """Every pair asked for."""

    memberships: list[Pair]

    def by_user(self) -> dict[str, dict[str, bool]]:
        """Give user -> audience -> member."""
        result: dict[str, dict[str, bool]] = {}
        for pair in self.memberships:
            result.setdefault(pair.user, {})[pair.audience] = pair.is_member
        return result


class UserMemberships(msgspec.Struct, frozen=True, kw_only=True):
    """The audiences that a user is in."""

    user: str
    audiences: list[str]


class MembersPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of members; `cursor` None: the last one."""

    members: list[str]
    cursor: str | None = None
    as_of: int | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one object: `added`, `changed`, `removed` or `unchanged`."""

    kind: str
    id: str
    change: str


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """How many evaluators there are, or are to be; `pause_ms`: how long events waited while users were handed over.

    `under_way`: it goes on by itself; `percent` of what is to be read is read, `waits_for` says what keeps it.
    """

    evaluators: int
    partitions: int
    pause_ms: int = 0
    under_way: bool = False
    percent: int = 100
    waits_for: str = ""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What an apply did, or a plan would do. `preparing`: audiences whose backfill is still under way."""

    version: int
    changes: list[Change]
    preparing: list[str] = []
    message: str = ""

    @property
    def changed(self) -> list[Change]:
        """The changes without what stays as it is."""
        return [change for change in self.changes if change.change != "unchanged"]


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not taken: its place in the request, and why."""

    index: int
    reason: str


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an event request; the accepted events are durable."""

    accepted: int
    duplicates: int = 0
    rejected: list[Rejected] = []


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key. `key` is set only in the answer to its creation, and never shown by repr."""

    id: str
    name: str
    role: str
    created_at_ms: int | None = field(name="created_at", default=None)
    key: str | None = None

    def __repr__(self) -> str:
        """Show all but the key."""
        return f"ApiKey(id={self.id!r}, name={self.name!r}, role={self.role!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show all but the key, also in rich's tracebacks and prints."""
        return [("id", self.id), ("name", self.name), ("role", self.role)]


class SyncLog(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a sync's log, newest last; ask again with `after=next`."""

    rows: list[dict[str, Any]]
    next: int = 0


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters go out again."""

    retried: int


class Resyncing(msgspec.Struct, frozen=True, kw_only=True):
    """A resync that began; `SyncStatus.resyncing` tells whether it is over.

    `strays`: why those stay whom only the destination knows; empty where it is asked who is there.
    """

    resyncing: str
    began_at: str
    strays: str = ""


class AudienceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An audience in `Status`; `size` None while an evaluator does not answer."""

    id: str
    version: int
    status: str
    size: int | None = None
    name: str = ""


class SyncStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A sync in `Status`."""

    id: str
    backlog: int = 0
    delivered: int = 0
    failed: int = 0
    state: str = ""
    resyncing: bool = False


class ActorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A process in `Status`."""

    name: str
    kind: str
    pid: int | None = None
    node: str | None = None
    state: str = ""
    lag_ms: float | None = None
    #: Where an edge listens.
    url: str | None = None


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Events in `Status`."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    too_late: int = 0
    #: Events that fell out of a full window of one user (cluster.limits.WINDOW_EVENTS_MAX) since the evaluators
    #: started.
    capped: int = 0
    lag_ms: float = 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The running system at a glance; `document` is the whole report as the server gave it."""

    url: str | None = None
    version: int = 0
    nodes: list[dict[str, Any]] = []
    actors: list[ActorStatus] = []
    audiences: list[AudienceStatus] = []
    syncs: list[SyncStatus] = []
    events: EventCounts = EventCounts()
    document: Document = {}
