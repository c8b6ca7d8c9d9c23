"""What `delivery.db` holds, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.delivery.instructions import HaltState
from actors.delivery.outbox import ORDER_SPAN
from actors.delivery.stimuli import StoredBatch
from destinations.outcomes import Outcome
from destinations.records import Record
from destinations.requests import Answer, Request, Response


@dataclass(frozen=True, slots=True)
class SyncRow:
    """A sync. `identity` names its audience and destination, `fingerprint` stands for the destination's settings."""

    sync: str
    incarnation: int
    identity: str
    fingerprint: bytes
    next_order: int
    held: bool
    suspended: bool
    halted: HaltState
    halt_reason: str
    delivered: int
    failed: int
    learned: Mapping[str, Any]
    later: Later


@dataclass(frozen=True, slots=True)
class Later:
    """What a sync does beside delivering changes.

    `swept` is the version of the traits by which identifiers were last looked through, under `swept_key`; `remembers`:
    its ledger is whole. A resync began at `resync_ms` (0: none is under way), the last one ended at `resynced_ms`.
    `ending` is what is needed to end the sync once definitions have it no more, empty while they do.
    """

    swept: int = 0
    swept_key: str = ""
    remembers: bool = False
    resync_ms: int = 0
    resynced_ms: int = 0
    ending: str = ""


@dataclass(frozen=True, slots=True)
class Spool:
    """Members as of transition `seq` of an evaluator, an Arrow IPC stream; `taken` of them are in batches."""

    seq: int
    count: int
    taken: int
    cause: str
    payload: bytes = field(repr=False)


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
    span: int = ORDER_SPAN
    key: str = ""

    def as_batch(self) -> StoredBatch:
        """Give what the machine needs of it."""
        users = tuple(record.user_id for record in self.records)
        return StoredBatch(
            self.id, self.order, users, self.attempts, self.first_attempt_ms, self.next_attempt_ms, self.span
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Records given up. `request` and `response` are JSON texts without secrets and without personal data.

    `superseded` users had a newer change when it died.
    """

    id: str
    records: tuple[Record, ...] = field(repr=False)
    body: bytes = field(repr=False)
    died_ms: int
    attempts: int
    reason: str
    request: str
    response: str
    key: str = ""
    superseded: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt of a batch: what was asked and what came back; no request where a step before it failed.

    `request_id` is the vendor's name for the request, `notes` are its warnings.
    """

    request: Request | None = field(repr=False)
    answer: Answer | None = field(repr=False)
    latency_ms: float
    request_id: str = ""
    notes: tuple[str, ...] = ()
    #: What became of each record, in their order.
    outcomes: tuple[Outcome, ...] = ()
    #: The access token that it bore, empty where none; to be masked in what is kept.
    token: str = field(default="", repr=False)

    @property
    def status(self) -> int | None:
        """The HTTP status, None where there was no answer."""
        return self.answer.status if isinstance(self.answer, Response) else None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the destination works on: its result is asked for under `id` from `due_ms` on."""

    id: str
    batch_id: str
    count: int
    since_ms: int
    due_ms: int
    tries: int = 0


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the sync log: the records of an attempt that fared alike.

    `outcome` is one of `cluster.runtime.protocols.SYNC_OUTCOMES`; `refused` comes from what works on an accepted
    request. `removes` of the `count` records are removals. `users` stands for each record (see `log_lines`), `names`
    are the users in clear where the sync says so.
    """

    at_ms: int
    batch_id: str
    count: int
    outcome: str
    status: int | None
    attempt: int
    latency_ms: float | None
    reason: str
    removes: int = 0
    request_id: str = ""
    notes: str = ""
    #: What the request was for: one of `cluster.runtime.protocols.SYNC_KINDS`.
    kind: str = "changes"
    users: bytes = field(default=b"", repr=False)
    names: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Exchange:
    """An attempt's request and answer as JSON texts, fit to be read by people: nothing secret or personal in them."""

    request: str
    response: str
