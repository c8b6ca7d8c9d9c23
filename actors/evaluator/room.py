"""How much room a log has: what is dropped to make some, and what is refused where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from actors.evaluator.checkpointing.checkpointer import Checkpointer
from actors.evaluator.layout import NEVER
from actors.evaluator.stimuli import AboutTraits, Append, Lookup, MembersPage, Publish, Stimulus, Tick
from cluster.definitions.model import Published
from cluster.errors import Refused
from cluster.log.contract import Log

Reply = dict[str, Any]

#: Parts of `settings.log_max_bytes` above which history is dropped, and down to which.
CROWDED_SHARE: Final = 0.8
ROOMY_SHARE: Final = 0.7


def storage_full(refused: Refused) -> Reply:
    """Give the reply to whoever asked for what found no room."""
    return {"error": "storage_full", "message": str(refused), "retry_after_ms": refused.retry_after_ms}


class Room:
    """The room of one evaluator's log. `trim` and `crowded` on any thread, the rest on the one that evaluates."""

    def __init__(self, log: Log, checkpoints: Checkpointer | None) -> None:
        self._log = log
        self._checkpoints = checkpoints
        self._bytes_max: int | None = None
        #: Whether the log refused the last commit that was tried.
        self.refused = False

    def limit(self, published: Published | None) -> None:
        """Bound the log as the definitions in force say."""
        self._bytes_max = None if published is None else published.definitions.settings.log_bytes_max
        self._log.limit(self._bytes_max)

    # --- making room ---------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Whether the log nears its bound: then history goes that only later publications would read."""
        return self._bytes_max is not None and self._log.size_bytes() > CROWDED_SHARE * self._bytes_max

    def trim(self, retained_from_ms: int, needed_from_ms: int) -> int:
        """Drop log entries before the first clock, in a crowded log those before the second too.

        Never what the oldest checkpoint kept would be replayed from; in a crowded log, the newest: what comes after the
        second clock is enough without any.
        """
        oldest_ms, newest_ms = (self._checkpoint_needs_ms(newest=newest) for newest in (False, True))
        dropped = self._log.trim(min(retained_from_ms, oldest_ms))
        if self.crowded and self._bytes_max is not None:
            if newest_ms < needed_from_ms and self._checkpoints is not None:
                self._checkpoints.plan.ask()
            dropped += self._log.trim(min(needed_from_ms, newest_ms), round(ROOMY_SHARE * self._bytes_max))
        return dropped

    def _checkpoint_needs_ms(self, *, newest: bool) -> int:
        needed_ms = self._checkpoints.needs_from_ms(newest=newest) if self._checkpoints is not None else None
        return NEVER if needed_ms is None else needed_ms

    # --- refusing --------------------------------------------------------------------------------------

    def refusal(self, group: Sequence[Stimulus]) -> Reply | None:
        """Refuse before it is evaluated what the disk has no room for.

        A refused commit costs a recovery, which a full disk must not have every sender cause; nor, once it refused even
        what needs no more than the reserve, every tick and look-up: then nothing is tried until there is room again.
        """
        batch_bytes = sum(len(stimulus.envelope) for stimulus in group if isinstance(stimulus, Append))
        try:
            if batch_bytes or self.refused:
                self._log.require_room(batch_bytes)
        except Refused as refused:
            return storage_full(refused)
        return None

    def concerns(self, stimulus: Stimulus, *, due: bool) -> bool:
        """Whether a stimulus is refused where there is no room: events, and once it took nothing, whatever logs.

        `due`: changes by time are to be made, which a tick or a look-up would log.
        """
        if isinstance(stimulus, Append) or not self.refused:
            return isinstance(stimulus, Append)
        if isinstance(stimulus, Tick | Lookup | MembersPage):
            return due
        return isinstance(stimulus, AboutTraits | Publish)
