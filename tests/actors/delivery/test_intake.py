"""What waits in memory and what on disk, stimulus by stimulus."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change
from actors.delivery.flaps import Flaps
from actors.delivery.instructions import Fetch, Instruction, Park, Seal
from actors.delivery.stimuli import Configured, Fetched, Parked, Suspended
from tests.actors.delivery.driver import CONFIG, START_MS, Driver, sealed

STATE = replace(CONFIG, deliver="state", batch_records=1)


@pytest.fixture(autouse=True)
def _tight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.delivery.intake.SYNC_PENDING_MAX", 4)


def parked(instructions: Iterable[Instruction]) -> list[list[str]]:
    return [
        [("+" if change.kind == "entered" else "-") + change.user_id for change in instruction.changes]
        for instruction in instructions
        if isinstance(instruction, Park)
    ]


def fetches(instructions: Iterable[Instruction]) -> list[Fetch]:
    return [instruction for instruction in instructions if isinstance(instruction, Fetch)]


def change(user: str, number: int = 1) -> Change:
    return Change(-1, number, "aud", 1, user, "entered", START_MS, 0, "event")


def test_what_fills_memory_and_cannot_go_waits_on_disk_with_its_cursor() -> None:
    driver = Driver(STATE)
    driver.handle(Suspended(True))
    assert driver.read("+a", "+b") == []
    (park,) = driver.read("+c")

    assert isinstance(park, Park)
    assert parked([park]) == [["+a", "+b", "+c"]]
    assert park.cursors == {0: 3}
    assert driver.machine.may_read
    driver.handle(Parked(3, START_MS))
    assert driver.machine.backlog == 3


def test_while_anything_waits_on_disk_all_changes_go_there_and_come_back_in_batches() -> None:
    driver = Driver(STATE)
    driver.handle(Suspended(True))
    driver.read("+a", "+b", "+c")
    driver.handle(Parked(3, START_MS))
    assert driver.read("-a") == []
    assert driver.wake_in_ms == 30_000
    driver.now_ms += 5

    resumed = driver.handle(Suspended(False))
    assert parked(resumed) == [["-a"]]
    (fetch,) = fetches(resumed)
    driver.handle(Parked(1, START_MS))
    assert driver.machine.backlog == 4
    assert parked(driver.read("-b")) == []  # not while something is being taken
    back = (change("b", 2), change("c", 3))
    told = driver.handle(Fetched(back, NEVER, undone=2))
    assert fetch.limit == 8
    assert sealed(told) == [["+b"], ["+c"], ["-b"]]
    assert [seal.left for seal in told if isinstance(seal, Seal)] == [back, ()]


def test_a_sync_that_sends_every_change_leaves_what_does_not_fit_where_it_is() -> None:
    driver = Driver(replace(CONFIG, batch_records=1))
    driver.handle(Suspended(True))

    assert driver.read("+a", "+b", "+c") == []
    assert not driver.machine.may_read


def test_a_pause_comes_to_its_net_however_long_it_is() -> None:
    driver = Driver(replace(CONFIG, paused=True))
    assert parked(driver.read("+a", "+b", "+c", at_head=False)) == [["+a", "+b", "+c"]]
    driver.handle(Parked(3, START_MS))
    driver.now_ms += 60_000

    resumed = driver.handle(Configured(CONFIG, driver.shares))
    assert fetches(resumed) == []  # the rest of the pause is not read yet
    both = driver.read("-a", at_head=True)
    assert parked(both) == [["-a"]]
    assert len(fetches(both)) == 1
    driver.handle(Parked(-1, START_MS))
    told = driver.handle(Fetched((change("b", 2), change("c", 3)), NEVER))
    assert sealed(told) == [["+b", "+c"]]
    assert sealed(driver.read("-b", "+b")) == [["-b", "+b"]]


def test_flap_control_lets_everything_wait_until_it_is_due() -> None:
    driver = Driver(replace(CONFIG, flaps=Flaps(debounce_ms=1_000)))
    assert driver.read("+a") == []
    assert driver.wake_in_ms == 5
    assert parked(driver.after(5)) == [["+a"]]
    driver.handle(Parked(1, START_MS + 1_000))

    assert driver.wake_in_ms == 1_000
    assert fetches(driver.after(999)) == []
    (fetch,) = fetches(driver.after(1))
    assert fetch.limit == 16
    assert driver.wake_in_ms == NEVER
    assert sealed(driver.handle(Fetched((change("a"),), NEVER))) == [["+a"]]


def test_without_flap_control_what_it_held_is_due_at_once() -> None:
    driver = Driver(replace(CONFIG, flaps=Flaps(debounce_ms=60_000)), room_count=1, room_due_ms=START_MS + 60_000)
    assert driver.after(5) == []

    told = driver.handle(Configured(CONFIG, driver.shares, room_due_ms=START_MS))
    assert len(fetches(told)) == 1


def test_a_restart_goes_on_with_what_waits_on_disk() -> None:
    driver = Driver(STATE, room_count=2, room_due_ms=START_MS)

    assert driver.machine.backlog == 2
    assert len(fetches(driver.after(5))) == 1
