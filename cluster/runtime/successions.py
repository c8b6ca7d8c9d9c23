"""Whose place another process is to take: who is silent for too long, without clock, store or processes.

Ray starts a killed process again, and says nothing of one that is stopped, hangs, or is on a node that nobody reaches.
Such a one gives no sign any more: its lease does not change, or it does not answer. Then it is asked once more, and
without an answer another process takes its place, under a higher epoch; whatever the one before still does counts for
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

#: What one look counts for at most: who looks may have been stopped itself, with all the others.
LOOK_MS_MAX: Final = 3_000.0


class Sign(NamedTuple):
    """What was last heard of a process: anything that differs from what was heard before; good for so long."""

    value: Any
    term_ms: int


@dataclass(slots=True)
class _Watch:
    value: Any
    silent_ms: float
    patience_ms: float


@dataclass(slots=True)
class Successions:
    """Who gave no sign for longer than it is good and `grace_ms` more.

    A process that was just made, or has let go to begin anew, has `start_ms` for its first sign.
    """

    grace_ms: int
    start_ms: int
    _watches: dict[str, _Watch] = field(default_factory=dict)
    _looked_ms: float | None = None

    def looked(self, signs: Mapping[str, Sign | None], now_ms: float) -> list[str]:
        """Take what is heard of every process; gives who is silent, of each once until it has had time to start.

        None: it has not begun, or has let go. `now_ms` is after the look, by a duration clock.
        """
        passed_ms = 0.0 if self._looked_ms is None else min(now_ms - self._looked_ms, LOOK_MS_MAX)
        self._looked_ms = now_ms
        for gone in self._watches.keys() - signs.keys():
            del self._watches[gone]
        return [name for name, sign in signs.items() if self._is_silent(name, sign, passed_ms)]

    def _is_silent(self, name: str, sign: Sign | None, passed_ms: float) -> bool:
        watch = self._watches.setdefault(name, _Watch(None, 0.0, self.start_ms))
        value = None if sign is None else sign.value
        if value != watch.value:
            watch.value, watch.silent_ms = value, 0.0
            watch.patience_ms = self.start_ms if sign is None else sign.term_ms + self.grace_ms
            return False
        watch.silent_ms += passed_ms
        if watch.silent_ms < watch.patience_ms:
            return False
        watch.silent_ms, watch.patience_ms = 0.0, self.start_ms
        return True
