"""Short lives: one user, some 60 ms, membership at every ms, so that a brute-force reading of it is a few lines.

Times are ms after T, midnight in Singapore; lives begin at FIRST, before it, and windows are of some ms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.conftest import START_MS
from tests.properties.engine import Engine

Node = dict[str, Any]
T = START_MS
FIRST, END = -15, 45
ZONE = "Asia/Singapore"


@dataclass(frozen=True)
class Row:
    """One row of the log: the clock at it, and when it happened (not after that)."""

    name: str
    clock: int
    ts: int
    channel: str | None = None
    amount: float | None = None
    seen_at: int | None = None

    def event(self) -> Node:
        """The event as it is sent."""
        properties = {"channel": self.channel, "amount": self.amount}
        if self.seen_at is not None:
            properties["seen_at"] = T + self.seen_at
        fields = {"type": "track", "event": self.name, "user_id": "u", "timestamp": T + self.ts}
        return {**fields, "properties": {name: value for name, value in properties.items() if value is not None}}


@st.composite
def rows(draw: st.DrawFn, size: int = 12, amounts: Sequence[float] = (0, 1, 2, -3, 0.5)) -> list[Row]:
    """Rows in log order, many late, some of one ms."""
    gaps, lateness = st.sampled_from([0, 0, 1, 1, 2, 3, 5, 9]), st.sampled_from([0, 0, 0, 0, 1, 2, 5, 10, 11])
    names = st.sampled_from(["view", "view", "order"])
    channels = st.sampled_from(["web", "web", "app", "tv", None])
    result: list[Row] = []
    clock = FIRST + draw(st.integers(0, 14))
    for _ in range(draw(st.integers(0, size))):
        clock += draw(gaps)
        ts = clock - draw(lateness)
        seen_at = clock - draw(lateness)
        amount = draw(st.sampled_from([*amounts, None]))
        result.append(Row(draw(names), clock, ts, draw(channels), amount, seen_at))
    return result


def document(audiences: Mapping[str, Node], **models: Node) -> Node:
    """Audiences over `view` and `order`, or over other models."""
    columns = {"amount": {"path": "properties.amount", "type": "number"},
               "channel": {"path": "properties.channel", "type": "string"}}  # fmt: skip
    common = {"parent": "users", "foreign_key": "user_id", "columns": columns, "retention": "1h"}
    named = models or {name: {"event": name} for name in ("view", "order")}
    return {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id"}],
        "event_models": [{**common, "id": name, **model} for name, model in named.items()],
        "audiences": [{"id": name, "parent": "users", "where": where} for name, where in audiences.items()],
    }


def ms_by_ms(definitions: Node, rows: Sequence[Row]) -> list[set[str]]:
    """The audiences the user is in at each ms, the clock moved by each."""
    engine = Engine(definitions, {}, T + FIRST - 1)
    machine, result = engine.machine, []
    for now in range(FIRST, END):
        engine.batch([(row.event(), T + now) for row in rows if row.clock == now], live=True)
        machine.tick(T + now)
        result.append({name for name in machine.program.audiences if machine.is_member(name, "u")})
    return result


def in_one_wave(definitions: Node, rows: Sequence[Row]) -> list[set[str]]:
    """The same from the transitions of one batch and one tick: what time does is done when it is late."""
    engine = Engine(definitions, {}, T + FIRST - 1)
    engine.batch([(row.event(), T + row.clock) for row in rows])
    engine.advance(T + END - 1)
    changes = sorted((each["at"] - T, each["n"], each["audience_id"], each["kind"]) for each in engine.transitions)
    result: list[set[str]] = []
    members: set[str] = set()
    for now in range(FIRST, END):
        for at, _, audience, kind in changes:
            if at == now:
                (members.add if kind == "entered" else members.remove)(audience)
        result.append(set(members))
    return result


def by_definition(names: Sequence[str], rows: Sequence[Row], holds: Callable[[str, Seen], bool]) -> list[set[str]]:
    """Brute force: at each ms, who of `names` holds for the rows that came so far."""
    result = []
    for now in range(FIRST, END):
        seen = Seen(now, [(position, row) for position, row in enumerate(rows) if row.clock <= now])
        result.append({name for name in names if seen.rows and holds(name, seen)})
    return result


@dataclass(frozen=True)
class Seen:
    """What there is to judge by at `t`: every row so far, with its position in the log."""

    t: int
    rows: Sequence[tuple[int, Row]]
