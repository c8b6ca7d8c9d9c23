"""Kills and stops under load on a real Ray, in short; `usher bench chaos --minutes N` goes on for longer."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from benchmarks.chaos.run import Chaos, carry_out

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]

#: How long it is struck: with all around it less than a minute.
SECONDS = 14.0


def test_chaos_loses_nothing_and_repeats_nothing() -> None:
    # Each takes as long as all the rest: test_restart.py kills a whole run, test_silent.py waits for successors.
    without = ("kill everything", "stop a process until it is missed")
    chaos = Chaos(SECONDS, pause_s=1.0, seed=secrets.randbelow(1 << 31), without=without)
    result = asyncio.run(carry_out(chaos, print))
    faults = [f"{check.name}: {check.detail}" for check in result.checks if not check.passed]
    assert faults == [], result.notes
    assert len(result.notes["story"]) >= 3, result.notes
    assert result.notes["look_ups"].get("right", 0) > 10
