"""Audience sizes, kept by counting transitions: reading them costs nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.results import Transitions


class Sizes:
    """Members per audience, by the indexes of the machine that was counted last."""

    def __init__(self) -> None:
        self._names: Mapping[str, int] = {}
        self._sizes = np.zeros(0, np.int64)

    @classmethod
    def of_members(cls, machine: EvaluatorMachine, sizes: Mapping[str, int]) -> Sizes:
        """Take what is known of a machine's audiences."""
        result = cls()
        result._names = machine.program.audience_index
        result._sizes = np.array([sizes.get(name, 0) for name in result._names], np.int64)
        return result

    def count(self, machine: EvaluatorMachine) -> None:
        """Count anew from the machine's membership; O(audiences x users)."""
        self._names = machine.program.audience_index
        self._sizes = np.array(list(machine.audience_sizes().values()), np.int64)

    def change(self, machine: EvaluatorMachine, ended: Collection[str], gains: Mapping[str, int]) -> None:
        """Take another machine's audiences: those that `ended` begin with nobody, and each gains entries less exits."""
        before = {name: int(self._sizes[place]) for name, place in self._names.items() if name not in ended}
        self._names = machine.program.audience_index
        self._sizes = np.array([before.get(name, 0) + gains[name] for name in self._names], np.int64)

    def add(self, transitions: Transitions) -> None:
        """Add entries and exits that the machine has made; O(transitions)."""
        if len(transitions):
            change = transitions.entered.astype(np.int64) * 2 - 1
            np.add.at(self._sizes, transitions.audience, change)

    def of(self, audience: str) -> int:
        """Give an audience's size."""
        return int(self._sizes[self._names[audience]])

    def all(self) -> dict[str, int]:
        """Give every audience's size."""
        return dict(zip(self._names, self._sizes.tolist(), strict=True))
