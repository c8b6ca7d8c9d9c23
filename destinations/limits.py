"""What a destination can take: the size of a request, and how many of them when."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: Who shares a limit: everything under one application (an API project, a credential), one account, or one list.
Level: TypeAlias = Literal["app", "account", "list"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request and one sync may be.

    records_max: records a batch holds at most, whatever a sync asks for.
    records_default: records a batch holds where the sync does not say; None: `records_max`.
    batch_age_ms: how long a batch fills where the sync does not say.
    bytes_max: bytes of what `encode` gives, None for no limit; counted by `size_bytes`. A record that is larger alone
        can never be sent: it is permanent.
    bytes_around: bytes of a body besides those of its records.
    in_flight_max: requests of one sync without an answer. 1 where a list takes one edit at a time.
    """

    records_max: int
    batch_age_ms: int
    bytes_max: int | None = None
    bytes_around: int = 0
    in_flight_max: int = 4
    records_default: int | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `amount` requests or records in any `per_ms`, over all syncs whose limits have this `scope`.

    `burst` is how many may go at once after a quiet time; None: what comes within a tenth of a second.
    """

    scope: str
    amount: float
    per_ms: int
    counts: Literal["requests", "records"] = "requests"
    burst: int | None = None


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most `amount` requests without an answer, over all syncs whose limits have this `scope`."""

    scope: str
    amount: int


def scope_of(kind: str, level: Level, *parts: str) -> str:
    """Name what shares a limit: equal parts give equal scopes, and the name tells nothing about a secret part."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=12)
    return f"{kind}:{level}:{digest.hexdigest()}"
