"""A machine with a clock, for tests that say what happens and look at what is to be done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change
from actors.delivery.concurrency import SharedSlots
from actors.delivery.ids import batch_id
from actors.delivery.instructions import (
    Instruction,
    Seal,
    Send,
)
from actors.delivery.machine import Recovered, SyncMachine
from actors.delivery.rate_limit import RateScopes
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Opened,
    Persisted,
    Shares,
    Stimulus,
    SyncConfig,
    Tick,
)
from destinations.limits import RateLimit
from destinations.outcomes import Outcome

START_MS = 1_764_518_400_000
CONFIG = SyncConfig("promo", "changes", "remove", batch_records=2, batch_age_ms=5, evaluators=(0,))


class Driver:
    """A machine with a clock and a log of instructions; `seq` numbers the changes."""

    def __init__(self, config: SyncConfig = CONFIG, rate: float | None = None, **recovered: Any) -> None:
        self.config = config
        limits = () if rate is None else (RateLimit("scope", rate, 1000),)
        self.shares = Shares(RateScopes().limiter("promo", limits), SharedSlots("promo"))
        self.now_ms = START_MS
        self.seq = 0
        self.machine = SyncMachine(config, self.shares, Recovered(7, **recovered), jitter=lambda: 0.5)
        self.handle(Opened(0, 0))

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        return self.machine.handle(stimulus, self.now_ms)

    def read(self, *moves: str, at_head: bool = True) -> list[Instruction]:
        """`+a` enters a, `-a` lets a leave."""
        changes = []
        for move in moves:
            self.seq += 1
            kind = "entered" if move[0] == "+" else "exited"
            changes.append(Change(0, self.seq, "aud", 1, move[1:], kind, START_MS + self.seq, 0, "event"))  # type: ignore[arg-type]
        return self.handle(Changes(0, changes, self.seq, at_head))

    def persist(self, instructions: Iterable[Instruction]) -> list[Instruction]:
        out = []
        for instruction in instructions:
            if isinstance(instruction, Seal):
                for batch in instruction.batches:
                    out += self.handle(Persisted(batch.id))
        return out

    def answer(self, batch: str, *outcomes: Outcome) -> list[Instruction]:
        return self.handle(Answered(batch, outcomes))

    def after(self, ms: int) -> list[Instruction]:
        self.now_ms += ms
        return self.handle(Tick())

    @property
    def wake_in_ms(self) -> int:
        wake_ms = self.machine.next_wake_ms(self.now_ms)
        return wake_ms if wake_ms == NEVER else wake_ms - self.now_ms


def sealed(instructions: Iterable[Instruction]) -> list[list[str]]:
    return [
        [("+" if change.kind == "entered" else "-") + change.user_id for change in batch.changes]
        for instruction in instructions
        if isinstance(instruction, Seal)
        for batch in instruction.batches
    ]


def sent(instructions: Iterable[Instruction]) -> list[str]:
    return [instruction.batch_id for instruction in instructions if isinstance(instruction, Send)]


IDS = [batch_id("promo", 7, order) for order in range(200)]
