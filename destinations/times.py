"""Instants as destinations read them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def iso_ms(at_ms: int) -> str:
    """Give `2026-11-23T10:00:00.123Z`."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{_iso_s(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=4096)
def _iso_s(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
