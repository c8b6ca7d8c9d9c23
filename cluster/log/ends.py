"""Where a log ends, and whether a commit goes on from there: the same for every log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import InternalError
from cluster.log.records import Entry, TransitionBlock


@dataclass(frozen=True, slots=True)
class End:
    """The newest entry's number and clock, and the newest transition's number."""

    seq: int = 0
    clock_ms: int | None = None
    transition_seq: int = 0

    def after(self, entries: Sequence[Entry], transitions: Sequence[TransitionBlock], log: str) -> End:
        """Give the end once these are committed; InternalError, naming the log, where they do not go on from it."""
        seq, clock_ms, transition_seq = self.seq, self.clock_ms, self.transition_seq
        for entry in entries:
            if entry.seq != seq + 1 or (clock_ms is not None and entry.clock_ms < clock_ms):
                message = (
                    f"{log}: entry {entry.seq} at clock {entry.clock_ms} does not follow "
                    f"entry {seq} at clock {clock_ms}."
                )
                raise InternalError(message)
            seq, clock_ms = entry.seq, entry.clock_ms
        for block in transitions:
            if block.first_seq != transition_seq + 1 or block.last_seq < block.first_seq:
                message = (
                    f"{log}: transitions {block.first_seq} to {block.last_seq} do not follow "
                    f"transition {transition_seq}."
                )
                raise InternalError(message)
            transition_seq = block.last_seq
        return End(seq, clock_ms, transition_seq)
