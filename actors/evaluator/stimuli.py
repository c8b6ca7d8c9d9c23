"""What an evaluator is asked to do, in the order it came. Replies are plain dicts (cluster.runtime.protocols)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from cluster.definitions.model import Published


@dataclass(frozen=True, slots=True)
class Append:
    """A batch of events: logged as `envelope`, evaluated as `hits` (an Arrow IPC stream)."""

    version: int
    rows: int
    envelope: bytes
    hits: bytes


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


Stimulus: TypeAlias = Append | Tick | TakeTraits | Prepare | Publish | Lookup | MembersPage | Status | TakeCheckpoint
