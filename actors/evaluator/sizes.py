"""Audience sizes, kept by counting transitions: reading them costs nothing."""

from __future__ import annotations

import pyarrow as pa

from actors.evaluator.machine import EvaluatorMachine


class Sizes:
    """Members per audience."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def count(self, machine: EvaluatorMachine) -> None:
        """Count anew from the machine's membership; O(audiences x users)."""
        self._sizes = machine.audience_sizes()

    def rename(self, machine: EvaluatorMachine) -> None:
        """Drop audiences that are no longer evaluated and start new ones; their transitions are yet to come."""
        self._sizes = {audience: self._sizes.get(audience, 0) for audience in machine.program.audiences}

    def add(self, transitions: pa.RecordBatch) -> None:
        """Add entries and exits."""
        grouped = pa.table(
            {"audience_id": transitions.column("audience_id"), "kind": transitions.column("kind")}
        ).group_by(["audience_id", "kind"])
        for row in grouped.aggregate([([], "count_all")]).to_pylist():
            audience = row["audience_id"]
            if audience in self._sizes:
                self._sizes[audience] += row["count_all"] if row["kind"] == "entered" else -row["count_all"]

    def of(self, audience: str) -> int:
        """Give an audience's size."""
        return self._sizes.get(audience, 0)


