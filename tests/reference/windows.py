"""Windows: which events count at t, and when that changes with no new event (semantics.md §2)."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from tests.reference.values import EPOCH, duration_ms, moment_ms, read_timestamp

_SCAN_MS = 15 * 60_000


def in_window(node: Mapping[str, Any], ts: int, t: int) -> bool:
    """Is an event at ts in the node's window at t? (Retention is the caller's.)"""
    if "within" in node:
        return t - duration_ms(node["within"]) < ts <= t
    if "between_ago" in node:
        nearest_ms, farthest_ms = (duration_ms(text) for text in node["between_ago"])
        return t - farthest_ms < ts <= t - nearest_ms
    if "since" in node:
        since_ms = read_timestamp(node["since"])
        assert since_ms is not None, node
        return since_ms <= ts <= t
    return local_start(node.get("tz", "UTC"), node["this"], t) <= ts <= t


def edges(node: Mapping[str, Any], ts: int) -> list[int]:
    """Every instant at which the event at ts may come into or fall out of the node's window."""
    if "within" in node:
        return [ts + duration_ms(node["within"])]
    if "between_ago" in node:
        return [ts + duration_ms(text) for text in node["between_ago"]]
    if "since" in node:
        return []  # an event since TIME stays since TIME
    zone, unit = node.get("tz", "UTC"), node["this"]
    return [next_local_start(zone, unit, ts)]


def local_start(zone: str, unit: str, t: int) -> int:
    """The local start of the day, week or month that contains t: "the first instant of that local date"."""
    return first_instant(zone, _unit_start(unit, _local_date(zone, t)))


def next_local_start(zone: str, unit: str, t: int) -> int:
    """The local start of the following day, week or month."""
    start = _unit_start(unit, _local_date(zone, t))
    if unit == "day":
        return first_instant(zone, start + dt.timedelta(days=1))
    if unit == "week":
        return first_instant(zone, start + dt.timedelta(days=7))
    return first_instant(zone, (start + dt.timedelta(days=31)).replace(day=1))


def _unit_start(unit: str, date: dt.date) -> dt.date:
    if unit == "day":
        return date
    return date - dt.timedelta(days=date.weekday()) if unit == "week" else date.replace(day=1)


@functools.lru_cache(maxsize=100_000)
def _local_date(zone: str, t: int) -> dt.date:
    return (EPOCH + dt.timedelta(milliseconds=t)).astimezone(ZoneInfo(zone)).date()


@functools.lru_cache(maxsize=10_000)
def first_instant(zone: str, date: dt.date) -> int:
    """The first instant whose local date is this one (or a later one, where a zone skips a whole day).

    Looks, since a clock change may swallow midnight: quarter hour by quarter hour, then by halves to the ms.
    """
    after = moment_ms(dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC)) - 16 * 3_600_000
    while _local_date(zone, after + _SCAN_MS) < date:
        after += _SCAN_MS
    until = after + _SCAN_MS
    while until - after > 1:
        middle = (after + until) // 2
        if _local_date(zone, middle) < date:
            after = middle
        else:
            until = middle
    return until
