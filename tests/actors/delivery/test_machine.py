"""Stimuli in, instructions out, on given time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from actors.delivery.changes import Change
from actors.delivery.instructions import Defer, Halt, Hold, Instruction, MoveCursors, Seal, Send, Settle, Split
from actors.delivery.machine import NEVER, SyncMachine, batch_id
from actors.delivery.rate_limit import TokenBucket
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Configured,
    Draining,
    Opened,
    Persisted,
    Revived,
    Stimulus,
    StoredBatch,
    SyncConfig,
    Tick,
)
from cluster.limits import SYNC_CONCURRENCY_MAX, SYNC_PENDING_MAX
from destinations.outcomes import Credentials, Delivered, Gone, Outcome, Permanent, Retry

START_MS = 1_764_518_400_000
CONFIG = SyncConfig("promo", "changes", "remove", batch_records=2, batch_age_ms=5, evaluators=(0,))


class Driver:
    """A machine with a clock and a log of instructions; `seq` numbers the changes."""

    def __init__(self, config: SyncConfig = CONFIG, rate: float | None = None, **machine: object) -> None:
        self.config = config
        self.bucket = TokenBucket(rate)
        self.now_ms = START_MS
        self.seq = 0
        self.machine = SyncMachine(config, bucket=self.bucket, jitter=lambda: 0.5, incarnation=7, **machine)  # type: ignore[arg-type]
        self.handle(Opened(0, 0))

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        return self.machine.handle(stimulus, self.now_ms)

    def read(self, *moves: str, at_head: bool = True) -> list[Instruction]:
        """`+a` enters a, `-a` lets a leave."""
        changes = []
        for move in moves:
            self.seq += 1
            kind = "entered" if move[0] == "+" else "exited"
            changes.append(Change(0, self.seq, "aud", 1, move[1:], kind, START_MS + self.seq, 0, "event"))  # type: ignore[arg-type]
        return self.handle(Changes(0, changes, self.seq, at_head))

    def persist(self, instructions: Iterable[Instruction]) -> list[Instruction]:
        out = []
        for instruction in instructions:
            if isinstance(instruction, Seal):
                for batch in instruction.batches:
                    out += self.handle(Persisted(batch.id))
        return out

    def answer(self, batch: str, *outcomes: Outcome) -> list[Instruction]:
        return self.handle(Answered(batch, outcomes))

    def after(self, ms: int) -> list[Instruction]:
        self.now_ms += ms
        return self.handle(Tick())

    @property
    def wake_in_ms(self) -> int:
        wake_ms = self.machine.next_wake_ms(self.now_ms)
        return wake_ms if wake_ms == NEVER else wake_ms - self.now_ms


def sealed(instructions: Iterable[Instruction]) -> list[list[str]]:
    return [
        [("+" if change.kind == "entered" else "-") + change.user_id for change in batch.changes]
        for instruction in instructions
        if isinstance(instruction, Seal)
        for batch in instruction.batches
    ]


def sent(instructions: Iterable[Instruction]) -> list[str]:
    return [instruction.batch_id for instruction in instructions if isinstance(instruction, Send)]


IDS = [batch_id("promo", 7, order) for order in range(200)]


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


def test_a_dead_letter_lets_the_users_later_changes_go() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.persist(driver.read("-a", "+c"))

    done = driver.answer(IDS[0], Permanent("413"), Permanent("413"))

    assert done == [Settle(IDS[0], 1, 0, (0, 1), "413"), Send(IDS[1], 1, START_MS)]


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


def test_a_failed_attempt_is_deferred_with_backoff_and_keeps_its_id() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))

    assert driver.answer(IDS[0], Retry("500"), Retry("500")) == [
        Defer(IDS[0], 1, START_MS, START_MS + 500, "retry", "500")
    ]
    assert driver.machine.state == "failing"
    assert driver.wake_in_ms == 500
    assert driver.after(500) == [Send(IDS[0], 2, START_MS)]
    assert driver.answer(IDS[0], Delivered(), Delivered()) == [Settle(IDS[0], 2, 2)]
    assert driver.machine.state == "running"


def test_retry_after_holds_every_batch_of_the_sync() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.answer(IDS[0], Retry("429", 30_000), Retry("429", 30_000))

    assert sent(driver.persist(driver.read("+c", "+d"))) == []
    assert driver.wake_in_ms == 30_000
    assert sent(driver.after(30_000)) == [IDS[0], IDS[1]]


def test_the_last_attempt_makes_a_dead_letter() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    gone = Retry("404", None, 1)

    assert driver.answer(IDS[0], gone, gone) == [Settle(IDS[0], 1, 0, (0, 1), "404")]
    assert driver.machine.backlog == 0


@pytest.mark.parametrize(("outcome", "state"), [(Gone("410"), "disabled"), (Credentials("401"), "credentials")])
def test_a_refusal_stops_the_sync_and_keeps_the_batch_until_somebody_acts(outcome: Outcome, state: str) -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))

    stopped = driver.answer(IDS[0], outcome, outcome)

    assert stopped[0] == Halt(state, outcome.reason)  # type: ignore[arg-type,union-attr]
    assert isinstance(stopped[1], Defer)
    assert stopped[1].outcome == state
    assert driver.machine.state == state
    assert not driver.machine.may_read
    assert driver.wake_in_ms == NEVER
    assert driver.read("+c", "+d") == []
    revived = driver.handle(Revived())
    assert revived[0] == Halt("", "")
    assert Send(IDS[0], 1, START_MS) in revived


def test_mended_settings_end_a_halt_and_the_time_of_trying_starts_anew() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.answer(IDS[0], Gone("410"), Gone("410"))
    driver.now_ms += 10 * 86_400_000

    mended = driver.handle(Configured(CONFIG, driver.bucket, mended=True))

    assert mended == [Halt("", ""), Send(IDS[0], 1, driver.now_ms)]
    assert isinstance(driver.answer(IDS[0], Retry("500"), Retry("500"))[0], Defer)


def test_mixed_outcomes_go_on_as_a_smaller_batch_in_the_same_place() -> None:
    driver = Driver(replace(CONFIG, batch_records=3))
    driver.persist(driver.read("+a", "+b", "+c"))
    driver.persist(driver.read("-a", "-b", "-c"))

    (split,) = driver.answer(IDS[0], Delivered(), Retry("busy"), Permanent("bad"))

    assert isinstance(split, Split)
    assert (split.batch_id, split.kept, split.delivered, split.dead) == (IDS[0], (1,), 1, (2,))
    assert split.new_id != IDS[0]
    assert sent(driver.handle(Persisted(split.new_id))) == []
    assert sent(driver.after(500)) == [split.new_id]
    assert sent(driver.answer(split.new_id, Delivered())) == [IDS[1]]


def test_what_was_taken_before_a_users_earlier_change_goes_again_behind_it() -> None:
    driver = Driver(replace(CONFIG, batch_records=3))
    driver.persist(driver.read("+a", "-a", "+b"))

    (split,) = driver.answer(IDS[0], Retry("busy"), Delivered(), Delivered())

    assert isinstance(split, Split)
    assert (split.kept, split.delivered) == ((0, 1), 1)


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

    resumed = driver.handle(Configured(CONFIG, driver.bucket))
    assert sealed(resumed) == []
    resumed = driver.after(5)
    assert sealed(resumed) == [["+b"]]
    assert resumed[-1] == Hold(False)
    assert sealed(driver.read("-b", "+b")) == [["-b", "+b"]]


def test_a_pause_is_written_down_and_a_restart_goes_on_netting() -> None:
    driver = Driver(replace(CONFIG, paused=True))
    fresh = SyncMachine(driver.config, bucket=driver.bucket, jitter=lambda: 0.5, incarnation=7)
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
    driver.handle(Configured(replace(CONFIG, paused=True), driver.bucket))

    assert sent(driver.persist(late)) == []
    assert driver.answer(IDS[0], Delivered(), Delivered()) == [Settle(IDS[0], 1, 2)]
    assert sent(driver.handle(Configured(CONFIG, driver.bucket))) == [IDS[1]]


def test_reading_stops_at_half_of_what_may_be_pending() -> None:
    driver = Driver(replace(CONFIG, batch_records=1000))
    driver.persist(driver.read(*(f"+a{number}" for number in range(SYNC_PENDING_MAX // 2))))
    assert driver.machine.may_read
    driver.read(*(f"+b{number}" for number in range(SYNC_PENDING_MAX // 2 + 1)))

    assert not driver.machine.may_read


def test_a_restart_resends_stored_batches_in_order_under_their_ids() -> None:
    stored = [StoredBatch(IDS[5], 5, ("b",), 3, START_MS - 9, START_MS + 100), StoredBatch(IDS[4], 4, ("a", "b"), 1)]
    driver = Driver(batches=stored)

    assert driver.machine.in_flight == 1
    assert driver.after(100) == []
    assert driver.answer(IDS[4], Delivered(), Delivered()) == [
        Settle(IDS[4], 2, 2),
        Send(IDS[5], 4, START_MS - 9),
    ]
    assert isinstance(seal := driver.read("+x", "+y")[0], Seal)
    assert seal.batches[0].order == 6


def test_dropped_records_leave_the_batch_and_an_empty_one_is_never_sent() -> None:
    driver = Driver()
    first = driver.read("+a", "+b")
    second = driver.read("-a", "+c")
    third = driver.read("+a", "-c")
    assert sent(driver.handle(Persisted(IDS[0], frozenset({1})))) == [IDS[0]]
    driver.handle(Persisted(IDS[1], frozenset({0, 1})))
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
