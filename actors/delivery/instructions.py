"""What a sync's machine wants done. The shell performs them in the order given.

`Seal`, `Park`, `Split`, `Revive`, `MoveCursors` and `Hold` write what recovery stands on: the shell makes them durable
one after another, `Fetch` among them, and answers each batch with `Persisted`, `Park` with `Parked`, `Fetch` with
`Fetched` and `Revive` with `Revived`. The others may become durable later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from actors.delivery.changes import Change, Cursors
from actors.delivery.flaps import Flaps
from actors.delivery.outbox import ORDER_SPAN

#: `refused`: whatever is sent is refused for what it holds, record by record.
HaltState = Literal["", "credentials", "disabled", "refused"]


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be stored under `id`; `order` grows within the sync, and `span` of it is the batch's own."""

    id: str
    order: int
    changes: Sequence[Change] = field(repr=False)
    span: int = ORDER_SPAN


@dataclass(frozen=True, slots=True)
class Seal:
    """Store these batches and the cursors that they allow, in one commit. `left`: what leaves the waiting room so."""

    batches: tuple[NewBatch, ...]
    cursors: Cursors
    left: Sequence[Change] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Park:
    """Let changes wait on disk, and store the cursors that this allows, in one commit."""

    changes: Sequence[Change] = field(repr=False)
    cursors: Cursors
    flaps: Flaps | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Give up to `limit` changes that wait on disk and are due."""

    limit: int


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
class Dead:
    """Records of a batch that are given up, by index. `superseded`: those of them with a newer change of their user."""

    indexes: tuple[int, ...] = ()
    superseded: frozenset[int] = frozenset()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Settle:
    """The batch is finished: so many records arrived, so many the destination has no use for, the rest is dead."""

    batch_id: str
    attempt: int
    delivered: int
    skipped: int = 0
    dead: Dead = Dead()


@dataclass(frozen=True, slots=True)
class Defer:
    """The batch stays for another attempt. `outcome`: retry, resend, credentials or disabled."""

    batch_id: str
    attempt: int
    first_attempt_ms: int
    next_attempt_ms: int
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rest:
    """A part of a batch that goes on: the records at `kept`, as batch `id`, after so many attempts of theirs.

    `outcome`: retry, credentials, disabled, or divided, where they did not fail themselves.
    """

    id: str
    order: int
    span: int
    kept: tuple[int, ...]
    attempts: int
    next_attempt_ms: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Split:
    """Some records are finished or the batch is divided: `parts` go on in its place, the rest is settled."""

    batch_id: str
    attempt: int
    parts: tuple[Rest, ...]
    delivered: int
    skipped: int
    dead: Dead
    first_attempt_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Revive:
    """Bring back up to `count` of the dead letters that somebody asked for, as batches from `order` on."""

    order: int
    count: int


@dataclass(frozen=True, slots=True)
class Halt:
    """The sync stops (or, with an empty state, goes on) until somebody acts."""

    state: HaltState
    reason: str


Instruction: TypeAlias = Seal | Park | Fetch | MoveCursors | Hold | Send | Settle | Defer | Split | Revive | Halt
