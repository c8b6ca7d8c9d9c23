"""Partitions as a log entry or a request names them, where its events are of some partitions alone: `0-31,40`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby


def write_ranges(partitions: Iterable[int]) -> str:
    """Write partitions as ascending ranges; nothing for none."""
    ascending = sorted(set(partitions))
    runs = (list(run) for _, run in groupby(enumerate(ascending), lambda place: place[1] - place[0]))
    parts = [(run[0][1], run[-1][1]) for run in runs]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def read_ranges(text: str) -> tuple[int, ...]:
    """Read what `write_ranges` wrote."""
    result: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        result += range(int(first), int(last or first) + 1)
    return tuple(result)
