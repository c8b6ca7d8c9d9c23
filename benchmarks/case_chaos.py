"""`chaos`: minutes of kill -9 and SIGSTOP under load, and whether all that must hold does (benchmarks/chaos)."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from benchmarks.cases import Step
from benchmarks.chaos.run import Chaos, carry_out
from benchmarks.results import CaseResult

MINUTES_DEFAULT: Final = 2.0
_QUICK_S: Final = 20.0


def measure(quick: bool, step: Step, minutes: float = MINUTES_DEFAULT) -> CaseResult:
    """Strike for so many minutes."""
    seconds = _QUICK_S if quick else minutes * 60
    return asyncio.run(carry_out(Chaos(seconds, seed=secrets.randbelow(1 << 31)), step))
