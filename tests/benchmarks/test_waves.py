"""`waves`: each call is timed apart, and every exit is held to its due ms."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from actors.evaluator.results import BatchResult, Transitions, no_transitions
from benchmarks.bench_waves import (
    LIVE_EVENTS,
    LIVE_EVERY_MS,
    Exits,
    Wave,
    exits_of,
    live_batches,
    live_through,
    midnight_wave,
    run_wave,
    second_wave,
)
from benchmarks.core import published_of


def transitions(*rows: tuple[int, int, int, int]) -> Transitions:
    """Give transitions of (user, audience, at, entered)."""
    user, audience, at, entered = (np.array(column) for column in zip(*rows, strict=True))
    count = len(rows)
    return Transitions(
        user.astype(np.int32), audience.astype(np.int32), at.astype(np.int64), np.zeros(count, np.int32),
        entered.astype(np.uint8), np.ones(count, np.uint8),
    )  # fmt: skip


class Scripted:
    """Has `due` users waiting at `due_ms`, and works off as many a call as it is asked to."""

    def __init__(self, due: int, due_ms: int) -> None:
        self._due, self._due_ms, self._now = due, due_ms, 0
        self.calls: list[tuple[int, int | None]] = []

    @property
    def behind(self) -> bool:
        return self._due > 0 and self._now >= self._due_ms

    def handle_batch(
        self, hits: pa.RecordBatch, now_ms: int, end_clock_ms: int | None = None, wave_users: int | None = None
    ) -> BatchResult:
        self._now = now_ms
        self.calls.append((now_ms, wave_users))
        if now_ms >= self._due_ms:
            self._due -= self._due if wave_users is None else min(self._due, wave_users)
        return BatchResult(np.zeros(hits.num_rows, np.uint8), no_transitions(), now_ms)


@pytest.mark.parametrize(("wave_users", "calls"), [(10, 5), (None, 1)])
def test_calls_count_as_the_waves_from_its_first_due_ms_until_nothing_is_behind(
    wave_users: int | None, calls: int
) -> None:
    machine = Scripted(50, 10_000)
    lived = live_through(machine, live_batches(100), 10_000, 10_000, wave_users)
    assert lived.over
    assert len(lived.wave_ms) == calls
    assert len(lived.after_ms) == 100
    times = [now for now, _ in machine.calls]
    assert set(np.diff(times)) == {LIVE_EVERY_MS}
    assert times[len(times) - 100 - calls] == 10_000
    assert {asked for _, asked in machine.calls} == {wave_users}
    assert (lived.added_ms >= 0).all()


def test_a_wave_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.bench_waves._CALLS_MAX", 20)
    assert not live_through(Scripted(50, 10_000), live_batches(100), 10_000, 10_000, 0).over


def test_one_live_event_in_ten_is_of_a_user_of_the_wave() -> None:
    batch = next(live_batches(1_000))
    numbers = np.array([int(key.removeprefix("user_")) for key in batch.column("key").to_pylist()])
    assert batch.num_rows == LIVE_EVENTS
    assert (numbers < 1_000).sum() == LIVE_EVENTS // 10
    assert batch.column("clock_ms").null_count == LIVE_EVENTS


def test_exits_are_held_to_each_users_due_ms() -> None:
    numbers, due_of = np.array([2, 0, 1]), np.array([100, 200, 300])
    good = [transitions((0, 7, 300, 0), (1, 7, 100, 0)), transitions((2, 7, 200, 0))]
    assert exits_of(good, 7, numbers, due_of) == Exits(3, 3, 3, 0)
    # An entry and another audience's exit are none of the wave's; one left twice, one at another ms.
    bad = [*good, transitions((2, 7, 200, 1), (2, 6, 1, 0)), transitions((2, 7, 201, 0))]
    assert exits_of(bad, 7, numbers, due_of) == Exits(4, 3, 3, 1)


def test_the_waves_are_due_within_a_second_and_at_midnight_in_berlin() -> None:
    one_second = second_wave(1_000)
    assert np.ptp(one_second.due_ms) < 1_000
    assert (one_second.due_ms - one_second.clocks_ms == 300_000).all()
    midnight = midnight_wave(1_000)
    due = {datetime.fromtimestamp(ms / 1_000, UTC).astimezone(ZoneInfo("Europe/Berlin")) for ms in midnight.due_ms}
    assert [(at.hour, at.minute, at.second) for at in due] == [(0, 0, 0)]
    (at,) = due
    events = {datetime.fromtimestamp(ms / 1_000, at.tzinfo).date() for ms in midnight.clocks_ms}
    assert [(at.date() - day).days for day in events] == [1]
    for wave in (one_second, midnight):
        assert (np.diff(wave.clocks_ms) >= 0).all()
        assert published_of(wave.document()).definitions.audiences.keys() == {"seen", "active"}


@pytest.mark.parametrize("wave", [second_wave(300), midnight_wave(300)], ids=lambda wave: wave.name)
@pytest.mark.parametrize("wave_users", [16, None])
def test_every_user_of_a_wave_leaves_at_its_due_ms_sliced_or_whole(wave: Wave, wave_users: int | None) -> None:
    lived, exits = run_wave(wave, wave_users)
    assert lived.over
    assert exits == Exits(300, 300, 300, 0)
