"""A change on its way to one sync, as read from an evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec


class Change(msgspec.Struct, frozen=True, gc=False):
    """One transition of the sync's audience. `seq` is its number in source `evaluator` (see `Cursors`)."""

    evaluator: int
    seq: int
    audience_id: str
    audience_version: int
    user_id: str
    kind: Literal["entered", "exited"]
    at_ms: int
    n: int
    cause: str


class Told(msgspec.Struct, frozen=True, gc=False):
    """What a destination was told of a user. `identifiers` are empty where none was of use; `seen_ms`: when."""

    inside: bool
    version: int
    at_ms: int
    n: int
    identifiers: dict[str, Any]
    seen_ms: int


#: Causes of what is no change of membership: a member's identifiers may have changed; a resync tells all again.
IDENTIFIERS: Final = "identifiers"
RESYNC: Final = "resync"
REPEATS: Final = frozenset({IDENTIFIERS, RESYNC})

#: Between a change's own cause and that of a repeat whose place it took.
_INSTEAD_OF: Final = "|"


def instead(change: Change, waiting_cause: str) -> Change | None:
    """Give what waits once a change of membership comes for a user of whom one of `waiting_cause` waits; None: nothing.

    Kinds alternate, so a second change undoes the first. What only repeats membership gives way to a change, and is
    due again where that change is undone: a member must be told again in a resync, whatever came and went meanwhile.
    """
    if waiting_cause in REPEATS:
        return msgspec.structs.replace(change, cause=f"{own_cause(change)}{_INSTEAD_OF}{waiting_cause}")
    _, _, repeat = waiting_cause.partition(_INSTEAD_OF)
    return msgspec.structs.replace(change, cause=repeat) if repeat else None


def split_cause(cause: str) -> tuple[str, str]:
    """Give a cause's own part, and that of the repeat whose place the change took: empty where it took none's."""
    own, _, repeat = cause.partition(_INSTEAD_OF)
    return own, repeat


def joined_cause(own: str, repeat: str) -> str:
    """Give the cause of a change that took a repeat's place."""
    return f"{own}{_INSTEAD_OF}{repeat}" if repeat else own


def own_cause(change: Change) -> str:
    """Give a change's cause, without that of a repeat whose place it took."""
    return change.cause.partition(_INSTEAD_OF)[0]


#: Source -> the number up to which everything is in a durable batch or needs no sending. Sources are evaluators'
#: logs by their index, spools (`spool_source`), and the sweep of identifiers (SWEEP).
Cursors = Mapping[int, int]

#: Members whose identifiers may have changed; its numbers are versions of the traits.
SWEEP: Final = -1


def spool_source(evaluator: int) -> int:
    """Name an evaluator's members of some moment, read from a spool; its numbers count them from 1."""
    return -2 - evaluator


def spool_of(source: int) -> int:
    """Give the evaluator of a spool."""
    return -2 - source
