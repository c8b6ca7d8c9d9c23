"""Values: durations, times, paths into an event, and coercion to a declared type (semantics.md §1, §2)."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

#: "Null, absent and wrongly typed are missing."
MISSING = None

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
CANONICAL_FIELDS = (
    "type", "event", "user_id", "anonymous_id", "group_id", "previous_id", "message_id", "source",
    "timestamp", "received_at", "properties", "traits", "context",
)  # fmt: skip



class Moment(int):
    """Ms since 1970 already, as typed columns hold them: not a number to be judged by its size."""


_DURATION_PART = re.compile(r"(\d+)(ms|s|m|h|d)")
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_INT64_MAX = 2**63 - 1


def duration_ms(text: str) -> int:
    """An integer and a unit, joinable: `1h30m`."""
    parts = _DURATION_PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        message = f"not a duration: {text!r}"
        raise ValueError(message)
    return sum(int(number) * UNIT_MS[unit] for number, unit in parts)


def moment_ms(instant: dt.datetime) -> int:
    """A datetime as ms since 1970, cut downwards; a missing zone is UTC."""
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=dt.UTC)
    return (instant - EPOCH) // dt.timedelta(milliseconds=1)


def read_timestamp(value: Any) -> int | None:
    """RFC 3339 strings and numbers become timestamps; "what is below a ms is cut, downwards"."""
    if isinstance(value, dt.datetime):
        return moment_ms(value)
    if isinstance(value, Moment):
        return int(value)
    if isinstance(value, str):
        return _timestamp_of_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return MISSING
    # "above 1e11 in size: ms, else seconds", these by the digits written, whatever binary makes of 1764518400.051
    whole = math.floor(value if abs(value) > 1e11 else Decimal(repr(value)) * 1000)
    return whole if abs(whole) <= _INT64_MAX else MISSING


def _timestamp_of_text(text: str) -> int | None:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return MISSING
    year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
    fraction_ms = int(((found[7] or "") + "000")[:3])
    leap = second == 60
    try:  # datetime knows no year 0: 400 years are a whole number of weeks, and of days
        instant = dt.datetime(year or 400, month, day, hour, minute, second - leap, tzinfo=dt.UTC)
    except ValueError:
        return MISSING
    whole_ms = moment_ms(instant) + leap * 1000 - (0 if year else 146_097 * 86_400_000)
    offset_ms = 0
    if found[8] and found[8] not in "Zz":
        hours, minutes = int(found[8][1:3]), int(found[8][4:6])
        if hours > 23 or minutes > 59:
            return MISSING
        offset_ms = (hours * 60 + minutes) * 60_000 * (-1 if found[8][0] == "-" else 1)
    if leap and (whole_ms - offset_ms) % 86_400_000:
        return MISSING  # a leap second ends a UTC day, and no other minute
    return whole_ms + fraction_ms - offset_ms


def number_text(value: int | float) -> str | None:
    """A number in its shortest form: 12.0 is `12`."""
    if isinstance(value, float) and not math.isfinite(value):
        return MISSING
    if isinstance(value, int):
        return str(value)
    exact = Decimal(repr(value)).normalize()  # the fewest digits that read back as the same float
    if exact == 0:
        return "0"
    sign, digits, _ = exact.as_tuple()
    if -7 <= exact.adjusted() < 21 and abs(exact) >= Decimal("1e-6"):
        return format(exact, "f")  # JavaScript, which most senders are, writes these without an exponent
    shown = "".join(str(digit) for digit in digits)
    fraction = f".{shown[1:]}" if shown[1:] else ""
    return f"{'-' if sign else ''}{shown[0]}{fraction}e{exact.adjusted():+d}"


def read_text(value: Any) -> str | None:
    """Text as it is; numbers and booleans become text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    return value if isinstance(value, str) else MISSING


def read_number(value: Any) -> float | None:
    """Numbers are float64; "a string that is a JSON number becomes one (NaN and Infinity are missing)"."""
    if isinstance(value, bool):
        return MISSING
    if isinstance(value, str) and not _JSON_NUMBER.fullmatch(value):
        return MISSING
    if not isinstance(value, str | int | float | Decimal):
        return MISSING
    try:
        number = float(value)
    except OverflowError:
        return MISSING
    return number if math.isfinite(number) else MISSING


def read_boolean(value: Any) -> bool | None:
    """`true`, `false` and the texts "true" and "false"."""
    if value in ("true", "false"):
        return bool(value == "true")
    return value if isinstance(value, bool) else MISSING


def read_list(value: Any) -> tuple[str, ...] | None:
    """List elements become text, nulls are dropped; so is an element that is no text (it is missing, as null is)."""
    if not isinstance(value, list | tuple):
        return MISSING
    return tuple(text for text in map(read_text, value) if text is not MISSING)


READERS = {
    "string": read_text,
    "number": read_number,
    "boolean": read_boolean,
    "timestamp": read_timestamp,
    "list": read_list,
}


def coerce(value: Any, declared: str) -> Any:
    """Read a value as the declared type, or MISSING."""
    return MISSING if value is None else READERS[declared](value)


def at_path(row: Mapping[str, Any], path: str) -> Any:
    """Follow a dotted path; "unknown columns are ignored", so only canonical fields can be its head."""
    head, *rest = path.split(".")
    if head not in CANONICAL_FIELDS:
        return MISSING
    value = row.get(head)
    if head in ("properties", "traits", "context") and isinstance(value, str):
        value = json.loads(value)  # replay: "structs, maps or JSON text"
    for name in rest:
        if not isinstance(value, Mapping):
            return MISSING
        value = value.get(name)
    return value
