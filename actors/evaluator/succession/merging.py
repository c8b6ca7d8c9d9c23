"""Entries of several logs in one order of time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.log.records import Entry

#: After the last entry of a log that gets no more.
_NO_MORE_MS = 2**62


@dataclass(slots=True)
class _Source:
    waiting: deque[Entry] = field(default_factory=deque)
    #: Whatever comes after those that wait has at least this clock.
    through_ms: int = 0

    @property
    def bound_ms(self) -> int:
        return self.waiting[0].clock_ms if self.waiting else self.through_ms


class Merge:
    """Gives entries by their clocks, each log's in its own order, as soon as no other log can have an earlier one.

    The users of the logs are different ones, so which of two logs goes first at the same clock does not matter.
    """

    def __init__(self, sources: Sequence[int]) -> None:
        self._sources = {source: _Source() for source in sources}

    def add(self, source: int, entries: Iterable[Entry], through_ms: int) -> None:
        """Take a log's next entries; all that it gets after them have at least the clock `through_ms`."""
        found = self._sources[source]
        found.waiting.extend(entries)
        found.through_ms = max(found.through_ms, through_ms)

    def end(self, source: int) -> None:
        """Note that a log gets no more entries."""
        self._sources[source].through_ms = _NO_MORE_MS

    def waiting(self, source: int) -> int:
        """Give how many entries of a log are held back by others."""
        return len(self._sources[source].waiting)

    def take(self, most: int) -> list[tuple[int, Entry]]:
        """Give the next entries, each with its log, at most so many."""
        taken: list[tuple[int, Entry]] = []
        while len(taken) < most:
            ready = [(found.waiting[0].clock_ms, name) for name, found in self._sources.items() if found.waiting]
            if not ready:
                break
            clock_ms, name = min(ready)
            if any(found.bound_ms < clock_ms for found in self._sources.values()):
                break
            taken.append((name, self._sources[name].waiting.popleft()))
        return taken
