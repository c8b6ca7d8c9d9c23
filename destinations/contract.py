"""What a destination is: pure functions between records, bytes, requests and outcomes.

    records ─ encode ─▶ body bytes (durable before the first send) ─ build ─▶ Request ─ transport ─▶ Answer
                                                                                                       │
                                     one outcome per record ◀────────────────── judge ◀────────────────┘

`encode` runs once per batch, `build` once per attempt: every attempt carries the same bytes under one id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from pydantic import BaseModel, ConfigDict

from destinations.outcomes import Outcome
from destinations.requests import Answer, Request

#: A trait's or identifier's value; None only inside `traits`.
Value: TypeAlias = str | float | bool | int | list[str] | None


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of one user as a destination sees it. `at_ms` is UTC ms; a user's order is `(at_ms, n)`."""

    transition_id: str
    audience_id: str
    audience_version: int
    user_id: str
    identifiers: dict[str, Any]
    kind: Literal["entered", "exited"]
    at_ms: int
    n: int
    cause: str
    traits: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one sync in sending order, and the id under which every attempt travels."""

    id: str
    sync: str
    records: tuple[Record, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch as it was stored: `body` is what `encode` gave, `record_count` how many records are in it."""

    id: str
    sync: str
    body: bytes = field(repr=False)
    record_count: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a kind can take. `batch_records_max` bounds a batch, `batch_age_default_ms` how long one fills."""

    batch_records_max: int
    batch_age_default_ms: int


class DestinationSettings(BaseModel):
    """The base of every kind's settings. Secrets are SecretStr; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Destination(Protocol):
    """A kind of destination. Pure: no clock, no files, no sockets; safe to call from any thread."""

    @property
    def kind(self) -> str:
        """The `kind:` of definitions documents."""
        ...

    @property
    def settings_model(self) -> type[DestinationSettings]:
        """Checks a destination's own keys."""
        ...

    @property
    def exits(self) -> frozenset[str]:
        """What `on_exit` may be."""
        ...

    @property
    def deliver_default(self) -> Literal["state", "changes"]:
        """What `deliver` is where a sync does not say."""
        ...

    @property
    def limits(self) -> Limits:
        """What a request can take."""
        ...

    def batch_records(self, settings: Any) -> int:
        """How many records a batch holds under these settings; a sync may ask for fewer."""
        ...

    def requests_per_s(self, settings: Any) -> float | None:
        """The rate limit of the whole destination, None for none."""
        ...

    def secrets(self, settings: Any) -> tuple[str, ...]:
        """Every secret text, to be masked in whatever is kept of a request or an answer."""
        ...

    def encode(self, settings: Any, batch: Batch) -> bytes:
        """Give whatever `build` needs to make the same request again; called once per batch."""
        ...

    def build(self, settings: Any, sealed: SealedBatch, attempt_time_s: int) -> Request:
        """Give the request of one attempt. Only what must differ per attempt (time, signature) differs."""
        ...

    def judge(self, request: Request, answer: Answer) -> tuple[Outcome, ...]:
        """Give one outcome per record, in the order of the records."""
        ...


Kinds: TypeAlias = Mapping[str, Destination]
