"""Makes a failing plan smaller: leaves out what the failure does not need, as long as the same checker still fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from tests.simulation.plans import Plan, Request
from tests.simulation.runner import run_plan

#: How long a plan is made smaller: long enough for some hundred short runs.
SHRINK_S: Final = 30.0


def shrink(plan: Plan, checker: str, *, seconds: float = SHRINK_S) -> Plan:
    """Give the smallest plan found in which this checker fails, and which is otherwise a part of the given one."""
    deadline = time.monotonic() + seconds

    def fails(smaller: Plan) -> bool:
        return any(violation.checker == checker for violation in run_plan(smaller).violations)

    smaller: Plan | None = plan
    while smaller is not None:
        plan = smaller
        tried = (each for each in _parts_of(plan) if time.monotonic() < deadline and fails(each))
        smaller = next(tried, None)
    return plan


def _parts_of(plan: Plan) -> Iterator[Plan]:
    """Plans with something left out, the largest cuts first."""
    for faults in _shorter(plan.faults):
        yield plan.without(faults=faults)
    for requests in _shorter(plan.requests):
        if requests:
            yield plan.without(requests=requests)
    for reads in _shorter(plan.reads):
        yield plan.without(reads=reads)
    for snapshots in _shorter(plan.snapshots):
        yield plan.without(snapshots=snapshots)
    for pauses in _shorter(plan.pauses):
        yield plan.without(pauses=pauses)
    for scales in _shorter(plan.scales):
        yield plan.without(scales=scales)
    for later in _shorter(plan.documents[1:]):
        yield plan.without(documents=[plan.documents[0], *later])
    for place, request in enumerate(plan.requests):
        for rows in _shorter(request.rows):
            if rows:
                fewer: list[Request] = list(plan.requests)
                fewer[place] = replace(request, rows=rows)
                yield plan.without(requests=fewer)


def _shorter(parts: Sequence[Any]) -> Iterator[list[Any]]:
    """A list without all, half, a quarter ... of its parts."""
    size = len(parts)
    while size:
        for start in range(0, len(parts), size):
            yield [*parts[:start], *parts[start + size :]]
        size //= 2
