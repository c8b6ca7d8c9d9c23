"""Local days, weeks and months against walking through them with zoneinfo, at the ms of each change."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluator.calendars import AHEAD_MS, Calendars, boundaries
from actors.evaluator.compiling import compile_program
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.kernels.windows import next_boundary
from actors.evaluator.layout import NEVER, StateArrays
from actors.evaluator.state import new_state, with_boundaries
from actors.evaluator.symbols import Unit
from tests.actors.evaluator.examples import published
from tests.reference.windows import local_start, next_local_start

DAY = 86_400_000
UNITS: tuple[Unit, ...] = ("day", "week", "month")
#: Zones whose clocks change at or around midnight, by odd amounts, or that once skipped a day.
ODD_ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "America/Asuncion", "America/Havana", "America/Nuuk", "America/Santiago",
    "America/Sao_Paulo", "America/Scoresbysund", "Antarctica/Troll", "Asia/Amman", "Asia/Beirut", "Asia/Gaza",
    "Asia/Kathmandu", "Asia/Tehran", "Atlantic/Azores", "Australia/Lord_Howe", "Europe/Berlin", "Pacific/Apia",
    "Pacific/Chatham", "Pacific/Kiritimati", "UTC",
)  # fmt: skip
ZONES = sorted(available_timezones())


def at(text: str, zone: str = "UTC") -> int:
    """The ms of a local time (its first occurrence)."""
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def local(zone: str, ms: int) -> dt.datetime:
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=ms)).astimezone(ZoneInfo(zone))


def part(unit: Unit, zone: str, ms: int) -> tuple[int, ...]:
    """Which day, week or month it is there: what changes at a boundary, and nowhere else."""
    date = local(zone, ms).date()
    if unit == "day":
        return (date.toordinal(),)
    return date.isocalendar()[:2] if unit == "week" else (date.year, date.month)


def walked(unit: Unit, zone: str, from_ms: int, until_ms: int, step_ms: int = 900_000) -> list[int]:
    """The first ms of each new day, week or month in between: look every quarter of an hour, then by halves."""
    found, before = [], from_ms
    reached = part(unit, zone, from_ms)
    for after in range(from_ms + step_ms, until_ms + step_ms, step_ms):
        if part(unit, zone, after) > reached:  # a clock that goes back over midnight does not begin the day anew
            low, high = before, after
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if part(unit, zone, middle) <= reached else (low, middle)
            found.append(high)
            reached = part(unit, zone, high)
        before = after
    return [one for one in found if one <= until_ms]


def state_of(calendars: list[tuple[Unit, str]], from_ms: int, until_ms: int) -> StateArrays:
    covered = Calendars(calendars).cover(from_ms, until_ms)
    assert covered is not None
    return with_boundaries(new_state(compile_program(published()).arrays), *covered)


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_boundaries_are_where_the_local_date_changes(zone: str) -> None:
    """Two years of now, and the years around 2011 when Samoa skipped a day."""
    for first, last in (("2025-12-20", "2028-01-10"), ("2010-12-20", "2012-02-10")):
        from_ms, until_ms = at(first), at(last)
        days = walked("day", zone, from_ms, until_ms)
        for unit in UNITS:
            found = boundaries(unit, zone, from_ms, until_ms)
            assert found == sorted(set(found))
            assert found[0] <= from_ms < found[1]
            assert found[-2] <= until_ms < found[-1]
            own = [day for day in days if part(unit, zone, day) != part(unit, zone, day - 1)]
            assert found[1:-1] == own, unit


@given(st.sampled_from(ZONES), st.sampled_from(UNITS), st.integers(at("2012-01-01"), at("2037-12-31")))
def test_every_zone_begins_its_days_weeks_and_months_as_the_reference_says(zone: str, unit: Unit, ms: int) -> None:
    found = boundaries(unit, zone, ms, ms)
    assert found[0] == local_start(zone, unit, ms)
    assert found[1] == next_local_start(zone, unit, ms)
    for boundary in found:
        assert part(unit, zone, boundary - 1) < part(unit, zone, boundary)
    assert part(unit, zone, found[0]) == part(unit, zone, ms) == part(unit, zone, found[1] - 1)


KNOWN: list[tuple[str, Unit, str, float]] = [
    ("Europe/Berlin", "day", "2026-03-29T00:00", 23),
    ("Europe/Berlin", "day", "2026-10-25T00:00", 25),
    ("Europe/Berlin", "week", "2026-03-23T00:00", 7 * 24 - 1),
    ("Europe/Berlin", "month", "2026-10-01T00:00", 31 * 24 + 1),
    ("Africa/Cairo", "day", "2026-04-24T01:00", 23),  # 0:00 to 1:00 is not there
    ("Asia/Beirut", "day", "2026-03-29T01:00", 23),
    ("Asia/Beirut", "day", "2026-10-24T00:00", 25),  # 23:00 to 24:00 is there twice
    ("America/Havana", "day", "2026-03-08T01:00", 23),
    ("America/Santiago", "week", "2026-08-31T00:00", 7 * 24 - 1),
    ("America/Sao_Paulo", "day", "2018-11-04T01:00", 23),
    ("Australia/Lord_Howe", "day", "2026-10-04T00:00", 23.5),
    ("Antarctica/Troll", "day", "2026-03-29T00:00", 22),
    ("Pacific/Apia", "day", "2011-12-29T00:00", 24),  # the next day is the 31st
    ("Pacific/Apia", "week", "2011-12-26T00:00", 6 * 24),
    ("Pacific/Apia", "month", "2011-12-01T00:00", 30 * 24),
    ("America/Nuuk", "day", "2026-10-24T00:00", 25),
    ("UTC", "month", "2028-02-01T00:00", 29 * 24),
    ("America/Toronto", "day", "1919-03-31T00:30", 23.5),  # 23:30 to 0:30 is not there
]  # fmt: skip


@pytest.mark.parametrize(("zone", "unit", "begins", "hours"), KNOWN)
def test_an_event_counts_to_the_last_ms_of_its_unit_and_no_longer(
    zone: str, unit: Unit, begins: str, hours: float
) -> None:
    """At D - 1, D and D + 1 ms: until when counts an event at this ts?"""
    start = at(begins, zone)
    end = start + round(hours * 3_600_000)
    table = StateTable(state_of([("day", "UTC"), (unit, zone)], start - 40 * DAY, end + 40 * DAY))
    assert next_boundary(table, 1, start - 1) == start
    assert [next_boundary(table, 1, ts) for ts in (start, start + 1, end - 1)] == [end, end, end]
    assert next_boundary(table, 1, end) > end
    assert next_boundary(table, 1, end + 1) == next_boundary(table, 1, end)


@given(st.lists(st.integers(at("2026-01-01"), at("2027-01-01")), max_size=30))
def test_what_was_looked_up_last_does_not_matter(times: list[int]) -> None:
    calendars: list[tuple[Unit, str]] = [(unit, zone) for zone in ("Europe/Berlin", "Africa/Cairo") for unit in UNITS]
    state = state_of(calendars, at("2026-01-01"), at("2027-01-01"))
    table = StateTable(state)
    for number, ms in enumerate(times):
        which = number % len(calendars)
        own = state.calendar_bounds[state.calendar_starts[which] : state.calendar_starts[which + 1]]
        for ts in (ms, int(own[number % len(own)]), int(own[number % len(own)]) - 1):
            place = bisect_right(own.tolist(), ts)
            assert next_boundary(table, which, ts) == (own[place] if place < len(own) else NEVER)


def test_a_span_that_grows_keeps_what_it_had() -> None:
    calendars = Calendars([("day", "Europe/Berlin"), ("month", "Asia/Singapore")])
    now = at("2026-06-15")
    first = calendars.cover(now - DAY, now)
    assert first is not None
    assert calendars.cover(now - 50 * DAY, now + 50 * DAY) is None, "there is room to spare on both sides"
    second = calendars.cover(now, now + 400 * DAY)
    assert second is not None
    for which in range(2):
        old, new = (bounds[starts[which] : starts[which + 1]] for starts, bounds in (first, second))
        assert set(old) <= set(new)
        assert new[0] <= now - DAY
        assert new[-1] > now + 400 * DAY + AHEAD_MS
        assert (np.diff(new) > 0).all()
    assert Calendars([]).cover(0, now) is None


@pytest.mark.parametrize("ms", [-(2**62), at("0001-01-01"), at("9999-12-31"), 2**62])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Anchorage"])
def test_times_that_no_calendar_has_stop_nothing(zone: str, unit: Unit, ms: int) -> None:
    assert boundaries(unit, zone, ms, ms)
