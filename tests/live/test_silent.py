"""A stopped process (SIGSTOP) is no dead one: Ray says nothing. Another takes its place; the zombie is fenced."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.live.conftest import write_definitions
from tests.live.usher import (
    PATIENCE_S,
    Receiver,
    Usher,
    assert_nothing_sent_twice_under_another_id,
    eventually,
    is_gone,
    kinds,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]

SHOPPERS = 4
#: On two free cores it is missed after 9 s and its successor at work 6 s later.
ANSWERED_AGAIN_S = 60.0


class Shoppers:
    """People who buy, several side by side; a purchase is sent again until it is taken."""

    def __init__(self, usher: Usher) -> None:
        self._usher = usher
        self._enough = threading.Event()
        self.taken: list[str] = []
        self._threads = [threading.Thread(target=self._buy, args=(number,), daemon=True) for number in range(SHOPPERS)]

    def _buy(self, lane: int) -> None:
        number = 0
        while not self._enough.is_set():
            user = f"shopper-{lane}-{number}"
            self._usher.track_surely(user, "order_completed", f"m-{user}", channel="web")
            self.taken.append(user)
            number += 1

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Usher, Receiver]]:
    receiver = Receiver()
    receiver.start()
    usher = Usher(tmp_path / "data", definitions=[str(write_definitions(tmp_path, receiver.url))], evaluators=2)
    try:
        usher.await_ready()
        yield usher, receiver
    finally:
        usher.close()
        receiver.stop()


def zombies(usher: Usher, *names: str) -> list[int]:
    """Stop processes, and let each go on as soon as another has its place; gives their pids."""
    pids = {name: usher.pid(name) for name in names}
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    for name, pid in pids.items():
        eventually(f"{name} is missed", lambda name=name: any(f"{name} is silent" in line for line in usher.lines))
        with suppress(ProcessLookupError):  # Ray was faster
            os.kill(pid, signal.SIGCONT)
    return list(pids.values())


def all_end(pids: list[int]) -> None:
    eventually("the zombies end", lambda: all(map(is_gone, pids)))


def test_who_is_stopped_is_replaced_and_the_zombie_changes_nothing(running: tuple[Usher, Receiver]) -> None:
    usher, receiver = running
    shoppers = Shoppers(usher)
    rich = [f"rich-{number}" for number in range(50)]
    buy = iter(rich)

    def some_buy() -> None:
        for _ in range(len(rich) // 3):
            user = next(buy)
            usher.track_surely(user, "order_completed", f"m-{user}", channel="app")

    some_buy()
    shoppers.start()
    eventually("some have bought", lambda: len(shoppers.taken) > 100)
    began = time.monotonic()
    stopped = zombies(usher, "evaluator-0")
    some_buy()
    assert time.monotonic() - began < ANSWERED_AGAIN_S
    all_end(stopped)
    assert usher.pid("evaluator-0") not in stopped
    stopped = zombies(usher, "delivery", "controller", "traits", "edge-ingest-0", "edge-front")
    some_buy()
    all_end(stopped)
    shoppers.stop()
    bought = rich[: len(rich) // 3 * 3]
    for user in bought:
        assert usher.is_member("rich_buyers", user) is True
        eventually(f"{user} came", lambda user=user: kinds(receiver, user, "rich_buyers") == ["entered"])
    for user in shoppers.taken:
        eventually(f"{user} came and went", lambda user=user: len(kinds(receiver, user, "hide_promo")) == 2)
        assert kinds(receiver, user, "hide_promo") == ["entered", "exited"]
    assert usher.status()["events"]["accepted"] == len(shoppers.taken) + len(bought)
    assert {row["state"] for row in usher.status()["actors"]} <= {"ready", "live", "running"}
    assert_nothing_sent_twice_under_another_id(receiver)
    assert usher.stop() == 0, usher.lines
