"""Windows of semantics.md §2: `within`, `between_ago`, `since`, `this` with `tz`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from zoneinfo import available_timezones

from cluster.definitions.faults import Faults, Place, show
from cluster.definitions.model import BetweenAgo, Since, This, Window, Within
from cluster.model.durations import DURATION_FORM, format_duration, parse_duration

WINDOWS: Final = ("within", "between_ago", "since", "this")
WINDOW_KEYS: Final = (*WINDOWS, "tz")
UNITS: Final = ("day", "week", "month")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_window(
    node: Mapping[str, Any], place: Place, retention_ms: int | None, faults: Faults
) -> Window | None:
    """Read the node's one window; `retention_ms` is its event model's, None where that is not known."""
    given = [key for key in WINDOWS if key in node]
    if "tz" in node and "this" not in node:
        faults.add((*place, "tz"), "tz goes with `this`", allowed="this: day, week or month")
    if len(given) != 1:
        found = ", ".join(given) or "none"
        faults.add(place, "an event condition has exactly one window", found=found, allowed=", ".join(WINDOWS))
        return None
    if given[0] == "within":
        within_ms = parse_span(node, "within", place, retention_ms, faults)
        return None if within_ms is None else Within(within_ms)
    if given[0] == "between_ago":
        return _between_ago(node["between_ago"], (*place, "between_ago"), retention_ms, faults)
    if given[0] == "since":
        return _since(node["since"], (*place, "since"), faults)
    return _this(node, place, faults)


def parse_span(
    node: Mapping[str, Any], key: str, place: Place, retention_ms: int | None, faults: Faults, *, least_ms: int = 1
) -> int | None:
    """Read the duration under `key`, at least `least_ms`, at most the retention (None: no bound)."""
    if key not in node:
        faults.add(place, f"required key {key} is missing", found=None, allowed=DURATION_FORM)
        return None
    return _duration(node[key], (*place, key), retention_ms, faults, least_ms)


def _duration(raw: object, place: Place, retention_ms: int | None, faults: Faults, least_ms: int) -> int | None:
    try:
        duration_ms = parse_duration(raw)
    except ValueError as error:
        faults.add(place, str(error), allowed=DURATION_FORM)
        return None
    if duration_ms < least_ms:
        faults.add(place, "a duration above 0 is needed", allowed=DURATION_FORM)
        return None
    if retention_ms is not None and duration_ms > retention_ms:
        allowed = f"at most {format_duration(retention_ms)}, or a longer retention"
        faults.add(place, "the window is longer than the event model's retention", allowed=allowed)
        return None
    return duration_ms


def _between_ago(raw: object, place: Place, retention_ms: int | None, faults: Faults) -> Window | None:
    if not isinstance(raw, list) or len(raw) != 2:
        faults.add(place, "between_ago takes a list of two durations", allowed="[A, B], A shorter than B")
        return None
    after_ms = _duration(raw[0], (*place, 0), None, faults, 0)
    until_ms = _duration(raw[1], (*place, 1), retention_ms, faults, 1)
    if after_ms is None or until_ms is None:
        return None
    if after_ms >= until_ms:
        faults.add(place, "the first duration must be shorter than the second", allowed="[A, B], A shorter than B")
        return None
    return BetweenAgo(after_ms, until_ms)


def _since(raw: object, place: Place, faults: Faults) -> Window | None:
    time_ms = _zoned_time_ms(raw)
    if time_ms is None:
        faults.add(place, "not a time with a zone", allowed="ISO 8601 with zone, such as 2026-11-01T00:00:00Z")
        return None
    return Since(time_ms)


def _zoned_time_ms(raw: object) -> int | None:
    """Read ISO 8601 with a zone to UTC ms, cut downwards; None for anything else."""
    if not isinstance(raw, str) or len(raw) < len("2026-11-01"):
        return None
    try:
        at = datetime.fromisoformat(raw)
    except ValueError:
        return None
    return None if at.tzinfo is None else (at - _EPOCH) // timedelta(milliseconds=1)


def _this(node: Mapping[str, Any], place: Place, faults: Faults) -> Window | None:
    unit, tz = node["this"], node.get("tz", "UTC")
    sound = True
    if unit not in UNITS:
        hint = faults.suggestion(unit, UNITS)
        faults.add((*place, "this"), f"unknown unit {show(unit)}{hint}", allowed=", ".join(UNITS))
        sound = False
    if not isinstance(tz, str) or not _is_zone(tz):
        hint = faults.suggestion(tz, _zones())
        message = f"unknown time zone {show(tz)}{hint}"
        faults.add((*place, "tz"), message, allowed="a name of the IANA time zone database, such as Europe/Berlin")
        sound = False
    return This(unit, tz) if sound else None


@cache
def _zones() -> frozenset[str]:
    """List the zones once: it reads a folder tree."""
    return frozenset(available_timezones())


def _is_zone(name: str) -> bool:
    return name in _zones()
