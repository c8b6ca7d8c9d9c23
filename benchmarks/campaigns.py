"""The workload of the `audiences` case: any number of audiences, of which an event concerns about the same few.

Each event carries a `campaign`. An audience counts one event model's events of one campaign (`at_least` 1 to 3 within
60 to 300 s); every second one asks for a trait too; every fifth shares its count with an earlier one, leaf and all.
There are as many campaigns as it takes for an event's model and campaign to select LEAVES_A_PAIR leaves.

So that sizes can be compared, more than the matched leaves must be equal: how often a user comes back to the same
campaign decides how often a leaf flips. Each user therefore meets REACH (model, campaign) pairs, a hundred audiences'
worth, drawn for each user from all pairs; events are uniform over users and their pairs, and so over all pairs. With
100 audiences these are all pairs there are; with 10 and 1 there is one pair, of 8 leaves and of 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.core import BATCH_ROWS, PARENT, event_model, hits
from benchmarks.workloads import START_MS

#: Leaves that an event's model and campaign select.
LEAVES_A_PAIR = 10
#: One audience in so many has the count of another.
SHARED_EVERY = 5
#: (Model, campaign) pairs that a user meets, where there are as many.
REACH = 8
MODELS = 4
COLUMNS = ("campaign",)


@dataclass(frozen=True, slots=True)
class Campaigns:
    """Definitions over `models` event models with `values` campaigns each; `leaves`: distinct counts."""

    document: dict[str, Any]
    models: int
    values: int
    leaves: int

    @property
    def pairs(self) -> int:
        """The number of (model, campaign) pairs; pair p is model p % models, campaign p // models."""
        return self.models * self.values


def campaigns(audiences: int, seed: int = 11) -> Campaigns:
    """Make the definitions of so many audiences; O(audiences)."""
    rng = np.random.default_rng(seed)
    leaves = audiences - audiences // SHARED_EVERY
    pairs = max(1, round(leaves / LEAVES_A_PAIR))
    models = MODELS if pairs % MODELS == 0 else 1
    counts = [_count(leaf, pairs, models, rng) for leaf in range(leaves)]
    document = {
        "version": 1,
        "parent_models": [PARENT],
        "event_models": [event_model(i, {"campaign": "string"}) for i in range(models)],
        "audiences": [
            {"id": f"audience_{i}", "parent": "users", "where": _condition(i, counts[_count_of(i)], rng)}
            for i in range(audiences)
        ],
    }
    return Campaigns(document, models, pairs // models, leaves)


def _count_of(audience: int) -> int:
    """Give the number of an audience's count: its own; for every fifth, in turn, that of one of the four before it."""
    group, place = divmod(audience, SHARED_EVERY)
    own = SHARED_EVERY - 1
    return group * own + (place if place < own else group % own)


def _count(leaf: int, pairs: int, models: int, rng: np.random.Generator) -> dict[str, Any]:
    pair = leaf % pairs
    return {
        "event": f"e{pair % models}",
        "at_least": 1 + leaf // pairs % 3,  # the same mix in every pair
        "within": f"{int(rng.integers(60, 301))}s",
        "where": {"property": "campaign", "eq": f"campaign_{pair // models}"},
    }


def _condition(audience: int, count: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    if audience % 2:
        return {"all": [count, {"trait": "ltv", "gt": int(rng.integers(0, 300))}]}
    return count


def campaign_batches(
    workload: Campaigns, *, users: int, events: int, events_per_second: float, seed: int = 12
) -> Iterator[pa.RecordBatch]:
    """Give hits in order of time, BATCH_ROWS each; O(BATCH_ROWS) numpy a batch, O(users) memory."""
    rng = np.random.default_rng(seed)
    first_pair = rng.integers(0, workload.pairs, users)
    names = pa.array([f"campaign_{value}" for value in range(workload.values)])
    for start in range(0, events, BATCH_ROWS):
        count = min(BATCH_ROWS, events - start)
        who = rng.integers(0, users, count)
        pairs = (first_pair[who] + rng.integers(0, min(REACH, workload.pairs), count)) % workload.pairs
        between = np.sort(rng.random(count)) * count
        clocks = START_MS + ((start + between) * 1000 / events_per_second).astype(np.int64)
        values = pa.array((pairs // workload.models).astype(np.int32))
        column = pa.DictionaryArray.from_arrays(values, names)
        yield hits(pairs % workload.models, who, clocks, [column])
