"""Chance, all of it from the seed: one stream a purpose, so that one decision more or less shifts no other's."""

from __future__ import annotations

import random


def dice(seed: int, *purpose: object) -> random.Random:
    """Give the stream of a purpose. The same on every machine and in every process."""
    return random.Random("/".join(map(str, (seed, *purpose))))


def brief(stream: random.Random, mean_s: float) -> float:
    """Draw a duration: mostly near nothing, now and then many times the mean."""
    return stream.expovariate(1.0) * mean_s
