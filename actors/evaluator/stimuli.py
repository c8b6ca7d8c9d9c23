"""What an evaluator is asked to do, in the order it came. Replies are plain dicts (cluster.runtime.protocols)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from actors.evaluator.succession.tenure import Kept, Positions
from actors.evaluator.trait_rows import TraitRows, UserRoom
from cluster.definitions.model import Published
from cluster.log.records import Entry


@dataclass(frozen=True, slots=True)
class Append:
    """A batch of events: logged as `envelope`, evaluated as `hits` (an Arrow IPC stream).

    `partitions` (`partition_ranges`): whose hits count in it; empty: those of all users of the evaluator.
    """

    version: int
    rows: int
    envelope: bytes
    hits: bytes
    partitions: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has come to something that may be due."""


@dataclass(frozen=True, slots=True)
class TakeTraits:
    """A trait snapshot: the whole table (None: read the copy), and where its immutable copy lies for recovery."""

    parent: str
    version: int
    table: pa.Table | None
    path: str


@dataclass(frozen=True, slots=True)
class LookAtTraits:
    """What a snapshot is prepared for: the program in force."""

    parent: str
    version: int


@dataclass(frozen=True, slots=True)
class PlanTraits:
    """A prepared snapshot is to be taken, step by step; with the room that its users take, where it was made."""

    rows: TraitRows
    room: UserRoom | None = None

    @property
    def parent(self) -> str:
        """Whose traits."""
        return self.rows.parent

    @property
    def version(self) -> int:
        """Of the snapshot."""
        return self.rows.version


@dataclass(frozen=True, slots=True)
class GoOnWithTraits(PlanTraits):
    """The next step of it."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """New definitions, to be put in force later: begin to build what that takes."""

    published: Published


@dataclass(frozen=True, slots=True)
class Publish:
    """Prepared definitions are to be in force from now on."""

    published: Published


@dataclass(frozen=True, slots=True)
class Lookup:
    """Membership now, of each user in each audience."""

    parent: str
    users: tuple[str, ...]
    audiences: tuple[str, ...]
    detail: bool


@dataclass(frozen=True, slots=True)
class MembersPage:
    """A page of an audience's members; `cursor` is where the page before ended."""

    audience: str
    cursor: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Status:
    """Counts for `usher status`."""


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """The state is to be copied, between two groups."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A clock is asked for that no later entry is below."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is to move for a while: users are about to be handed over, with the snapshots `kept`."""

    kept: Kept


@dataclass(frozen=True, slots=True)
class Release:
    """They are not, after all."""


@dataclass(frozen=True, slots=True)
class Retire:
    """Make what is due at or before a clock, and then nothing any more; `seq`: the last entry that a hold found."""

    clock_ms: int
    seq: int


@dataclass(frozen=True, slots=True)
class Inherit:
    """What an heir takes over next: entries (numbered anew), transitions, and how far the other logs are taken then."""

    entries: tuple[Entry, ...]
    transitions: tuple[pa.RecordBatch, ...]
    positions: Positions


@dataclass(frozen=True, slots=True)
class Build:
    """The machine is to be made from what was taken over so far, if that has these definitions."""

    version: int


@dataclass(frozen=True, slots=True)
class Finish:
    """All is taken over: the heir's users are its own after `clock_ms`. `counts`: hits by outcome so far."""

    clock_ms: int
    counts: dict[str, int]


#: Trait snapshots, taken at once or by a plan.
AboutTraits: TypeAlias = TakeTraits | LookAtTraits | PlanTraits | GoOnWithTraits
#: Inputs of an evaluator at work.
Work: TypeAlias = Append | AboutTraits | Prepare | Publish
#: Handing users over, from either side.
Handing: TypeAlias = Bound | Hold | Release | Retire | Inherit | Build | Finish

Stimulus: TypeAlias = Work | Tick | Lookup | MembersPage | Status | TakeCheckpoint | Handing
