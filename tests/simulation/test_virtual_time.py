"""The loop, its processes and their network: what passes, what is dropped, what is kept back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.simulation.dice import dice
from tests.simulation.network import Gone, Network
from tests.simulation.processes import Killed, Machine, Process
from tests.simulation.virtual_time import Standstill, VirtualLoop


class Place:
    """A loop with a machine; `run` gives what a coroutine gives, `process` a process of its own."""

    def __init__(self) -> None:
        self.loop = VirtualLoop(steps_max=1_000)
        self.machine = Machine("node", self.loop, 1_000)

    def process(self, name: str = "one") -> Process:
        return Process(name, self.machine, dice(1, name))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.loop.run_until_complete(work)
        finally:
            self.loop.allow(1_000)
            self.loop.run_until_complete(self._end())
            self.loop.close()

    async def _end(self) -> None:
        self.loop.abandon()


@pytest.fixture
def place() -> Place:
    return Place()


def test_time_passes_only_when_nothing_else_can_happen(place: Place) -> None:
    async def work() -> list[float]:
        times = []
        for pause_s in (0.0, 3_600.0, 0.25):
            await asyncio.sleep(pause_s)
            times.append(place.loop.time())
        return times

    assert place.run(work()) == [0.0, 3_600.0, 3_600.25]


def test_a_killed_process_does_nothing_more_and_cleans_nothing_up(place: Place) -> None:
    done: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.sleep(1)
            done.append(name)
            await asyncio.sleep(1)
        finally:
            done.append(f"{name} ends")

    async def work() -> list[str]:
        one, other = place.process("one"), place.process("other")
        one.spawn(part("one"))
        other.spawn(part("other"))
        await asyncio.sleep(1.5)
        one.kill()
        await asyncio.sleep(10)
        return list(done)

    assert place.run(work()) == ["one", "other", "other ends"]


def test_a_stopped_process_goes_on_where_it_was(place: Place) -> None:
    async def part() -> float:
        await asyncio.sleep(1)
        return place.loop.time()

    async def work() -> tuple[bool, float]:
        process = place.process()
        task = process.spawn(part())
        await asyncio.sleep(0.5)
        process.stop()
        await asyncio.sleep(10)
        before = task.done()
        process.go_on()
        return before, await task

    assert place.run(work()) == (False, 10.5)


def test_a_thread_works_off_one_piece_after_another(place: Place) -> None:
    done: list[int] = []
    executor = ThreadPoolExecutor(1)

    async def part() -> list[int]:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(executor, done.append, number) for number in range(5)))
        with pytest.raises(KeyError):
            await loop.run_in_executor(executor, {}.__getitem__, "nothing")
        return done

    async def work() -> Any:
        return await place.process().spawn(part())

    assert place.run(work()) == [0, 1, 2, 3, 4]
    assert not executor._threads, "no real thread was started"


def test_a_process_dies_at_the_point_it_is_armed_for(place: Place) -> None:
    async def work() -> None:
        process = place.process()
        process.arm("after_commit", 2, process.kill)
        process.at("after_commit")
        process.at("before_commit")
        assert not process.is_armed("after_commit")
        process.at("after_commit")
        assert process.is_armed("after_commit")
        with pytest.raises(Killed):
            process.at("after_commit")
        assert not process.alive

    place.run(work())


@pytest.mark.parametrize(("lost", "repeated", "calls"), [(0.0, 0.0, 1), (0.0, 1.0, 2), (1.0, 0.0, 0)])
def test_messages_are_lost_and_repeated(place: Place, lost: float, repeated: float, calls: int) -> None:
    network = Network(place.loop, dice(1))
    network.weather.lost, network.weather.repeated = lost, repeated
    called: list[int] = []

    class Part:
        async def call(self, method: str, value: int) -> int:
            called.append(value)
            return value + 1

    async def work() -> Any:
        network.register(place.process("echo"), Part())
        try:
            return await network.ask("echo", "add", (1,))
        except Gone:
            return None
        finally:
            await asyncio.sleep(20)

    assert place.run(work()) == (2 if calls else None)
    assert len(called) == calls


def test_a_caller_hears_that_a_process_died_under_its_call(place: Place) -> None:
    network = Network(place.loop, dice(1))

    class Silent:
        async def call(self, method: str) -> None:
            await asyncio.Event().wait()

    async def work() -> None:
        process = place.process("silent")
        network.register(process, Silent())
        place.loop.outside(5.0, process.kill)
        with pytest.raises(Gone):
            await network.ask("silent", "wait", ())
        assert 5.0 < place.loop.time() < 6.0

    place.run(work())


def test_a_standstill_is_an_error_not_a_hang(place: Place) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Standstill, match="nothing is left"):
        place.run(work())


def test_a_loop_that_spins_is_an_error_too(place: Place) -> None:
    async def work() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Standstill, match="does not come to an end"):
        place.run(work())
