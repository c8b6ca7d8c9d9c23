"""What a link's file says: how delivery is set up, what the destination does, what is expected of both.

Durations are written as in definitions (`30s`, `5m`). Ranges are `[least, most]`, both included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from cluster.model.durations import parse_duration

FOLDER = Path(__file__).parent


class Latency(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How long an answer takes: lognormal around `median_ms`; each request that is there already adds `each_ms`."""

    median_ms: float = 30.0
    spread: float = 0.3
    each_ms: float = 0.0


class Allowed(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the destination itself takes: `amount` requests or records in any `per`; beyond that it answers 429.

    `says`: how it asks to wait: seconds, a date, or not at all.
    """

    amount: float
    per: str
    counts: Literal["requests", "records"] = "requests"
    says: Literal["seconds", "date", "nothing"] = "seconds"

    @property
    def per_ms(self) -> int:
        return parse_duration(self.per)


class Outage(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """From when to when it does not work. `answer`: a status, or 0 for none within the request's timeout."""

    after: str
    lasts: str
    answer: int = 503

    def covers(self, ms: int) -> bool:
        return 0 <= ms - parse_duration(self.after) < parse_duration(self.lasts)


class There(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The destination.

    `fails_every`: of so many requests one is answered by 500 although it was taken. `refuses_every`: one user in so
    many is refused alone, the rest of the request is taken. `chokes_every`: a request with one user in so many is
    refused whole, without a word on whose fault it is.
    """

    latency: Latency = Latency()
    allows: list[Allowed] = []
    at_once: int = 0
    outages: list[Outage] = []
    fails_every: int = 0
    refuses_every: int = 0
    chokes_every: int = 0


class Traffic(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Each sync's changes, by `users` in turn, who enter and leave.

    `backlog` at the start and `per_s` from then on, together once `every` so often.
    """

    users: int
    backlog: int = 0
    per_s: float = 0.0
    every: str = "100ms"


class Link(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One simulated destination. `destination` and `sync` are keys of definitions; `expect`: ranges of `Facts`.

    `late_ms`: how late timers come, drawn from this range: a busy machine.
    """

    about: str
    destination: dict[str, Any]
    traffic: Traffic
    lasts: str
    expect: dict[str, tuple[float, float]]
    sync: dict[str, Any] = {}
    syncs: int = 1
    seed: int = 1
    late_ms: tuple[int, int] = (0, 2)
    there: There = There()

    @property
    def lasts_ms(self) -> int:
        return parse_duration(self.lasts)


def links() -> dict[str, Link]:
    """Every link by its file's name."""
    return {
        path.stem: msgspec.convert(yaml.safe_load(path.read_text("utf-8")), Link)
        for path in sorted(FOLDER.glob("*.yaml"))
    }
