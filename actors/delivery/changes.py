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
