"""What the parts call on each other, as protocols: real ones wrap Ray actor handles, tests pass fakes.

Every answer is a plain dict or a frozen dataclass, so that a refusal is a value and crosses processes whole.
A refusal is `{"error": code, "message": str, "retry_after_ms": int}` with code one of `overloaded`, `not_ready`,
`storage_full`, `stale` (plus `current_version`), `unreachable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

from cluster.definitions.model import Published
from cluster.limits import DRAIN_DEADLINE_MS, SYNC_ROWS_DEFAULT

Role = Literal["ingest", "read", "edit", "admin"]
Reply: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as stored: never the key itself. `hash_hex` is SHA-256 of the whole key text."""

    id: str
    name: str
    role: Role
    hash_hex: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class EvaluatorInfo:
    """Where an evaluator is: its index, Ray name, node, and the folder of its mapped membership files."""

    index: int
    name: str
    node_id: str
    membership_dir: str


@dataclass(frozen=True, slots=True)
class Retired:
    """An evaluator that has handed its users over: its transitions, up to `last_seq`, come before its heirs'."""

    info: EvaluatorInfo
    last_seq: int


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What every edge, delivery and trait actor needs to know; `revision` grows with each change.

    `published` is None before the first definitions. `owner_of_partition[p]` is an evaluator index.
    `preparing` names audiences whose publication some evaluator has not finished.
    """

    revision: int
    published: Published | None
    owner_of_partition: tuple[int, ...]
    evaluators: tuple[EvaluatorInfo, ...]
    keys: tuple[KeyRecord, ...]
    preparing: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Kept until nobody reads their transitions any more.
    retired: tuple[Retired, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluatorStart:
    """What a starting evaluator is told: the definitions that it takes, its partitions, and whose users it gets.

    `sources`: by evaluator, all of its partitions; empty for one that takes nothing over.
    """

    published: Published | None
    partitions: tuple[int, ...]
    sources: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


class Evaluator(Protocol):
    """An evaluator, as the edge, delivery, traits and the controller call it."""

    async def append(self, request: Reply) -> Reply:
        """Log, evaluate, commit. Request and reply: docs/architecture.md §4.

        request: `{"version": int, "rows": int, "envelope": bytes, "hits": bytes, "partitions": str}` (`hits` an Arrow
        IPC stream; `partitions` as ranges, where only those partitions' hits count, else empty).
        reply: `{"clock_ms": int, "outcomes": bytes}`, one byte a hit: 0 accepted, 1 duplicate, 2 too late.
        """
        ...

    async def lookup(self, parent: str, users: list[str], audiences: list[str], detail: bool) -> Reply:
        """Membership now.

        `{"as_of": ms, "members": [[bool per audience] per user], "details"?: same shape of {"since": ms|None,
        "changes_at": ms|None, "version": int}}`.
        """
        ...

    async def prepare(self, published: Published) -> Reply:
        """Build what new definitions take, beside the work: `{"version": int}` once `publish` would be short.

        Takes as long as the retained events do. Replaces a preparation of an older version, which is refused with
        `not_ready` then, as is one that failed. Idempotent per version.
        """
        ...

    async def publish(self, published: Published) -> Reply:
        """Put new definitions in force: `{"clock_ms": int, "seq": int}`. Idempotent per version.

        Prepares them first where that was not done, or was lost with the process.
        """
        ...

    async def apply_traits(self, parent: str, version: int, refs: list[Any], path: str) -> Reply:
        """Take a snapshot. Idempotent per (parent, version).

        `refs` holds one object reference to its Arrow table (in a list, so that Ray passes it by reference),
        `path` names the immutable copy for recovery.
        """
        ...

    async def transitions_after(
        self, seq: int, limit: int, wait_ms: int, audience: str | None
    ) -> Reply:
        """Committed transitions with a seq above `seq` (of one audience, or all), waiting up to `wait_ms` for some.

        `{"next_seq": int, "seqs": bytes (int64 LE, one per row), "transitions": bytes (Arrow IPC stream)}`.
        `next_seq` is how far was read: the cursor to ask with next, also when no row matched.
        """
        ...

    async def trim_transitions(self, read_seq: int) -> Reply:
        """Drop old transitions up to this number, which nobody will ask for again: `{"dropped": int}`.

        What is left of them is who was inside (actors/evaluator/ledger.py). Waits for one that is under way.
        """
        ...

    async def members(self, audience: str, cursor: str | None, limit: int) -> Reply:
        """A page of present members: `{"members": [user ids], "cursor": str | None, "as_of": ms}`."""
        ...

    async def initial_members(self, audience: str) -> Reply:
        """For a new sync: the last `entered` of each present member, as of transition number `seq`.

        `{"seq": int, "seqs": bytes, "transitions": bytes}` (shapes as `transitions_after`).
        """
        ...

    async def entries_after(self, seq: int, bytes_max: int) -> Reply:
        """Logged entries with a number above `seq`, for an evaluator that takes users over.

        `{"entries": bytes, "through_ms": int, "last_seq": int}`: whatever is logged after those has at least the clock
        `through_ms`.
        """
        ...

    async def hold(self, attempt: int, snapshots: Mapping[str, int] | None) -> Reply:
        """Let nothing move for some seconds: `{"clock_ms", "seq", "version", "traits": {parent: version}}`.

        Inputs are refused with `moved`, time stands still. `seq`: its last entry. From here on no snapshot newer than
        `snapshots` is taken (None: any may be), also after a restart, until a later attempt says otherwise; refused
        (`not_ready`) where one was heard of since.
        """
        ...

    async def release(self) -> Reply:
        """Go on: `{}`."""
        ...

    async def retire(self, clock_ms: int, seq: int) -> Reply:
        """Make what is due up to a clock, and from then on nothing: `{"seq", "transition_seq", "counts"}`. Durable.

        Refused (`not_ready`) where it is not held, has been later than that, or has another last entry than `seq`: a
        call that was under way for long must not move an end that was decided since. A retired one goes on to a later
        clock.
        """
        ...

    async def inherit(self) -> Reply:
        """Take over beside the work of those that have the users now: `{}` once little is missing. Idempotent."""
        ...

    async def finish(self, ends: Mapping[int, tuple[int, int]], clock_ms: int, counts: Mapping[str, int]) -> Reply:
        """Take the last entries and transitions (`ends`: their numbers, by evaluator), then work: `{"seq"}`.

        Idempotent.
        """
        ...

    async def status(self) -> Reply:
        """Counts for `usher status`.

        `{"name", "pid", "node", "clock_ms", "state", "live_from_seq", "partitions", "events": {"accepted",
        "duplicates", "too_late"}, "arrivals": {"models": {id: accepted since the process began}, "sources": {...}},
        "audiences": {id: {"size", "version"}}, "users", "log_bytes", "seq", "lag_ms",
        "version", "backfill": {"version", "percent", "ready"} | None, "checkpoints": {"newest", "writing", "error",
        "at", "written", "failed", "passed_over", "recovered"}, ...}`.
        """
        ...

    async def drain(self, within_ms: int = DRAIN_DEADLINE_MS) -> Reply:
        """Refuse new batches, finish what was acknowledged, checkpoint it, close the log.

        `{"drained": True, "late": text}`; the text says what did not come to its end within `within_ms`, if anything.
        """
        ...


class Controller(Protocol):
    """The controller, as edges, delivery, traits and commands call it."""

    async def state_after(self, revision: int, wait_ms: int) -> ClusterState:
        """Give the state as soon as its revision is above `revision`, or after `wait_ms` whatever it is."""
        ...

    async def apply(self, document: Mapping[str, Any], file: str, mode: str) -> Reply:
        """Check and publish a merged document (secrets already substituted).

        `mode`: `replace` (the document is the whole truth) or `merge` (by id). Reply:
        `{"version": int, "changes": [{"kind", "id", "change": "added|changed|removed|unchanged"}]}` or
        `{"error": "invalid", "faults": [{"file","path","message","found","allowed"}]}`. All or nothing.
        """
        ...

    async def plan(self, document: Mapping[str, Any], file: str, mode: str) -> Reply:
        """As `apply`, but changes nothing."""
        ...

    async def create_key(self, role: Role, name: str) -> Reply:
        """`{"id", "name", "role", "key"}`: the only time the key is shown."""
        ...

    async def revoke_key(self, key_id: str) -> Reply:
        """`{"revoked": bool}`."""
        ...

    async def scale(self, evaluators: int) -> Reply:
        """Hand all users over to so many evaluators, while events come.

        `{"evaluators": int, "partitions": int, "pause_ms": int}` once it is done, `pause_ms`: how long events waited;
        `{"error": "invalid" | "not_ready", "message": str}`. Asked for the number that there are, it gives up a change
        that has not come to its end.
        """
        ...

    async def status(self) -> Reply:
        """The whole of `usher status --json` (interfaces.md)."""
        ...

    async def edges(self) -> Reply:
        """Name the edge processes of all nodes: `{"edges": [name]}`."""
        ...


class Edge(Protocol):
    """An edge process, as other edges call it."""

    async def seen(self) -> Reply:
        """Give what arrived there, as `GET /api/v1/events/seen` shows it."""
        ...


#: Every word that the sync log has for what became of records; see docs/delivery.md.
SYNC_OUTCOMES: Final = (
    "delivered", "processed", "skipped", "resend", "superseded", "retry", "divided", "dropped", "dead", "refused",
    "credentials", "disabled", "stray", "answered",
)  # fmt: skip
#: Those of them that are no failure.
SYNC_SUCCESSES: Final = ("delivered", "processed", "skipped", "resend", "stray", "answered")
#: What a request in the sync log was for: records, an access token, the list at the destination, a result.
SYNC_KINDS: Final = ("changes", "token", "list", "result")


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which rows of a sync log: `after` a row's id (0: the newest ones), of a user, outcomes, a time in UTC ms.

    `outcomes` empty: all; `failed`: failures alone; `since_ms` is included, `until_ms` is not. `detail` adds each
    record's outcome, the request and the response.
    """

    failed: bool = False
    after: int = 0
    limit: int = SYNC_ROWS_DEFAULT
    user: str = field(default="", repr=False)
    outcomes: tuple[str, ...] = ()
    #: Of SYNC_KINDS; empty: all.
    kinds: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    detail: bool = False


class Delivery(Protocol):
    """The delivery actor, as edges and the controller call it."""

    async def metrics(self) -> Reply:
        """Figures for /metrics: `{"syncs": [{"id", "backlog", "oldest_unsent_ms", "delivery", ...}], "alerts"}`."""
        ...

    async def sync_log(self, sync: str, query: LogQuery) -> Reply:
        """Sync log rows, newest last: `{"rows": [...], "next": int}`."""
        ...

    async def dead_letters(self, sync: str, limit: int) -> Reply:
        """`{"rows": [...]}`, without secrets or personal data in clear."""
        ...

    async def retry(self, sync: str) -> Reply:
        """Send the dead letters again: `{"retried": int}`."""
        ...

    async def suspend(self, sync: str, suspended: bool) -> Reply:
        """Pause a sync (everything is kept) or let it go on: `{"paused": bool}`."""
        ...

    async def resync(self, sync: str) -> Reply:
        """Begin to send every member again and remove strays: `{"resyncing": sync, "began_at": time, "strays": str}`.

        `strays`: why those stay whom only the destination knows; empty where it is asked who is there.
        """
        ...

    async def test_channel(self, channel: str) -> Reply:
        """Send an alert channel a notice that means nothing: `{"channel", "sent", "failure"}`."""
        ...

    async def test_destination(
        self, destination: str, sync: str, user: str, verb: Literal["add", "remove"], send: bool
    ) -> Reply:
        """Show the requests that a user's entry (`add`) or exit makes, and with `send` make them.

        `{"sync","kind","user","verb","sent","dropped","requests": [{"purpose","request","response","outcome"}],
        "delivered"}`. `sync` may be empty.
        """
        ...

    async def read_through(self, evaluator: int) -> Reply:
        """Give up to which of an evaluator's transitions no sync needs any more, durably: `{"seq": int | None}`.

        None: all of them, for there is no sync.
        """
        ...

    async def has_read(self, evaluator: int, seq: int) -> Reply:
        """Say whether no sync needs an evaluator's transitions up to this one any more: `{"read": bool}`."""
        ...

    async def status(self) -> Reply:
        """`{"name","pid","node","syncs": [{"id","backlog","delivered","failed","state","resyncing"}]}`."""
        ...

    async def drain(self, within_ms: int = DRAIN_DEADLINE_MS) -> Reply:
        """Finish or persist what is in flight, then close."""
        ...


class Traits(Protocol):
    """The trait loader, as edges call it."""

    async def refresh(self, parent: str) -> Reply:
        """Have a parent's source read now, changed or not: `{"refreshing": parent}`; the answer waits for nothing.

        A parent without a trait source: `{"error": "not_found", "message"}`.
        """
        ...
