"""What a sync's machine wants done. The shell performs them in the order given.

`Seal`, `Split`, `MoveCursors` and `Hold` write what recovery stands on: the shell makes them durable one after
another, and answers each batch with `Persisted`. The others may become durable later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from actors.delivery.changes import Change, Cursors

HaltState = Literal["", "credentials", "disabled"]


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be stored under `id`; `order` grows within the sync."""

    id: str
    order: int
    changes: Sequence[Change] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seal:
    """Store these batches and the cursors that they allow, in one commit."""

    batches: tuple[NewBatch, ...]
    cursors: Cursors


@dataclass(frozen=True, slots=True)
class MoveCursors:
    """Nothing below these needs sending."""

    cursors: Cursors


@dataclass(frozen=True, slots=True)
class Hold:
    """Remember whether changes are being held, so that a restart keeps netting them."""

    held: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Attempt a durable batch; `attempt` counts from 1, `first_attempt_ms` is when that was."""

    batch_id: str
    attempt: int
    first_attempt_ms: int


@dataclass(frozen=True, slots=True)
class Settle:
    """The batch is finished: `delivered` records arrived, those at the indexes `dead` become a dead letter."""

    batch_id: str
    attempt: int
    delivered: int
    dead: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Defer:
    """The attempt failed, the batch stays. `outcome`: retry, credentials or disabled."""

    batch_id: str
    attempt: int
    first_attempt_ms: int
    next_attempt_ms: int
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Split:
    """Some records are finished: those at `kept` go on as batch `new_id` in the same place, the rest is settled."""

    batch_id: str
    new_id: str
    attempt: int
    kept: tuple[int, ...]
    delivered: int
    dead: tuple[int, ...]
    first_attempt_ms: int
    next_attempt_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Halt:
    """The sync stops (or, with an empty state, goes on) until somebody acts."""

    state: HaltState
    reason: str


Instruction: TypeAlias = Seal | MoveCursors | Hold | Send | Settle | Defer | Split | Halt
