"""Durations: one form in, the shortest text out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.limits import DURATION_MAX_MS
from cluster.model.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("0s", 0), ("1ms", 1), ("250ms", 250), ("1s", 1_000), ("5m", 300_000), ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("1d2h3m4s5ms", 93_784_005), ("30m1h", 5_400_000), ("1m1ms", 60_001), ("007s", 7_000),
    ],
)  # fmt: skip
def test_an_integer_and_a_unit_join_to_ms(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("5", "unit"), ("", "not a duration"), ("-5m", "not negative"), ("1.5h", "whole numbers"),
        ("5 m", "not a duration"),
        ("5M", "not a duration"), ("5w", "not a duration"), ("m", "not a duration"), ("5m ", "not a duration"),
        ("5m\n", "not a duration"), ("٥m", "not a duration"), (300, "text with a unit"), (None, "text with a unit"),
        (True, "text with a unit"), ("36501d", "at most 36500d"), ("9" * 17 + "d", "at most"),
        ("9" * 50 + "s", "not a duration"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_plain_words(text: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0s"), (1, "1ms"), (1_000, "1s"), (90_000, "90s"), (5_400_000, "90m"), (86_400_000, "1d"),
        (604_800_000, "7d"),
        (60_001, "1m1ms"), (1_500, "1500ms"), (61_001, "61001ms"), (90_000_000, "25h"),
    ],
)  # fmt: skip
def test_a_duration_is_written_in_its_shortest_text(duration_ms: int, text: str) -> None:
    assert format_duration(duration_ms) == text


def test_a_negative_duration_is_not_written() -> None:
    with pytest.raises(ValueError, match="not negative"):
        format_duration(-1)


@given(st.integers(0, DURATION_MAX_MS))
def test_what_is_written_is_read_back(duration_ms: int) -> None:
    assert parse_duration(format_duration(duration_ms)) == duration_ms
