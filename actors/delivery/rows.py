"""What `delivery.db` holds, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.delivery.instructions import HaltState
from actors.delivery.stimuli import StoredBatch
from destinations.records import Record


@dataclass(frozen=True, slots=True)
class SyncRow:
    """A sync. `identity` names its audience and destination, `fingerprint` stands for the destination's settings."""

    sync: str
    incarnation: int
    identity: str
    fingerprint: bytes
    next_order: int
    held: bool
    halted: HaltState
    halt_reason: str
    delivered: int
    failed: int


@dataclass(frozen=True, slots=True)
class StoredRow:
    """An unfinished batch: the records, and the bytes that every attempt carries."""

    order: int
    id: str
    records: tuple[Record, ...] = field(repr=False)
    body: bytes = field(repr=False)
    attempts: int = 0
    first_attempt_ms: int = 0
    next_attempt_ms: int = 0

    def as_batch(self) -> StoredBatch:
        """Give what the machine needs of it."""
        users = tuple(record.user_id for record in self.records)
        return StoredBatch(
            self.id, self.order, users, self.attempts, self.first_attempt_ms, self.next_attempt_ms
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Records given up. `request` and `response` are JSON texts without secrets and without personal data."""

    id: str
    records: tuple[Record, ...] = field(repr=False)
    body: bytes = field(repr=False)
    died_ms: int
    attempts: int
    reason: str
    request: str
    response: str


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the sync log. `outcome`: delivered, retry, dead, dropped, credentials or disabled."""

    at_ms: int
    batch_id: str
    count: int
    outcome: str
    status: int | None
    attempt: int
    latency_ms: float | None
    reason: str
