"""What can happen to a sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from actors.delivery.changes import Change
from actors.delivery.concurrency import SharedSlots
from actors.delivery.flaps import Flaps
from actors.delivery.outbox import ORDER_SPAN
from actors.delivery.rate_limit import Limiter
from cluster.limits import SYNC_CONCURRENCY_MAX
from destinations.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """How a sync delivers, as its definitions and its destination say. `paused`: its audience is."""

    sync: str
    deliver: Literal["state", "changes"]
    on_exit: Literal["remove", "nothing"]
    batch_records: int
    batch_age_ms: int
    evaluators: tuple[int, ...]
    paused: bool = False
    in_flight_max: int = SYNC_CONCURRENCY_MAX
    flaps: Flaps | None = None


@dataclass(frozen=True, slots=True)
class Shares:
    """What a sync shares with others that use the same application, account or list."""

    limiter: Limiter
    slots: SharedSlots
    #: The same limits for requests that carry no records: steps, polls, second tries with a new token.
    aside: Limiter = field(default_factory=lambda: Limiter(""))
    #: What listing members must fit besides.
    listing: Limiter = field(default_factory=lambda: Limiter(""))


@dataclass(frozen=True, slots=True)
class Opened:
    """An evaluator's transitions will be read from after `cursor`."""

    evaluator: int
    cursor: int


@dataclass(frozen=True, slots=True)
class Changes:
    """An evaluator was read up to `position`. `at_head`: nothing more was there."""

    evaluator: int
    changes: Sequence[Change] = field(repr=False)
    position: int
    at_head: bool


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A durable batch, as it was stored. `users` in the order of its records."""

    id: str
    order: int
    users: tuple[str, ...] = field(repr=False)
    attempts: int = 0
    first_attempt_ms: int = 0
    next_attempt_ms: int = 0
    span: int = ORDER_SPAN


@dataclass(frozen=True, slots=True)
class Persisted:
    """A batch is durable: as it was, or as these parts. No part: none of its changes can become a record."""

    batch_id: str
    parts: tuple[StoredBatch, ...] | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """Changes wait on disk: `grown` more than before. The first of them is due at `due_ms`."""

    grown: int
    due_ms: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """Changes from disk that are due; the first of the others is due at `due_ms`.

    `undone`: so many that were thought to wait have come to nothing.
    """

    changes: Sequence[Change] = field(repr=False)
    due_ms: int
    undone: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt ended after `latency_ms`: one outcome per record, in the records' order.

    `quiet_ms`: for so long nobody who shares the sync's rate limits may send. `learned`: the answer taught something.
    """

    batch_id: str
    outcomes: tuple[Outcome, ...]
    latency_ms: float = 0.0
    quiet_ms: int = 0
    learned: bool = False


@dataclass(frozen=True, slots=True)
class Configured:
    """Definitions changed. `mended`: the destination's settings did, which ends a halt.

    `room_due_ms`: what waits on disk is due at other times now, the first of it then.
    """

    config: SyncConfig
    shares: Shares
    mended: bool = False
    room_due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Suspended:
    """Somebody paused the sync, or resumed it."""

    suspended: bool


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """Somebody asked for another try: a halt ends, and dead letters come back as there is room, where there are any."""

    dead_letters: bool


@dataclass(frozen=True, slots=True)
class Revived:
    """Dead letters are durable batches again. `more`: others that were asked for are left."""

    batches: tuple[StoredBatch, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Draining:
    """Start nothing more: what is in flight may end."""


Stimulus: TypeAlias = (
    Opened | Changes | Persisted | Parked | Fetched | Answered | Configured | Suspended | RetryAsked | Revived | Tick
    | Draining
)
