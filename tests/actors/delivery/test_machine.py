"""Stimuli in, instructions out, on given time."""

from __future__ import annotations

from dataclasses import replace

from actors.delivery.breaker import NEVER
from actors.delivery.concurrency import SharedSlots
from actors.delivery.ids import batch_id
from actors.delivery.instructions import (
    Hold,
    MoveCursors,
    Seal,
    Send,
    Settle,
)
from actors.delivery.machine import Recovered, SyncMachine
from actors.delivery.outbox import ORDER_SPAN
from actors.delivery.rate_limit import RateScopes
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Configured,
    Draining,
    Opened,
    Persisted,
    Shares,
    StoredBatch,
    Suspended,
    Tick,
)
from cluster.limits import SYNC_CONCURRENCY_MAX, SYNC_PENDING_MAX
from destinations.limits import RateLimit
from destinations.outcomes import Delivered, Retry
from tests.actors.delivery.driver import CONFIG, IDS, START_MS, Driver, sealed, sent


def test_a_full_batch_is_sealed_at_once_and_a_part_when_its_age_is_reached() -> None:
    driver = Driver()

    assert sealed(driver.read("+a", "+b", "+c")) == [["+a", "+b"]]
    assert driver.wake_in_ms == 5
    assert sealed(driver.after(4)) == []
    assert sealed(driver.after(1)) == [["+c"]]


def test_nothing_is_sent_before_it_is_durable() -> None:
    driver = Driver()
    seal = driver.read("+a", "+b")

    assert sent(seal) == []
    assert driver.persist(seal) == [Send(IDS[0], 1, START_MS)]


def test_the_cursor_moves_with_the_batch_and_never_past_what_waits() -> None:
    driver = Driver()
    (seal,) = driver.read("+a", "+b", "+c")

    assert isinstance(seal, Seal)
    assert seal.cursors == {0: 2}


def test_a_cursor_past_other_audiences_changes_is_written_now_and_then() -> None:
    driver = Driver()
    assert driver.handle(Changes(0, [], 50, True)) == [MoveCursors({0: 50})]
    assert driver.handle(Changes(0, [], 60, True)) == []
    assert driver.after(1000) == [MoveCursors({0: 60})]
    assert driver.after(1000) == []


def test_a_users_later_batch_waits_for_the_earlier_one() -> None:
    driver = Driver()
    first = driver.read("+a", "+b")
    second = driver.read("-a", "+c")
    third = driver.read("+d", "+e")
    assert sent(driver.persist(first)) == [IDS[0]]
    assert sent(driver.persist(second)) == []
    assert sent(driver.persist(third)) == [IDS[2]]

    assert sent(driver.answer(IDS[0], Retry("500"), Retry("500"))) == []
    assert sent(driver.after(500)) == [IDS[0]]
    assert sent(driver.answer(IDS[0], Delivered(), Delivered())) == [IDS[1]]


def test_requests_in_flight_are_bounded() -> None:
    driver = Driver(replace(CONFIG, batch_records=1))
    driver.persist(driver.read(*(f"+u{number}" for number in range(50))))

    assert driver.machine.in_flight == SYNC_CONCURRENCY_MAX
    driver.answer(IDS[0], Delivered())
    assert driver.machine.in_flight == SYNC_CONCURRENCY_MAX


def test_the_rate_limit_decides_when_the_next_request_goes() -> None:
    driver = Driver(replace(CONFIG, batch_records=1), rate=2.0)
    instructions = driver.persist(driver.read("+a", "+b"))

    assert sent(instructions) == [IDS[0]]
    assert driver.wake_in_ms == 500
    assert sent(driver.after(499)) == []
    assert sent(driver.after(1)) == [IDS[1]]


def test_on_exit_nothing_sends_entries_alone_and_moves_the_cursor_past_exits() -> None:
    driver = Driver(replace(CONFIG, on_exit="nothing", batch_records=4))
    (seal,) = driver.read("+a", "-a", "+a", "-a")
    assert isinstance(seal, Seal)
    assert sealed([seal]) == [["+a", "+a"]]
    assert seal.cursors == {0: 4}

    driver.now_ms += 1000
    assert driver.read("-c", "-d") == []
    assert driver.after(5) == [MoveCursors({0: 6})]
    assert driver.machine.backlog == 2


def test_state_sends_the_newest_and_nothing_for_a_round_trip() -> None:
    driver = Driver(replace(CONFIG, deliver="state", batch_records=10))
    driver.read("+a", "+b", "-a")
    driver.read("-b", "+b", "+c")

    (seal,) = driver.after(5)

    assert sealed([seal]) == [["+b", "+c"]]
    assert isinstance(seal, Seal)
    assert seal.cursors == {0: 6}


def test_state_seals_everything_at_once_in_batches_of_the_size() -> None:
    driver = Driver(replace(CONFIG, deliver="state", batch_records=2))

    assert sealed(driver.read("+a", "+b", "+c")) == [["+a", "+b"], ["+c"]]


def test_a_paused_audience_holds_the_net_and_sends_it_when_resumed() -> None:
    paused = replace(CONFIG, paused=True)
    driver = Driver(paused)
    held = driver.read("+a", "+b", "-a")
    assert Hold(True) not in held  # said when the machine was opened
    assert driver.machine.state == "paused"
    assert driver.wake_in_ms == NEVER

    resumed = driver.handle(Configured(CONFIG, driver.shares))
    assert sealed(resumed) == []
    resumed = driver.after(5)
    assert sealed(resumed) == [["+b"]]
    assert resumed[-1] == Hold(False)
    assert sealed(driver.read("-b", "+b")) == [["-b", "+b"]]


