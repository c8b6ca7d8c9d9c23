"""Hypothesis strategies: whole documents, trait snapshots and event streams that meet at their boundaries."""

from tests.strategies.conditions import ALL_HEADS
from tests.strategies.documents import documents, trait_tables
from tests.strategies.scenarios import Scenario, changed, cuts, scenarios, steps
from tests.strategies.streams import event_streams

__all__ = [
    "ALL_HEADS",
    "Scenario",
    "changed",
    "cuts",
    "documents",
    "event_streams",
    "scenarios",
    "steps",
    "trait_tables",
]
