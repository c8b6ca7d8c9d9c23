"""When a checkpoint is due. Pure: times come in."""

from __future__ import annotations

from cluster.checkpoints.settings import CheckpointSettings
from cluster.limits import CHECKPOINT_REST_TIMES, CHECKPOINT_RETRY_MAX_MS, CHECKPOINT_RETRY_MIN_MS


class CheckpointPlan:
    """Counts what a recovery would have to replay; times are of a clock that only measures durations, in ms."""

    def __init__(self, settings: CheckpointSettings, now_ms: float) -> None:
        self._settings = settings
        #: Of what was logged since the newest checkpoint.
        self.events = 0
        self.bytes = 0
        self.entries = 0
        self._counted_from_ms = now_ms
        self._not_before_ms = now_ms
        self._retry_ms = CHECKPOINT_RETRY_MIN_MS
        self._asked = False
        #: As above, of a copy that is not written yet.
        self._covered = (0, 0, 0)

    def logged(self, entries: int, events: int, size_bytes: int) -> None:
        """Count what was committed, or replayed."""
        self.entries += entries
        self.events += events
        self.bytes += size_bytes

    def ask(self) -> None:
        """Have one as soon as may be: those before are of no use any more."""
        self._asked = True

    def due(self, now_ms: float) -> bool:
        """Say whether one is to be begun."""
        if not self.entries or now_ms < self._not_before_ms:
            return False
        if self._asked or now_ms - self._counted_from_ms >= self._settings.every_ms:
            return True
        return self.events >= self._settings.every_events or self.bytes >= self._settings.every_bytes

    def taken(self, now_ms: float) -> None:
        """Count anew: the state was copied. What it covers is kept until it is written."""
        self._covered = (self.entries, self.events, self.bytes)
        self.entries = self.events = self.bytes = 0
        self._counted_from_ms = now_ms

    def written(self, began_ms: float, now_ms: float) -> None:
        """Note that one was written: the next one waits for its share of the time."""
        self._covered = (0, 0, 0)
        self._asked = False
        self._not_before_ms = now_ms + CHECKPOINT_REST_TIMES * (now_ms - began_ms)
        self._retry_ms = CHECKPOINT_RETRY_MIN_MS

    def given_up(self) -> None:
        """Count again what a copy covered that was not written."""
        self.logged(*self._covered)
        self._covered = (0, 0, 0)

    def failed(self, now_ms: float) -> None:
        """As `given_up`, for an error; later tries wait longer."""
        self.given_up()
        self._asked = True
        self._not_before_ms = now_ms + self._retry_ms
        self._retry_ms = min(2 * self._retry_ms, CHECKPOINT_RETRY_MAX_MS)
