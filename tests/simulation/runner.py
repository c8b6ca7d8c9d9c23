"""Runs seeds: a world each, in a folder of its own, and the checkers on what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.simulation.checkers import Violation, check
from tests.simulation.plans import FAULT_KINDS, FaultKind, Plan, make_plan
from tests.simulation.world import Run, World

#: Files lie in memory where the system has such a place: nothing here needs them to last.
_IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Result:
    """A run and what the checkers say of it."""

    run: Run
    violations: Sequence[Violation]


def run_plan(plan: Plan, *, telling: bool = False) -> Result:
    """Carry out a plan and check it."""
    place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="usher-simulation-", dir=place) as name:
        run = World(plan, Path(name), telling=telling).run()
        return Result(run, check(run))


def run_seed(seed: int, kinds: Sequence[FaultKind] = FAULT_KINDS, size: float = 1.0) -> Result:
    """Carry out the plan of a seed and check it."""
    return run_plan(make_plan(seed, kinds, size))
