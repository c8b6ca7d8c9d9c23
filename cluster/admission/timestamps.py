"""An event's time from what its sender wrote: the skew table of the wire formats, as pure functions.

The sender's clock cancels out: an event is as old as `sent - original`, counted back from the moment it was
received. That moment is stamped later, so the result is an offset to it; a time that cannot be corrected is absolute.

    format                 ts                                                    when
    native                 timestamp                                             always absolute
    segment, hightouch     received - (sent - original)                          both known
                           original                                              no `sent`
    rudderstack            timestamp                                             present: as it is
                           received - (sent - original)                          both known
                           original                                              no `sent`
    any                    missing: the clock is taken                           nothing known

`original` is `originalTimestamp`, else (not at RudderStack) `timestamp`; `sent` the event's `sentAt`, else the
batch's. Always applied: no threshold, no allowance (semantics.md §3). An unreadable time counts as absent.

Every time is first cut to ±`TIME_LIMIT_MS`, so that differences fit int64: what lies beyond is long past or far in
the future either way, and means the same (`too_late`, or the clock).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: 73 million years.
TIME_LIMIT_MS = 2**61


class Format(IntEnum):
    """The wire format of an event, as the envelope's `format` column holds it."""

    NATIVE = 0
    SEGMENT = 1
    RUDDERSTACK = 2
    HIGHTOUCH = 3


class Times(NamedTuple):
    """Times of rows in ms; a value counts only where `known`."""

    ms: Int64s
    known: Bools

    @classmethod
    def unknown(cls, count: int) -> Times:
        """Give `count` rows without a time."""
        return cls(np.zeros(count, np.int64), np.zeros(count, np.bool_))


class EventTimes(NamedTuple):
    """Times of rows in ms; where `relative`, an offset to the moment of reception."""

    ms: Int64s
    known: Bools
    relative: Bools


def event_time(
    fmt: Format, timestamp_ms: int | None, original_ms: int | None, event_sent_ms: int | None,
    batch_sent_ms: int | None,
) -> tuple[int | None, bool]:
    """Give (ts_ms, relative) of one event; the slow twin of `event_times`."""
    timestamp_ms = cut(timestamp_ms)
    if fmt is Format.NATIVE or (fmt is Format.RUDDERSTACK and timestamp_ms is not None):
        return timestamp_ms, False
    original = timestamp_ms if original_ms is None else cut(original_ms)
    sent = cut(batch_sent_ms if event_sent_ms is None else event_sent_ms)
    if original is None or sent is None:
        return original, False
    return original - sent, True


def cut(time_ms: int | None) -> int | None:
    """Bring a time within ±TIME_LIMIT_MS."""
    return None if time_ms is None else max(-TIME_LIMIT_MS, min(TIME_LIMIT_MS, time_ms))


def event_times(fmt: Format, timestamp: Times, original: Times, event_sent: Times, batch_sent: Times) -> EventTimes:
    """Give the times of the rows of one format (all of them cut already)."""
    never = np.zeros(len(timestamp.known), np.bool_)
    if fmt is Format.NATIVE:
        return EventTimes(timestamp.ms, timestamp.known, never)
    started = first_known(original, timestamp)
    sent = first_known(event_sent, batch_sent)
    relative = started.known & sent.known
    if fmt is Format.RUDDERSTACK:
        relative &= ~timestamp.known
        started = first_known(timestamp, original)
    return EventTimes(np.where(relative, started.ms - sent.ms, started.ms), started.known, relative)


def first_known(first: Times, second: Times) -> Times:
    """Take `first` where it is known, else `second`."""
    if first.known.all():
        return first
    return Times(np.where(first.known, first.ms, second.ms), first.known | second.known)
