"""What failures make of batches and of the sync."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.delivery.bounds import BREAKER_FAILURES, BREAKER_FIRST_MS, REFUSED_ALONE_MAX
from actors.delivery.breaker import NEVER
from actors.delivery.instructions import (
    Dead,
    Defer,
    Halt,
    Instruction,
    Revive,
    Seal,
    Send,
    Settle,
    Split,
)
from actors.delivery.outbox import ORDER_SPAN, stretches
from actors.delivery.stimuli import (
    Answered,
    Configured,
    Persisted,
    RetryAsked,
    Revived,
    StoredBatch,
)
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Outcome, Permanent, Resend, Retry, Skipped
from tests.actors.delivery.driver import CONFIG, IDS, START_MS, Driver, sent


def test_a_dead_letter_lets_the_users_later_changes_go() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.persist(driver.read("-a", "+c"))

    done = driver.answer(IDS[0], Permanent("413"), Permanent("413"))

    assert done == [Settle(IDS[0], 1, 0, 0, Dead((0, 1), frozenset({0}), "413")), Send(IDS[1], 1, START_MS)]


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

    assert driver.answer(IDS[0], gone, gone) == [Settle(IDS[0], 1, 0, 0, Dead((0, 1), reason="404"))]
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
    revived = driver.handle(RetryAsked(dead_letters=False))
    assert revived[0] == Halt("", "")
    assert Send(IDS[0], 1, START_MS) in revived


def test_mended_settings_end_a_halt_and_the_time_of_trying_starts_anew() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))
    driver.answer(IDS[0], Gone("410"), Gone("410"))
    driver.now_ms += 10 * 86_400_000

    mended = driver.handle(Configured(CONFIG, driver.shares, mended=True))

    assert mended == [Halt("", ""), Send(IDS[0], 1, driver.now_ms)]
    assert isinstance(driver.answer(IDS[0], Retry("500"), Retry("500"))[0], Defer)


def test_mixed_outcomes_go_on_as_a_smaller_batch_in_the_same_place() -> None:
    driver = Driver(replace(CONFIG, batch_records=3))
    driver.persist(driver.read("+a", "+b", "+c"))
    driver.persist(driver.read("-a", "-b", "-c"))

    (split,) = driver.answer(IDS[0], Delivered(), Retry("busy"), Permanent("bad"))

    assert isinstance(split, Split)
    (rest,) = split.parts
    assert (split.batch_id, rest.kept, split.delivered) == (IDS[0], (1,), 1)
    assert split.dead == Dead((2,), frozenset({2}), "bad")
    assert rest.id != IDS[0]
    assert sent(driver.handle(Persisted(rest.id))) == []
    assert sent(driver.after(500)) == [rest.id]
    assert sent(driver.answer(rest.id, Delivered())) == [IDS[1]]


def test_what_was_taken_before_a_users_earlier_change_goes_again_behind_it() -> None:
    driver = Driver(replace(CONFIG, batch_records=3))
    driver.persist(driver.read("+a", "-a", "+b"))

    (split,) = driver.answer(IDS[0], Retry("busy"), Delivered(), Delivered())

    assert isinstance(split, Split)
    assert [part.kept for part in split.parts] == [(0, 1)]
    assert split.delivered == 1


def test_a_batch_that_is_refused_whole_is_halved_until_the_record_at_fault_is_alone() -> None:
    driver = Driver(replace(CONFIG, batch_records=5))
    instructions = driver.persist(driver.read("+a", "+b", "+poison", "+c", "+d"))
    users = {IDS[0]: ["a", "b", "poison", "c", "d"]}
    arrived, requests, dead = [], 0, []
    while going := sent(instructions):
        instructions = []
        for name in going:
            requests += 1
            outcome = Divide("400") if "poison" in users[name] else Delivered()
            for told in driver.answer(name, *[outcome] * len(users[name])):
                instructions.append(told)
                if isinstance(told, Split):
                    for part in told.parts:
                        users[part.id] = [users[name][index] for index in part.kept]
                        instructions += driver.handle(Persisted(part.id))
                elif isinstance(told, Settle):
                    arrived += users[name] if told.delivered else []
                    dead += users[name] if told.dead.indexes else []

    assert sorted(arrived) == ["a", "b", "c", "d"]
    assert dead == ["poison"]
    assert requests <= 7
    assert driver.machine.backlog == 0


def refuse_everything(driver: Driver, instructions: list[Instruction], users: dict[str, list[str]]) -> tuple[int, int]:
    """Refuse whatever is sent, storing parts, until nothing more is; gives the requests and the records that died."""
    requests = dead = 0
    while going := sent(instructions):
        instructions = []
        for name in going:
            requests += 1
            for told in driver.answer(name, *[Divide("400")] * len(users[name])):
                instructions.append(told)
                if isinstance(told, Split):
                    for part in told.parts:
                        users[part.id] = [users[name][index] for index in part.kept]
                        instructions += driver.handle(Persisted(part.id))
                elif isinstance(told, Settle):
                    dead += len(told.dead.indexes)
    return requests, dead


def test_where_every_record_is_refused_alone_the_sync_stops_instead_of_asking_for_each() -> None:
    driver = Driver(replace(CONFIG, batch_records=512))
    names = [f"u{number}" for number in range(512)]
    instructions = driver.persist(driver.read(*(f"+{name}" for name in names)))
    requests, dead = refuse_everything(driver, instructions, {IDS[0]: names})

    assert dead == REFUSED_ALONE_MAX
    assert requests <= 60
    assert driver.machine.state == "refused"
    assert driver.machine.reason == "10 users in a row were refused alone, the last: 400"
    assert driver.machine.backlog == 512 - REFUSED_ALONE_MAX
    assert sent(driver.after(3_600_000)) == []

    resumed = driver.handle(RetryAsked(dead_letters=False))
    assert Halt("", "") in resumed
    assert len(sent(resumed)) >= 1
    assert driver.machine.state == "failing"


def test_records_at_fault_between_good_ones_never_stop_a_sync() -> None:
    driver = Driver(replace(CONFIG, batch_records=1))
    for number in range(3 * REFUSED_ALONE_MAX):
        going = sent(driver.persist(driver.read(f"+u{number}")))
        driver.answer(going[0], Delivered() if number % REFUSED_ALONE_MAX == 5 else Divide("400"))
    assert driver.machine.state == "failing"


def test_one_users_records_never_stop_a_sync() -> None:
    driver = Driver(replace(CONFIG, batch_records=1))
    for number in range(3 * REFUSED_ALONE_MAX):
        going = sent(driver.persist(driver.read("-+"[number % 2 == 0] + "poison")))
        driver.answer(going[0], Divide("400"))
    assert driver.machine.state == "failing"


def test_halves_keep_a_users_order_and_stand_before_what_came_later() -> None:
    driver = Driver(replace(CONFIG, batch_records=4))
    driver.persist(driver.read("+a", "+b", "-a", "+c"))
    driver.persist(driver.read("+a", "-b", "-c", "+d"))

    (split,) = driver.answer(IDS[0], *[Divide("400")] * 4)
    assert isinstance(split, Split)
    left, right = (part.id for part in split.parts)
    assert sent(driver.handle(Persisted(left))) == [left]
    assert sent(driver.handle(Persisted(right))) == []
    assert sent(driver.answer(left, Delivered(), Delivered())) == [right]
    assert sent(driver.answer(right, Delivered(), Delivered())) == [IDS[1]]


def test_parts_that_are_stored_in_place_of_a_batch_keep_its_place() -> None:
    driver = Driver(replace(CONFIG, batch_records=3))
    driver.read("+a", "-a", "+b")
    later = driver.read("+a", "+c", "+d")
    places = stretches(0, ORDER_SPAN, 2)
    parts = [
        StoredBatch(f"part{number}", order, users, span=span)
        for number, ((order, span), users) in enumerate(zip(places, [("a", "b"), ("a",)], strict=True))
    ]

    assert sent(driver.handle(Persisted(IDS[0], tuple(parts)))) == ["part0"]
    assert sent(driver.persist(later)) == []
    assert sent(driver.answer("part0", Delivered(), Delivered())) == ["part1"]
    assert sent(driver.answer("part1", Delivered())) == [IDS[1]]


def test_what_the_destination_has_no_use_for_is_finished_and_no_failure() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))

    assert driver.answer(IDS[0], Delivered(), Skipped("forgotten")) == [Settle(IDS[0], 1, 1, 1)]
    assert driver.machine.state == "running"


def down(driver: Driver) -> None:
    """Fail until the breaker opens, right after the last failure."""
    driver.persist(driver.read("+a", "+b"))
    for _ in range(BREAKER_FAILURES - 1):
        driver.answer(IDS[0], Retry("500"), Retry("500"))
        driver.now_ms = driver.machine.next_wake_ms(driver.now_ms)
        assert sent(driver.after(0)) == [IDS[0]]
    driver.answer(IDS[0], Retry("500"), Retry("500"))


def test_a_destination_that_is_down_is_probed_by_one_request_at_a_time() -> None:
    driver = Driver()
    down(driver)
    assert driver.machine.state == "down"
    assert sent(driver.persist(driver.read("+c", "+d"))) == []
    assert driver.wake_in_ms == BREAKER_FIRST_MS * 3 // 4

    assert len(sent(driver.after(BREAKER_FIRST_MS * 3 // 4))) == 1
    assert driver.machine.in_flight == 1
    assert driver.wake_in_ms == NEVER


def test_a_probe_that_fails_doubles_the_pause_and_one_that_succeeds_lets_everything_go() -> None:
    driver = Driver()
    down(driver)
    driver.persist(driver.read("+c", "+d"))
    (probe,) = sent(driver.after(BREAKER_FIRST_MS * 3 // 4))
    driver.answer(probe, Retry("500"), Retry("500"))
    assert driver.wake_in_ms == 2 * BREAKER_FIRST_MS * 3 // 4

    (probe,) = sent(driver.after(2 * BREAKER_FIRST_MS * 3 // 4))
    (other,) = {IDS[0], IDS[1]} - {probe}
    assert sent(driver.answer(probe, Delivered(), Delivered())) == [other]
    assert driver.machine.state == "running"


def test_refusals_shrink_how_many_requests_are_unanswered_and_calm_grows_it() -> None:
    driver = Driver(replace(CONFIG, batch_records=1, in_flight_max=8))
    driver.persist(driver.read(*(f"+u{number}" for number in range(200))))
    assert driver.machine.concurrency == 4

    driver.answer(IDS[0], Retry("429", 1_000))
    assert driver.machine.concurrency == 2
    flying = list(IDS[1:4])
    driver.now_ms += 1_000
    for _ in range(20):
        flying += sent(driver.after(1))
        told = driver.answer(flying.pop(0), Delivered())
        flying += sent([*told, *driver.persist(told)])
    assert driver.machine.concurrency > 4


def test_dead_letters_come_back_behind_what_is_sealed_and_before_what_is_not() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))

    asked = driver.handle(RetryAsked(dead_letters=True))
    (revive,) = [told for told in asked if isinstance(told, Revive)]
    assert revive.order == ORDER_SPAN
    later = driver.read("-x", "+c")
    sent_now = sent(driver.handle(Revived((StoredBatch("dead", revive.order, ("a", "x")),), more=False)))
    assert sent_now == []  # a's earlier change is unanswered
    assert sent(driver.answer(IDS[0], Delivered(), Delivered())) == ["dead"]
    assert sent(driver.persist(later)) == []
    (seal,) = [told for told in later if isinstance(told, Seal)]
    assert sent(driver.answer("dead", Delivered(), Delivered())) == [seal.batches[0].id]


def test_dead_letters_come_back_a_few_at_a_time() -> None:
    driver = Driver()
    driver.handle(RetryAsked(dead_letters=True))

    (again,) = driver.handle(Revived((), more=True))
    assert isinstance(again, Revive)
    assert driver.handle(Revived((), more=False)) == []


def test_a_dead_record_is_superseded_by_a_later_one_of_its_user_here_or_in_a_later_batch() -> None:
    driver = Driver(replace(CONFIG, batch_records=4))
    driver.persist(driver.read("+a", "+b", "-a", "+c"))
    driver.persist(driver.read("-b", "+x", "+y", "+z"))

    (settle, *_) = driver.answer(IDS[0], Permanent("bad"), Permanent("bad"), Delivered(), Permanent("bad"))
    assert settle == Settle(IDS[0], 1, 1, 0, Dead((0, 1, 3), frozenset({0, 1}), "bad"))


def test_what_was_not_done_for_anothers_fault_goes_again_at_once_and_no_attempt_is_counted() -> None:
    driver = Driver(replace(CONFIG, batch_records=3))
    driver.persist(driver.read("+a", "+b", "+c"))

    (split,) = driver.answer(IDS[0], Resend("other"), Permanent("bad"), Resend("other"))
    assert isinstance(split, Split)
    (rest,) = split.parts
    assert (rest.kept, rest.attempts) == ((0, 2), 0)
    assert driver.handle(Persisted(rest.id)) == [Send(rest.id, 1, START_MS)]


def test_records_that_wait_and_records_that_go_again_part() -> None:
    driver = Driver(replace(CONFIG, batch_records=3))
    driver.persist(driver.read("+a", "+b", "+c"))

    (split,) = driver.answer(IDS[0], Resend("other"), Retry("busy"), Divide("bad"))
    assert isinstance(split, Split)
    assert [part.kept for part in split.parts] == [(0,), (1,), (2,)]
    assert [part.outcome for part in split.parts] == ["divided", "retry", "divided"]


def test_nothing_but_resends_waits_like_any_failure() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))

    (defer,) = driver.answer(IDS[0], Resend("other"), Resend("other"))
    assert isinstance(defer, Defer)
    assert defer.next_attempt_ms > START_MS


def test_a_request_that_only_taught_something_goes_again_at_once_as_it_was() -> None:
    driver = Driver()
    driver.persist(driver.read("+a", "+b"))

    outcomes = (Resend("the list was made"),) * 2
    defer, again = driver.handle(Answered(IDS[0], outcomes, learned=True))
    assert defer == Defer(IDS[0], 0, START_MS, 0, "resend", "")
    assert again == Send(IDS[0], 1, START_MS)
