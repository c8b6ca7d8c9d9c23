"""Seeded workloads of known shape, the same for every runner that is compared.

`engine_workload`: users, events and audiences as the `engine` figure asks: each audience a count >= 1..3 in 60-300
s, often with a property filter, half with a trait, a third with a NOT event; about two transitions an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: 2026-11-23T00:00:00Z; any start does.
START_MS = 1_795_392_000_000
#: Keys of users are this and a number.
USER_PREFIX = "user_"
CHANNELS = ("web", "ios", "android", "email")


def user_keys(numbers: np.ndarray) -> pa.StringArray:
    """Give the keys `user_{number}`; about 50 ns each."""
    return pc.binary_join_element_wise(pa.scalar(USER_PREFIX), pa.array(numbers).cast(pa.string()), "")


@dataclass(frozen=True, slots=True)
class Workload:
    """A definitions document, traits, and events as columns (one row an event, in order of time)."""

    document: dict[str, Any]
    traits: pa.Table
    clocks: np.ndarray
    users: np.ndarray
    models: np.ndarray
    channels: np.ndarray
    amounts: np.ndarray
    user_names: list[str]

    def __len__(self) -> int:
        """Give the number of events."""
        return len(self.clocks)


def engine_workload(
    *, users: int = 100_000, events: int = 2_000_000, audiences: int = 100, event_models: int = 8,
    events_per_second: int = 3_000, seed: int = 7,
) -> Workload:
    """Make the workload of the `engine` figure; O(events) numpy."""
    rng = np.random.default_rng(seed)
    names = [f"user_{i}" for i in range(users)]
    clocks = START_MS + np.sort(rng.integers(0, events * 1000 // events_per_second, events))
    # A third of the events come from a tenth of the users, as on a real site.
    heavy = rng.random(events) < 0.33
    who = np.where(heavy, rng.integers(0, max(1, users // 10), events), rng.integers(0, users, events))
    return Workload(
        document=engine_document(audiences, event_models, rng),
        traits=pa.table({"user_id": names, "ltv": rng.integers(0, 600, users).astype(np.float64),
                         "tier": rng.choice(["bronze", "silver", "gold"], users)}),
        clocks=clocks.astype(np.int64),
        users=who.astype(np.int32),
        models=rng.integers(0, event_models, events).astype(np.int16),
        channels=rng.integers(0, len(CHANNELS), events).astype(np.int8),
        amounts=rng.integers(0, 100, events).astype(np.float64),
        user_names=names,
    )


def engine_document(audiences: int, event_models: int, rng: np.random.Generator) -> dict[str, Any]:
    """Make the definitions: audiences that differ in event, count, window, filter, trait and NOT."""
    columns = {
        "channel": {"path": "properties.channel", "type": "string"},
        "amount": {"path": "properties.amount", "type": "number"},
    }
    return {
        "version": 1,
        "parent_models": [{
            "id": "users", "primary_key": "user_id",
            "traits": {"source": {"kind": "parquet", "path": "users.parquet"},
                       "columns": {"ltv": {"type": "number"}, "tier": {"type": "string"}}},
        }],
        "event_models": [
            {"id": f"e{i}", "parent": "users", "type": "track", "event": f"event_{i}", "foreign_key": "user_id",
             "timestamp": "timestamp", "columns": columns}
            for i in range(event_models)
        ],
        "audiences": [
            {"id": f"audience_{i}", "parent": "users", "where": _audience(event_models, rng)}
            for i in range(audiences)
        ],
    }


def _audience(event_models: int, rng: np.random.Generator) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = [_count(event_models, rng, at_least=int(rng.integers(1, 4)))]
    if rng.random() < 0.5:
        nodes.append({"trait": "ltv", "gt": int(rng.integers(0, 300))} if rng.random() < 0.6
                     else {"trait": "tier", "in": ["silver", "gold"]})
    if rng.random() < 1 / 3:
        nodes.append({"not": _count(event_models, rng, at_least=1)})
    return nodes[0] if len(nodes) == 1 else {"all": nodes}


def _count(event_models: int, rng: np.random.Generator, at_least: int) -> dict[str, Any]:
    node: dict[str, Any] = {
        "event": f"e{int(rng.integers(0, event_models))}",
        "at_least": at_least,
        "within": f"{int(rng.integers(60, 301))}s",
    }
    draw = rng.random()
    if draw < 0.45:
        node["where"] = {"property": "channel", "eq": CHANNELS[int(rng.integers(0, len(CHANNELS)))]}
    elif draw < 0.7:
        node["where"] = {"property": "amount", "gte": int(rng.integers(0, 80))}
    return node
