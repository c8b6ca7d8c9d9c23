"""What the parts of one sync's shell share: its plan, its unfinished batches, its counts; and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actors.delivery.bounds import LOGGED_BODY_CHARS_MAX, LOGGED_RECORDS_MIN, LOGGED_WELL_RECORDS_A_SECOND
from actors.delivery.cutting import to_row
from actors.delivery.dead_letters import dead_letter, shown_attempt
from actors.delivery.figures import Figures
from actors.delivery.ids import part_id
from actors.delivery.instructions import Dead
from actors.delivery.log_lines import Lines
from actors.delivery.plans import SyncPlan
from actors.delivery.rows import Attempted, DeadLetter, Exchange, StoredRow
from destinations.records import Record


@dataclass(slots=True)
class Desk:
    """One sync's unfinished business."""

    plan: SyncPlan
    figures: Figures
    delivered: int = 0
    failed: int = 0
    #: What steps and answers taught: list ids, cursors of a search; no secrets.
    learned: dict[str, Any] = field(default_factory=dict)
    #: Unfinished batches by id: what every attempt sends, and what a dead letter keeps.
    rows: dict[str, StoredRow] = field(default_factory=dict)
    #: What came of the attempt that the machine is being told of.
    attempted: dict[str, Attempted] = field(default_factory=dict)
    #: When the resync began that is under way; 0: none is.
    resync_ms: int = 0
    #: The second of the last exchange that was kept although all went well, and how many records such ones had in it.
    _kept: tuple[int, int] = (0, 0)
    #: Since when the oldest change of each unfinished batch waits, where that was asked for; None: it has none.
    _since_ms: dict[str, int | None] = field(default_factory=dict)

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
        hidden = (*self.secrets(attempted), *plan.kind.personal(plan.settings, row.records))
        return dead_letter(lost, attempted, dead, now_ms, hidden, superseded)

    def batched_since_ms(self) -> int | None:
        """Give since when the oldest change in an unfinished batch waits, UTC ms."""
        known = self._since_ms
        self._since_ms = {
            id_: known[id_] if id_ in known else self.figures.since_ms(row.records) for id_, row in self.rows.items()
        }
        return min((at_ms for at_ms in self._since_ms.values() if at_ms is not None), default=None)

    def lines(self, batch_id: str, attempt: int, attempted: Attempted | None, now_ms: int) -> Lines:
        """Begin the sync log's lines of an attempt."""
        return Lines(batch_id, attempt, attempted, now_ms, names=self.plan.sync.log_pii)

    def exchange(
        self, attempted: Attempted, records: Sequence[Record], now_ms: int, *, well: bool
    ) -> Exchange | None:
        """Give an attempt's request and answer for the log; `well`: everything arrived.

        None where there was no request, and of attempts that went well where they are too many to be read.
        """
        if attempted.request is None or (well and not self._worth_keeping(now_ms, len(records))):
            return None
        plan = self.plan
        people = () if plan.sync.log_pii else plan.kind.personal(plan.settings, records)
        hidden = (*self.secrets(attempted), *people)
        asked, answered = shown_attempt(
            attempted, hidden, chars_max=LOGGED_BODY_CHARS_MAX, addresses=plan.sync.log_pii
        )
        return Exchange(json.dumps(asked), json.dumps(answered))

    def secrets(self, attempted: Attempted) -> tuple[str, ...]:
        """Give the secrets that what is kept of an attempt must not show."""
        token = (attempted.token,) if attempted.token else ()
        return (*self.plan.kind.secrets(self.plan.settings), *token)

    def _worth_keeping(self, now_ms: int, records: int) -> bool:
        second, spent = now_ms // 1000, 0
        if self._kept[0] == second:
            spent = self._kept[1]
        if spent and spent + max(records, LOGGED_RECORDS_MIN) > LOGGED_WELL_RECORDS_A_SECOND:
            return False
        self._kept = (second, spent + max(records, LOGGED_RECORDS_MIN))
        return True
