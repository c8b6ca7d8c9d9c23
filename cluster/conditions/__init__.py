"""Conditions in Python: the same trees as in YAML, built with operators (`builder`)."""

from __future__ import annotations

from cluster.conditions.builder import (
    Abandoned,
    Aggregate,
    Audience,
    Condition,
    Event,
    Filter,
    Happened,
    all_of,
    any_of,
    audience,
    event,
    prop,
    sequence,
    trait,
)

__all__ = [
    "Abandoned",
    "Aggregate",
    "Audience",
    "Condition",
    "Event",
    "Filter",
    "Happened",
    "all_of",
    "any_of",
    "audience",
    "event",
    "prop",
    "sequence",
    "trait",
]
