"""What the parts of one sync's shell share: its plan, its unfinished batches, its counts; and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actors.delivery.cutting import to_row
from actors.delivery.dead_letters import dead_letter
from actors.delivery.ids import part_id
from actors.delivery.instructions import Dead
from actors.delivery.plans import SyncPlan
from actors.delivery.rows import Attempted, DeadLetter, LogRow, StoredRow


@dataclass(slots=True)
class Desk:
    """One sync's unfinished business."""

    plan: SyncPlan
    delivered: int = 0
    failed: int = 0
    #: What steps and answers taught: list ids, cursors of a search; no secrets.
    learned: dict[str, Any] = field(default_factory=dict)
    #: Unfinished batches by id: what every attempt sends, and what a dead letter keeps.
    rows: dict[str, StoredRow] = field(default_factory=dict)
    #: What came of the attempt that the machine is being told of.
    attempted: dict[str, Attempted] = field(default_factory=dict)

    def dead_letter(
        self, row: StoredRow, dead: Dead, attempt: int, attempted: Attempted, now_ms: int
    ) -> DeadLetter | None:
        """Give the dead letter of some of a batch's records; a part of a batch gets bytes and an id of its own."""
        if not dead.indexes:
            return None
        plan = self.plan
        records = tuple(row.records[index] for index in dead.indexes)
        lost = replace(row, attempts=attempt)
        if len(records) < len(row.records):
            lost = to_row(plan, part_id(row.id, "dead"), row.order, row.span, row.key, records, attempt)
        alive = {row.records[index].user_id for index in dead.indexes if index not in dead.superseded}
        superseded = frozenset(record.user_id for record in records) - alive
        hidden = (*plan.kind.secrets(plan.settings), *plan.kind.personal(plan.settings, row.records))
        return dead_letter(lost, attempted, dead, now_ms, hidden, superseded)

    @staticmethod
    def log_rows(
        batch_id: str, attempt: int, attempted: Attempted, now_ms: int, counts: Sequence[tuple[str, int, str]]
    ) -> list[LogRow]:
        """Give the log's rows of an attempt for each `(outcome, count, reason)` that has a count."""
        return [
            LogRow(now_ms, batch_id, count, outcome, attempted.status, attempt, attempted.latency_ms, reason)
            for outcome, count, reason in counts
            if count
        ]
