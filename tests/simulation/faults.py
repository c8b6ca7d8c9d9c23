"""Carries out a plan's faults, and ends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.network import TRAVEL_S, Weather
from tests.simulation.plans import Fault
from tests.simulation.processes import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What ends a fault; None where there was nothing for it to befall.
End = Callable[[], Any] | None


class Faults:
    """What goes wrong in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._healed = False

    def start(self) -> None:
        """Let every fault come at its time."""
        for fault in self._world.plan.faults:
            self._world.loop.outside(fault.at_s, self._begin, fault)

    def heal(self) -> None:
        """End all that is going on; nothing goes wrong any more."""
        self._healed = True
        world = self._world
        world.network.weather = Weather()
        world.machine.slowness, world.machine.full = 1.0, False
        world.brokers.trouble = None
        for receiver in world.destinations.receivers.values():
            receiver.failing = None
        for process in list(world.machine.processes):
            process.go_on()
            process.disarm()
        world.power_on()

    def _begin(self, fault: Fault) -> None:
        if self._healed or not self._world.powered:
            return
        self._world.say("FAULT", "node", str(fault))
        end = getattr(self, f"_{fault.kind}")(fault)
        if end is not None:
            self._world.counts[fault.kind] += 1
            if fault.for_s:
                self._world.loop.outside(fault.for_s, end)

    # --- one method a kind: begins it and gives what ends it -------------------------------------------

    def _kill(self, fault: Fault) -> End:
        process = self._alive(fault.target)
        if process is None:
            return None
        self._world.down_s[process] = fault.for_s
        process.kill()
        return _nothing

    def _kill_in_commit(self, fault: Fault) -> End:
        process = self._alive(fault.target)
        if process is None:
            return None
        point, passes = fault.value

        def die() -> None:
            self._world.say("is killed", process.name, f"at the point {point}")
            self._world.down_s[process] = fault.for_s
            process.kill()

        process.arm(point, passes, die)
        return _nothing

    def _kill_all(self, fault: Fault) -> End:
        """Kill every process of the node at once: what was written stays, synced or not."""
        self._world.end_all("is killed whole", fault.for_s)
        return _nothing

    def _power(self, fault: Fault) -> End:
        self._world.power_off(fault.for_s)
        return _nothing

    def _power_in_commit(self, fault: Fault) -> End:
        process = self._alive(fault.target)
        if process is None:
            return None
        point, passes = fault.value
        process.arm(point, passes, lambda: self._world.power_off(fault.for_s))
        return _nothing

    def _freeze(self, fault: Fault) -> End:
        process = self._alive(fault.target)
        if process is None:
            return None
        process.stop()
        return process.go_on

    def _zombie(self, fault: Fault) -> End:
        """Stop an evaluator, start its successor, then let it go on."""
        process = self._alive(fault.target)
        if process is None:
            return None
        process.stop()
        self._world.loop.outside(fault.for_s * 0.4, self._succeed, process)
        return process.go_on

    def _succeed(self, process: Process) -> None:
        world = self._world
        if process.alive and process.stopped and world.powered and world.network.holder(process.name) is process:
            world.launch(process.name)

    def _slow_disk(self, fault: Fault) -> End:
        self._world.machine.slowness = float(fault.value)
        return lambda: setattr(self._world.machine, "slowness", 1.0)

    def _full_disk(self, fault: Fault) -> End:
        self._world.machine.full = True
        return lambda: setattr(self._world.machine, "full", False)

    def _rot(self, fault: Fault) -> End:
        """Damage the newest checkpoint of an evaluator."""
        folder = self._world.folder.names.checkpoints / fault.target
        newest = max(folder.rglob("*.checkpoint"), default=None)
        if newest is None:
            return None
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 0xFF
        newest.write_bytes(content)
        return _nothing

    def _clock(self, fault: Fault) -> End:
        self._world.machine.clock.offset_ms += fault.value
        return _nothing

    def _lossy(self, fault: Fault) -> End:
        return self._weather("lost", fault.value, 0.0)

    def _repeating(self, fault: Fault) -> End:
        return self._weather("repeated", fault.value, 0.0)

    def _late(self, fault: Fault) -> End:
        return self._weather("travel_s", fault.value, TRAVEL_S)

    def _weather(self, what: str, value: float, usual: float) -> End:
        weather = self._world.network.weather
        setattr(weather, what, value)
        return lambda: setattr(weather, what, usual)

    def _brokers(self, fault: Fault) -> End:
        if self._world.plan.medium != "kafka":
            return None
        self._world.brokers.trouble = fault.value
        return lambda: setattr(self._world.brokers, "trouble", None)

    def _destination(self, fault: Fault) -> End:
        receiver = self._world.destinations.receivers[fault.target]
        receiver.failing = fault.value
        return lambda: setattr(receiver, "failing", None)

    def _alive(self, name: str) -> Process | None:
        process = self._world.network.holder(name)
        return process if process is not None and process.alive and not process.stopped else None


def _nothing() -> None:
    """Ends by itself."""
