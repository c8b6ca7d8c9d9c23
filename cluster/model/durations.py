"""Durations as people write them (`1h30m`) and as everybody inside reads them: whole ms."""

from __future__ import annotations

import re
from typing import Final

from cluster.limits import DURATION_MAX_MS

UNIT_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
#: What a fault says is allowed.
DURATION_FORM: Final = "an integer and a unit (ms, s, m, h, d), joinable: 30s, 5m, 1h30m, 7d"

_DURATION = re.compile(r"(?:[0-9]{1,18}(?:ms|s|m|h|d))+")
_PART = re.compile(r"([0-9]+)(ms|[smhd])")


def parse_duration(text: object) -> int:
    """Give the duration in ms, from 0 to DURATION_MAX_MS.

    Raises ValueError, with a text fit for a fault, for anything that is not the whole form: a bare number, a sign,
    a space, a fraction, an unknown unit.
    """
    if not isinstance(text, str):
        message = "a duration is text with a unit"
        raise ValueError(message)
    if not _DURATION.fullmatch(text):
        raise ValueError(_what_is_wrong(text))
    total_ms = sum(int(count) * UNIT_MS[unit] for count, unit in _PART.findall(text))
    if total_ms > DURATION_MAX_MS:
        message = f"a duration is at most {format_duration(DURATION_MAX_MS)}"
        raise ValueError(message)
    return total_ms


def format_duration(duration_ms: int) -> str:
    """Give the shortest text that `parse_duration` reads back: 5400000 -> `1h30m`, 90000 -> `90s`, 0 -> `0s`.

    Among texts of one length the one with fewer parts wins. Raises ValueError below 0.
    """
    if duration_ms < 0:
        message = f"a duration is not negative, found {duration_ms} ms"
        raise ValueError(message)
    if duration_ms == 0:
        return "0s"
    single = [f"{duration_ms // size}{unit}" for unit, size in UNIT_MS.items() if duration_ms % size == 0]
    return min([*single, _joined(duration_ms)], key=len)


def _joined(duration_ms: int) -> str:
    parts: list[str] = []
    for unit, size in UNIT_MS.items():
        count, duration_ms = divmod(duration_ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _what_is_wrong(text: str) -> str:
    if text.isascii() and text.strip().isdigit():
        return "a duration needs a unit"
    if text.lstrip().startswith("-"):
        return "a duration is not negative"
    if "." in text or "," in text:
        return "a duration has whole numbers only (90s, not 1.5m)"
    return "not a duration"
