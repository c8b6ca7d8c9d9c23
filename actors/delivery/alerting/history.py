"""What rules look back on: values of the last minutes, when an event was last accepted; kept over restarts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

#: Samples kept of a time that a rule looks back on, and of them over a restart.
_SAMPLES_MAX: Final = 120
_REMEMBERED_MAX: Final = 24


class Memory(msgspec.Struct):
    """What the next process must know.

    `histories`: `(alert, subject, over in ms, samples (at, values))`; `silences`: `(subject, last event at, count,
    known)`.
    """

    histories: list[tuple[str, str, int, list[tuple[int, list[int]]]]] = []
    silences: list[tuple[str, int, int, bool]] = []


@dataclass(slots=True)
class History:
    """Values of the last `over_ms`, thinned out; the first is the newest that is so old, or the oldest there is."""

    over_ms: int
    _samples: deque[tuple[int, tuple[int, ...]]] = field(default_factory=deque)

    @classmethod
    def of(cls, over_ms: int, samples: list[tuple[int, list[int]]]) -> History:
        """Go on with what `remembered` gave."""
        return cls(over_ms, deque((at_ms, tuple(values)) for at_ms, values in samples))

    def add(self, now_ms: int, values: tuple[int, ...], *, grow: bool = False) -> None:
        """Add the present values. With `grow` they are counts: one that is lower than before has begun anew."""
        samples = self._samples
        if samples and (now_ms < samples[-1][0] or len(values) != len(samples[-1][1])):
            samples.clear()  # the clock was set back, or another release wrote them
        if samples and grow and any(new < old for new, old in zip(values, samples[-1][1], strict=True)):
            self._begin_anew(values)
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < self.over_ms / _SAMPLES_MAX:
            samples.pop()
        samples.append((now_ms, values))
        while len(samples) > 1 and samples[1][0] <= now_ms - self.over_ms:
            samples.popleft()

    def _begin_anew(self, values: tuple[int, ...]) -> None:
        """Let earlier samples be of counts that go on where these are: what came between is not known, and little."""
        last = self._samples[-1][1]
        lost = [max(0, old - new) for new, old in zip(values, last, strict=True)]
        self._samples = deque(
            (at_ms, tuple(old - less for old, less in zip(earlier, lost, strict=True)))
            for at_ms, earlier in self._samples
        )

    def otherwise(self, now_ms: int) -> str | None:
        """Judge what is not true of these values: not so, if they reach back far enough, else that is not known."""
        return "" if self._samples[0][0] <= now_ms - self.over_ms else None

    def remembered(self) -> list[tuple[int, list[int]]]:
        """Give some of the samples, the first and the last among them."""
        samples = list(self._samples)
        every = max(1, -(-(len(samples) - 1) // (_REMEMBERED_MAX - 1)))
        chosen = [*samples[:-1:every], samples[-1]] if samples else []
        return [(at_ms, list(values)) for at_ms, values in chosen]

    @property
    def first(self) -> tuple[int, ...]:
        """The values to compare with."""
        return self._samples[0][1]

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (values for _, values in self._samples)


@dataclass(slots=True)
class Silence:
    """When an event was last seen to be accepted (or nothing was known), and how many there were.

    `known`: an event was seen, so that an end of the silence can be told.
    """

    since_ms: int
    count: int
    known: bool = False
    #: What an earlier process left: nothing was counted by this one yet.
    left: bool = False

    def take(self, count: int, now_ms: int) -> None:
        """Take a count; one that is lower has begun anew, and is no event."""
        if count > self.count:
            self.since_ms, self.known = now_ms, True
        elif count < self.count and self.left:
            # Whatever counts was restarted while nobody looked: events may have come.
            self.since_ms, self.known = now_ms, False
        self.count, self.left = count, False


class Silences:
    """Of all events, of event models and of sources, by subject."""

    def __init__(self, left: list[tuple[str, int, int, bool]]) -> None:
        self._of = {subject: Silence(at_ms, count, known, left=True) for subject, at_ms, count, known in left}

    def take(self, counts: Mapping[str, int], now_ms: int) -> None:
        """Take the present counts; a subject without one is forgotten."""
        self._of = {subject: one for subject, one in self._of.items() if subject in counts}
        for subject, count in counts.items():
            if subject in self._of:
                self._of[subject].take(count, now_ms)
            else:
                self._of[subject] = Silence(now_ms, count)

    def of(self, subject: str) -> Silence | None:
        """Give a subject's, None where nothing was counted yet."""
        return self._of.get(subject)

    def remembered(self) -> list[tuple[str, int, int, bool]]:
        """Give what the next process must know."""
        return [(subject, one.since_ms, one.count, one.known) for subject, one in self._of.items()]
