"""A change of evaluators comes to its end through refusals and restarts at any step, and its parts agree on one end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.clock import ManualClock
from cluster.runtime import scaling as scaling_module
from cluster.runtime.controller_machine import ControllerMachine
from cluster.runtime.controller_store import ControllerStore
from cluster.runtime.placement import first_placement, flipped, scaled, sources_of
from cluster.runtime.protocols import EvaluatorInfo, Reply
from cluster.runtime.scaling import Scaler
from cluster.runtime.status_report import Peers

PARTITIONS = 8


class Evaluator:
    """Says what a real one says, or refuses now and then."""

    def __init__(self, index: int, dice: random.Random, refusing: float) -> None:
        self.index = index
        self.dice = dice
        self.refusing = refusing
        self.held = False
        self.retired_ms = 0
        self.ends = 0
        self.clock_ms = 1_000 + index
        self.traits = {"users": 1}
        self.kept: tuple[int, Mapping[str, int] | None] = (0, None)
        #: The snapshot that is offered to it, as soon as it goes on.
        self.offered: list[int] = [1]
        self.finished: list[tuple[dict[int, Any], int, dict[str, int]]] = []

    def _refused(self) -> Reply | None:
        if self.dice.random() < self.refusing:
            return {"error": "unreachable", "message": "restarting"}
        return None

    async def inherit(self) -> Reply:
        return self._refused() or {}

    async def hold(self, attempt: int, snapshots: Mapping[str, int] | None) -> Reply:
        refused = self._refused()
        if refused is None and attempt < self.kept[0]:
            refused = {"error": "not_ready", "message": "held for a later attempt"}
        if refused is None:
            self.held = True
            self.kept = max(self.kept, (attempt, snapshots), key=lambda kept: kept[0])
        clock_ms = max(self.clock_ms, self.retired_ms)
        return refused or {"clock_ms": clock_ms, "seq": self.ends, "version": 1, "traits": self.traits}

    async def release(self) -> Reply:
        self.held = False
        if not self.retired_ms:
            self.clock_ms += 7
            self.take_traits()
        return {}

    def take_traits(self) -> None:
        kept = self.kept[1]
        if kept is None or self.offered[0] <= kept["users"]:
            self.traits = {"users": self.offered[0]}

    async def retire(self, clock_ms: int, seq: int) -> Reply:
        refused = self._refused()
        if refused is not None:
            return refused
        if not (self.held or self.retired_ms) or clock_ms < max(self.clock_ms, self.retired_ms):
            return {"error": "not_ready", "message": "later than that"}
        if seq != self.ends:
            return {"error": "not_ready", "message": "asked before that"}
        self.ends += 1
        self.retired_ms = clock_ms
        return {"seq": clock_ms, "transition_seq": clock_ms + 1, "counts": {"accepted": 10 + self.index}}

    async def finish(self, ends: Mapping[int, tuple[int, int]], clock_ms: int, counts: Mapping[str, int]) -> Reply:
        refused = self._refused()
        if refused is None:
            self.finished.append((dict(ends), clock_ms, dict(counts)))
        return refused or {}

    async def status(self) -> Reply:
        return {"taken_over_percent": 50}


class Delivery:
    def __init__(self) -> None:
        self.read: set[int] = set()

    async def has_read(self, evaluator: int, seq: int) -> Reply:
        return {"read": evaluator in self.read}


class Site:
    """A store on disk and evaluators that live on; controllers come and go."""

    def __init__(self, path: Path, seed: int = 0, refusing: float = 0.0) -> None:
        self.path = path
        dice = random.Random(seed)
        self.evaluators: dict[int, Any] = {i: Evaluator(i, dice, refusing) for i in range(12)}
        self.offered = [1]
        for evaluator in self.evaluators.values():
            evaluator.offered = self.offered
        self.delivery = Delivery()
        self.told = 0
        store = ControllerStore(path)
        store.set_placement(first_placement(PARTITIONS, 2))
        store.close()

    def controller(self) -> tuple[Scaler, ControllerMachine, ControllerStore]:
        store = ControllerStore(self.path)
        placement = store.placement()
        assert placement is not None
        machine = ControllerMachine((), ())
        machine.place(placement, info)
        machine.scaling = store.scaling()
        peers = Peers(self.evaluators, self.delivery, traits=None)  # type: ignore[arg-type]
        scaler = Scaler(machine, store, peers, ManualClock(500), info, self.tell)
        scaler.start()
        return scaler, machine, store

    async def tell(self) -> None:
        self.told += 1

    def offer(self, first: int) -> None:
        """Offer another snapshot to all; one of them has it before the others."""
        self.offered[0] += 1
        evaluator = self.evaluators[first]
        if not evaluator.held and not evaluator.retired_ms:
            evaluator.take_traits()


def info(index: int) -> EvaluatorInfo:
    return EvaluatorInfo(index, f"evaluator-{index}", "node", f"membership/{index}")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_module, "_AGAIN_S", 0.0)
    monkeypatch.setattr(scaling_module, "_READ_EVERY_S", 0.001)


def test_heirs_finish_at_the_end_of_those_before_them(tmp_path: Path) -> None:
    async def check() -> None:
        site = Site(tmp_path / "controller.db")
        scaler, machine, store = site.controller()
        assert await scaler.ask(2) == {"evaluators": 2, "partitions": PARTITIONS, "pause_ms": 0}
        assert await scaler.ask(3) is None
        assert (await scaler.done())["evaluators"] == 3
        assert [info.index for info in machine.evaluators] == [2, 3, 4]
        assert {index: one.last_seq for index, one in machine.retired.items()} == {0: 1_002, 1: 1_002}
        assert machine.processes() == (0, 1, 2, 3, 4)
        counted = [sum(counts.values()) for i in (2, 3, 4) for _, _, counts in site.evaluators[i].finished]
        assert sum(counted) == 10 + 11, "each hit is counted once"
        site.delivery.read = {0}
        while 0 in machine.retired:
            await asyncio.sleep(0.001)
        assert machine.processes() == (1, 2, 3, 4)
        stored = store.placement()
        assert stored is not None
        assert (stored.retired, store.scaling()) == ({1: 1_002}, None)
        await scaler.stop()

    asyncio.run(check())


@pytest.mark.parametrize("seed", range(12))
def test_a_change_comes_to_its_end_through_refusals_and_restarts(tmp_path: Path, seed: int) -> None:
    async def check() -> None:
        dice = random.Random(seed)
        site = Site(tmp_path / "controller.db", seed, refusing=0.3)
        scaler, machine, store = site.controller()
        assert await scaler.ask(3) is None
        while True:
            await asyncio.sleep(0)
            for _ in range(dice.randrange(40)):
                await asyncio.sleep(0)
            if machine.scaling is None:
                break
            await scaler.stop()
            store.close()
            scaler, machine, store = site.controller()
            # A snapshot is offered meanwhile, to whoever is not held at the moment.
            site.offer(dice.choice([0, 1]))
        assert len({site.evaluators[i].traits["users"] for i in (0, 1)}) == 1, "all end with the same"
        ends = {tuple(sorted(ends.items())) for i in (2, 3, 4) for ends, _, _ in site.evaluators[i].finished}
        clocks = {clock_ms for i in (2, 3, 4) for _, clock_ms, _ in site.evaluators[i].finished}
        assert clocks == {site.evaluators[0].retired_ms} == {site.evaluators[1].retired_ms}
        assert all(end == (clock, clock + 1) for one in ends for _, end in one for clock in clocks)
        assert all(site.evaluators[i].finished for i in (2, 3, 4))
        await scaler.stop()
        store.close()

    asyncio.run(check())


def test_users_wait_for_a_snapshot_that_not_all_have_taken(tmp_path: Path) -> None:
    async def check() -> None:
        site = Site(tmp_path / "controller.db")
        site.evaluators[1].traits = {"users": 2}
        site.evaluators[1].offered = [2]
        scaler, machine, _ = site.controller()
        await scaler.ask(1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert "snapshot" in scaler.waits_for
        assert not site.evaluators[0].retired_ms
        site.evaluators[0].offered = [2]
        assert (await scaler.done())["evaluators"] == 1
        assert machine.owner_of_partition == (2,) * PARTITIONS
        await scaler.stop()

    asyncio.run(check())


def test_a_change_can_be_given_up_before_anybody_ended(tmp_path: Path) -> None:
    async def check() -> None:
        site = Site(tmp_path / "controller.db", refusing=1.0)
        scaler, machine, store = site.controller()
        assert await scaler.ask(3) is None
        await asyncio.sleep(0)
        reply = await scaler.ask(4)
        assert reply is not None
        assert "3 evaluators is under way" in reply["message"]
        assert await scaler.ask(2) == {"evaluators": 2, "partitions": PARTITIONS, "pause_ms": 0}
        assert machine.processes() == (0, 1)
        assert store.scaling() is None
        for evaluator in site.evaluators.values():
            evaluator.refusing = 0.0
        assert await scaler.ask(3) is None
        assert (await scaler.done())["evaluators"] == 3
        assert [info.index for info in machine.evaluators] == [5, 6, 7], "indexes are never used again"
        await scaler.stop()

    asyncio.run(check())


def test_nobody_takes_a_snapshot_that_one_who_has_ended_cannot(tmp_path: Path) -> None:
    """One ends, the other one is refused and goes on; what it is offered then must wait for the heirs."""

    async def check() -> None:
        site = Site(tmp_path / "controller.db")
        retire, site.evaluators[1].retire = site.evaluators[1].retire, refuses
        scaler, machine, _ = site.controller()
        assert await scaler.ask(1) is None
        while not site.evaluators[0].retired_ms:
            await asyncio.sleep(0)
        site.offered[0] = 2
        for _ in range(50):
            await asyncio.sleep(0)
        assert site.evaluators[1].traits == {"users": 1}
        site.evaluators[1].retire = retire
        assert (await scaler.done())["evaluators"] == 1
        assert machine.owner_of_partition == (2,) * PARTITIONS
        await scaler.stop()

    async def refuses(clock_ms: int, seq: int) -> Reply:
        return {"error": "storage_full", "message": "The disk is full."}

    asyncio.run(check())


def test_who_took_a_snapshot_before_he_was_told_is_waited_for(tmp_path: Path) -> None:
    """All agree, then one takes a newer one before it is told to end with that: all take it first."""

    async def check() -> None:
        site = Site(tmp_path / "controller.db")
        hold = site.evaluators[1].hold
        scaler, machine, _ = site.controller()

        async def late(attempt: int, snapshots: Mapping[str, int] | None) -> Reply:
            if attempt == 1:
                site.offered[0] = 2
                site.evaluators[1].take_traits()
            reply: Reply = await hold(attempt, snapshots)
            return reply

        site.evaluators[1].hold = late
        assert await scaler.ask(1) is None
        assert (await scaler.done())["evaluators"] == 1
        assert [site.evaluators[i].traits for i in (0, 1)] == [{"users": 2}] * 2
        assert machine.owner_of_partition == (2,) * PARTITIONS
        await scaler.stop()

    asyncio.run(check())


@pytest.mark.parametrize("restarted", [False, True])
def test_a_change_is_not_given_up_once_somebody_ended(tmp_path: Path, restarted: bool) -> None:
    """Who has ended takes no events any more, whatever becomes of the change."""

    async def check() -> None:
        site = Site(tmp_path / "controller.db")
        retire, site.evaluators[1].retire = site.evaluators[1].retire, never
        scaler, machine, store = site.controller()
        assert await scaler.ask(3) is None
        while not site.evaluators[0].retired_ms:
            await asyncio.sleep(0)
        if restarted:
            await scaler.stop()
            store.close()
            scaler, machine, store = site.controller()
        reply = await scaler.ask(2)
        assert reply is not None
        assert "3 evaluators is under way" in reply["message"]
        site.evaluators[1].retire = retire
        assert (await scaler.done())["evaluators"] == 3
        assert len(machine.retired) == 2
        await scaler.stop()

    async def never(clock_ms: int, seq: int) -> Reply:
        return {"error": "unreachable", "message": "restarting"}

    asyncio.run(check())


def test_an_heir_has_the_sources_of_its_partitions() -> None:
    placement = first_placement(PARTITIONS, 2)
    scaling = scaled(placement, 3)
    assert scaling.owners == (2, 2, 2, 3, 3, 3, 4, 4)
    assert sources_of(placement, scaling, 2) == {0: (0, 1, 2, 3)}
    assert sources_of(placement, scaling, 3) == {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}
    assert flipped(placement, scaling).evaluators == (2, 3, 4)
