"""When an event occurred: the skew table of the wire formats, and texts read by the column."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admission.iso_times import iso_times
from cluster.admission.timestamps import TIME_LIMIT_MS, Format, Times, event_time, event_times
from cluster.model.values import coerce_timestamp

#: `timestamp`, `originalTimestamp`, the event's `sentAt`, the batch's.
STAMP, ORIGINAL, SENT, BATCH = 1_000, 2_000, 5_000, 7_000


@pytest.mark.parametrize(("fmt", "times", "expected"), [
    (Format.NATIVE, (STAMP, ORIGINAL, SENT, BATCH), (STAMP, False)),
    (Format.NATIVE, (None, ORIGINAL, SENT, BATCH), (None, False)),
    (Format.SEGMENT, (STAMP, None, None, BATCH), (STAMP - BATCH, True)),
    (Format.SEGMENT, (STAMP, ORIGINAL, None, BATCH), (ORIGINAL - BATCH, True)),
    (Format.SEGMENT, (STAMP, None, SENT, BATCH), (STAMP - SENT, True)),
    (Format.SEGMENT, (STAMP, None, None, None), (STAMP, False)),
    (Format.SEGMENT, (None, None, SENT, BATCH), (None, False)),
    (Format.HIGHTOUCH, (STAMP, None, None, BATCH), (STAMP - BATCH, True)),
    (Format.RUDDERSTACK, (STAMP, ORIGINAL, SENT, BATCH), (STAMP, False)),
    (Format.RUDDERSTACK, (None, ORIGINAL, SENT, BATCH), (ORIGINAL - SENT, True)),
    (Format.RUDDERSTACK, (None, ORIGINAL, None, None), (ORIGINAL, False)),
    (Format.RUDDERSTACK, (None, None, SENT, BATCH), (None, False)),
])
def test_the_skew_table(fmt: Format, times: tuple[int | None, ...], expected: tuple[int | None, bool]) -> None:
    assert event_time(fmt, *times) == expected  # type: ignore[arg-type]


def test_a_sender_whose_clock_is_ahead_gets_the_same_offset() -> None:
    right = event_time(Format.SEGMENT, STAMP, None, None, BATCH)
    assert event_time(Format.SEGMENT, STAMP + 10**9, None, None, BATCH + 10**9) == right


@pytest.mark.parametrize("fmt", Format)
def test_columns_and_single_events_agree(fmt: Format) -> None:
    extremes = (None, -(2**63), 0, STAMP, 2**63 - 1)
    rows = list(product(extremes, repeat=4))
    columns = [Times(np.array([row[at] or 0 for row in rows]).clip(-TIME_LIMIT_MS, TIME_LIMIT_MS),
                     np.array([row[at] is not None for row in rows])) for at in range(4)]
    ms, known, relative = event_times(fmt, *columns)
    found = [(int(m) if k else None, bool(r)) for m, k, r in zip(ms, known, relative, strict=True)]
    assert found == [event_time(fmt, *row) for row in rows]


_DIGITS = st.sampled_from(["00", "01", "23", "24", "29", "30", "59", "60", "61", "7"])
_TEXTS = st.builds(
    "{}-{}-{}{}{}:{}{}{}".format,
    st.sampled_from(["2026", "2024", "1900", "1969", "0000", "0001", "9999", "12345"]),
    st.sampled_from(["01", "02", "11", "12", "13", "00", "1"]), st.sampled_from(["01", "28", "29", "30", "31", "32"]),
    st.sampled_from(["T", " ", "t", ""]), _DIGITS, _DIGITS, st.just("") | st.builds(lambda text: ":" + text, _DIGITS),
    st.sampled_from(["", "Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "+0530", "+05", ".5Z", ".Z",
                     ".123456", ".1234567Z", ".999999+01:00", ".123+0530", ",5Z", "Z ", "+05:60"]),
)
_GOOD = st.datetimes().map(lambda at: at.isoformat() + "Z")


@given(st.lists(st.none() | _GOOD, max_size=4), st.lists(_TEXTS, max_size=2))
def test_texts_read_by_the_column_mean_what_the_rule_says(good: list[str | None], odd: list[str]) -> None:
    texts = good + odd
    column = iso_times(pa.array(texts, pa.string()))
    if column is not None:
        assert column.to_pylist() == [coerce_timestamp(text) for text in texts]


@pytest.mark.parametrize("texts", [
    ["2026-11-23T13:05:38.890+00:00", "2026-11-23T13:05:39Z"], ["2026-11-23T13:05:38.890663+00:00"] * 3,
    ["2026-11-23 13:05:38", None, "2026-11-23T13:05:38.5"], [None, "1969-12-31T23:59:59.9999Z"],
])
def test_the_times_that_sdks_write_take_the_fast_way(texts: list[str | None]) -> None:
    column = iso_times(pa.array(texts, pa.string()))
    assert column is not None
    assert column.to_pylist() == [coerce_timestamp(text) for text in texts]
