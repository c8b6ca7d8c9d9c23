"""Whether an evaluator works for its users: not yet (an heir), for the time being not (held), not any more (retired).

Being retired and having inherited are in the log, so a restart changes neither. Being held is not: who held it may be
gone, so it ends by itself.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cluster.log.contract import Log

Reply = dict[str, Any]

#: How long an evaluator is held that hears no more: as long as a controller may take to ask all and have them retire.
HELD_MS: Final = 3_000
#: When whoever brings an input meanwhile may try again.
MOVED_RETRY_MS: Final = 50
#: The log's key of the clock at which an evaluator ended, of what an heir has taken so far, and of where that ended.
RETIRED: Final = "retired"
POSITIONS: Final = "positions"
INHERITED: Final = "inherited"
#: The log's key of the snapshots that an evaluator is to have at its end.
KEPT: Final = "kept snapshots"


class Inherited(msgspec.Struct, frozen=True):
    """Where another evaluator's past ends in this log: its clock, and the last transition that others made."""

    clock_ms: int
    through_seq: int


class Positions(msgspec.Struct, frozen=True):
    """The entry and the transition up to which each other log was taken over, by evaluator."""

    entries: dict[int, int] = {}
    transitions: dict[int, int] = {}


class Kept(msgspec.Struct, frozen=True):
    """The attempt to end that an evaluator last heard of, and by parent the snapshots it keeps for that; None: any.

    All evaluators have the same before the first one ends. If others took newer ones then, who ended never could.
    """

    attempt: int = 0
    snapshots: dict[str, int] | None = None


def inherited_of(log: Log) -> Inherited | None:
    """Read where a log's inheritance ends, None for one that began with nothing."""
    noted = log.meta(INHERITED)
    return msgspec.json.decode(noted, type=Inherited) if noted else None


def positions_of(log: Log) -> Positions:
    """Read how far the other logs were taken over."""
    noted = log.meta(POSITIONS)
    return msgspec.json.decode(noted, type=Positions) if noted else Positions()


class Tenure:
    """One evaluator's."""

    def __init__(self, log: Log, *, heir: bool) -> None:
        self._log = log
        self._was_heir = heir
        self._held_until_ms = 0
        self.read()

    def read(self) -> None:
        """Read what is durable of it."""
        self.retired_ms = int(self._log.meta(RETIRED) or 0)
        #: It takes over, and has not begun to work.
        self.heir = self._was_heir and inherited_of(self._log) is None
        noted = self._log.meta(KEPT)
        self.kept = msgspec.json.decode(noted, type=Kept) if noted else Kept()

    def hold(self, now_ms: int) -> None:
        """Let nothing move for HELD_MS, or until it is released or held again."""
        self._held_until_ms = now_ms + HELD_MS

    def may_take(self, parent: str, version: int) -> bool:
        """Say whether a snapshot of a parent's traits may be taken."""
        kept = self.kept.snapshots
        return kept is None or version <= kept.get(parent, 0)

    def release(self) -> None:
        """Go on."""
        self._held_until_ms = 0

    def held_until_ms(self, now_ms: int) -> int:
        """Give when a hold ends, 0 where it is not held."""
        return self._held_until_ms if now_ms < self._held_until_ms else 0

    def at_rest(self, now_ms: int) -> bool:
        """Say whether nothing may move: no input, and not time either."""
        return self.heir or self.retired_ms > 0 or self.held_until_ms(now_ms) > 0

    def refusal(self, now_ms: int) -> Reply | None:
        """Give the answer to whoever brings an input, None where it is welcome."""
        if self.heir:
            message = "it takes its users over from other evaluators"
            return {"error": "not_ready", "message": message, "retry_after_ms": MOVED_RETRY_MS}
        if self.at_rest(now_ms):
            message = "its users move to other evaluators"
            return {"error": "moved", "message": message, "retry_after_ms": MOVED_RETRY_MS}
        return None
