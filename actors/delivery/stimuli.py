"""What can happen to a sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from actors.delivery.changes import Change
from actors.delivery.rate_limit import TokenBucket
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
class Persisted:
    """A batch is durable. `dropped` are indexes of changes that could not become records; all of them: no batch."""

    batch_id: str
    dropped: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt ended: one outcome per record, in the records' order."""

    batch_id: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Configured:
    """Definitions changed. `mended`: the destination's settings did, which ends a halt."""

    config: SyncConfig
    bucket: TokenBucket
    mended: bool = False


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A durable batch, as recovery and retry of dead letters find it. `users` in the order of its records."""

    id: str
    order: int
    users: tuple[str, ...] = field(repr=False)
    attempts: int = 0
    first_attempt_ms: int = 0
    next_attempt_ms: int = 0


@dataclass(frozen=True, slots=True)
class Revived:
    """Somebody asked for another try: a halt ends, and these dead letters, durable again, follow at the end."""

    batches: tuple[StoredBatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Draining:
    """Start nothing more: what is in flight may end."""


Stimulus: TypeAlias = Opened | Changes | Persisted | Answered | Configured | Revived | Tick | Draining
