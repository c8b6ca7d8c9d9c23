"""Boundaries of local days, weeks and months as UTC ms: what `this: day|week|month` windows begin at.

A boundary is the first instant of a local date (semantics.md §2), also where a clock change swallows midnight, and
where a zone skips a day. Pure: the time zone database is data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np

from actors.evaluator.layout import I32, I64
from actors.evaluator.symbols import Unit

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MS = dt.timedelta(milliseconds=1)
_DAY_MS = 86_400_000
#: A month with a clock change, and a little: the next boundary lies at most this far ahead.
AHEAD_MS = 33 * _DAY_MS
#: Covered beyond what was asked for, on both sides, so that it is asked for seldom.
_SPARE_MS = 100 * _DAY_MS
#: Local dates that Python can name, with room for zones and spare.
_FIRST_MS = (dt.datetime(2, 1, 1, tzinfo=dt.UTC) - _EPOCH) // _MS
_LAST_MS = (dt.datetime(9998, 1, 1, tzinfo=dt.UTC) - _EPOCH) // _MS


class Calendars:
    """The boundaries of some calendars over a span that grows as it is asked for."""

    def __init__(self, calendars: Sequence[tuple[Unit, str]]) -> None:
        self._calendars = tuple(calendars)
        self._from_ms = self._until_ms = 0

    def cover(self, from_ms: int, until_ms: int) -> tuple[I32, I64] | None:
        """Give starts and boundaries (CSR) that cover the times asked for; None: those given last still do.

        Costs about 5 µs a day and calendar when they do not.
        """
        until_ms += AHEAD_MS
        if not self._calendars or (self._from_ms <= from_ms and until_ms <= self._until_ms):
            return None
        known = self._until_ms > self._from_ms
        self._from_ms = min(from_ms - _SPARE_MS, self._from_ms) if known else from_ms - _SPARE_MS
        self._until_ms = max(until_ms + _SPARE_MS, self._until_ms) if known else until_ms + _SPARE_MS
        lists = [boundaries(unit, zone, self._from_ms, self._until_ms) for unit, zone in self._calendars]
        starts = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int32)
        return starts, np.concatenate([np.array(one, np.int64) for one in lists])


def boundaries(unit: Unit, zone: str, from_ms: int, until_ms: int) -> list[int]:
    """Give the boundaries from the last one at or before `from_ms` to the first one after `until_ms`, ascending."""
    info = ZoneInfo(zone)
    last = min(until_ms, _LAST_MS)
    date = _unit_start(unit, _local_date(info, max(_FIRST_MS, min(from_ms, _LAST_MS))))
    result: list[int] = []
    while True:
        at = first_instant(info, date)
        if not result or at > result[-1]:  # a skipped day begins when the next one does
            result.append(at)
        if at > last:
            return result
        date = _following(unit, date)


def _unit_start(unit: Unit, date: dt.date) -> dt.date:
    if unit == "day":
        return date
    return date - dt.timedelta(days=date.weekday()) if unit == "week" else date.replace(day=1)


def _following(unit: Unit, start: dt.date) -> dt.date:
    if unit == "month":
        return (start + dt.timedelta(days=31)).replace(day=1)
    return start + dt.timedelta(days=1 if unit == "day" else 7)


def _local_date(info: ZoneInfo, at_ms: int) -> dt.date:
    return (_EPOCH + at_ms * _MS).astimezone(info).date()


def first_instant(info: ZoneInfo, date: dt.date) -> int:
    """Give the first ms whose local date is `date` or, where the zone skips it, a later one."""
    midnight = dt.datetime(date.year, date.month, date.day, tzinfo=info)
    at = (midnight.astimezone(dt.UTC) - _EPOCH) // _MS
    if _local_date(info, at) >= date and _local_date(info, at - 1) < date:
        return at
    # A clock change around midnight: it is within a day of where the offset says, find it by halves.
    before, after = at - _DAY_MS, at + _DAY_MS
    while after - before > 1:
        middle = (before + after) // 2
        if _local_date(info, middle) < date:
            before = middle
        else:
            after = middle
    return after