def test_a_pause_is_written_down_and_a_restart_goes_on_netting() -> None:
    driver = Driver(replace(CONFIG, paused=True))
    fresh = SyncMachine(driver.config, driver.shares, Recovered(7), jitter=lambda: 0.5)
    assert fresh.handle(Opened(0, 0), START_MS) == [Hold(True)]

    restarted = Driver(CONFIG, held=True)
    assert restarted.read("+a", "+b", at_head=False) == []
    resumed = restarted.read("-a", at_head=True)
    assert sealed(resumed) == []
    assert sealed(restarted.after(5)) == [["+b"]]


def test_nothing_is_sent_while_paused_but_what_was_in_flight_may_end() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    late = driver.read("+c", "+d")
    driver.handle(Configured(replace(CONFIG, paused=True), driver.shares))

    assert sent(driver.persist(late)) == []
    assert driver.answer(IDS[0], Delivered(), Delivered()) == [Settle(IDS[0], 1, 2)]
    assert sent(driver.handle(Configured(CONFIG, driver.shares))) == [IDS[1]]


def test_reading_stops_at_half_of_what_may_be_pending() -> None:
    driver = Driver(replace(CONFIG, batch_records=1000))
    driver.persist(driver.read(*(f"+a{number}" for number in range(SYNC_PENDING_MAX // 2))))
    assert driver.machine.may_read
    driver.read(*(f"+b{number}" for number in range(SYNC_PENDING_MAX // 2 + 1)))

    assert not driver.machine.may_read


def test_a_restart_resends_stored_batches_in_order_under_their_ids() -> None:
    stored = [
        StoredBatch(IDS[5], 5 * ORDER_SPAN, ("b",), 3, START_MS - 9, START_MS + 100),
        StoredBatch(IDS[4], 4 * ORDER_SPAN, ("a", "b"), 1),
    ]
    driver = Driver(batches=stored)

    assert driver.machine.in_flight == 1
    assert driver.after(100) == []
    assert driver.answer(IDS[4], Delivered(), Delivered()) == [
        Settle(IDS[4], 2, 2),
        Send(IDS[5], 4, START_MS - 9),
    ]
    assert isinstance(seal := driver.read("+x", "+y")[0], Seal)
    assert (seal.batches[0].id, seal.batches[0].order) == (IDS[6], 6 * ORDER_SPAN)


def test_dropped_records_leave_the_batch_and_an_empty_one_is_never_sent() -> None:
    driver = Driver()
    first = driver.read("+a", "+b")
    second = driver.read("-a", "+c")
    third = driver.read("+a", "-c")
    assert sent(driver.handle(Persisted(IDS[0], (StoredBatch(IDS[0], 0, ("a",)),)))) == [IDS[0]]
    driver.handle(Persisted(IDS[1], ()))
    assert sent(driver.persist(third)) == []

    # The third waits for the first through the second, although the second has nothing left.
    assert sent(driver.answer(IDS[0], Delivered())) == [IDS[2]]
    assert len(first) == len(second) == 1


def test_draining_starts_nothing_more_and_takes_late_answers() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.handle(Draining())

    assert driver.read("+c", "+d") == []
    assert driver.answer(IDS[0], Delivered(), Delivered()) == [Settle(IDS[0], 1, 2)]
    assert driver.wake_in_ms == NEVER


def test_a_clock_that_is_set_back_makes_nobody_wait() -> None:
    driver = Driver()
    driver.read("+a")
    driver.now_ms -= 3_600_000

    assert driver.wake_in_ms == 0
    assert sealed(driver.after(0)) == [["+a"]]


def test_ids_hold_no_dot_and_differ_by_sync_incarnation_and_order() -> None:
    ids = {batch_id(sync, incarnation, order) for sync in "ab" for incarnation in (1, 2) for order in range(50)}

    assert len(ids) == 200
    assert not any("." in name for name in ids)


def test_a_sync_that_somebody_paused_keeps_everything_and_goes_on_when_resumed() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.handle(Suspended(True))
    assert driver.machine.state == "paused"
    assert driver.answer(IDS[0], Delivered(), Delivered()) == [Settle(IDS[0], 1, 2)]
    assert driver.read("+c", "-c") == []
    assert driver.wake_in_ms == NEVER

    assert sealed(driver.handle(Suspended(False))) == [["+c", "-c"]]


def test_a_wish_for_quiet_holds_everybody_who_shares_the_limits() -> None:
    scopes = RateScopes()
    limit = RateLimit("app", 100, 1000)
    config = replace(CONFIG, batch_records=1)
    first, second = Driver(config), Driver(config)
    for number, driver in enumerate((first, second)):
        shares = Shares(scopes.limiter(f"sync {number}", [limit]), SharedSlots("s"))
        driver.handle(Configured(config, shares))
    first.persist(first.read("+a"))

    first.handle(Answered(IDS[0], (Delivered(),), quiet_ms=5_000))
    assert sent(second.persist(second.read("+b"))) == []
    assert second.wake_in_ms == 5_000


def test_what_becomes_ready_between_a_stimulus_and_the_question_for_the_next_wake_is_not_forgotten() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.answer(IDS[0], Retry("500"), Retry("500"))
    driver.now_ms += 499
    driver.handle(Tick())
    driver.now_ms += 1

    assert driver.wake_in_ms == 0
