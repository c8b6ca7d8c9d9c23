"""Batches that are not finished, and which of them may go: a user's later batch waits for the earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["sealing", "waiting", "in_flight"]


@dataclass(slots=True)
class OutboxBatch:
    """One unfinished batch. `waits_on` counts earlier batches that it shares a user with."""

    id: str
    order: int
    #: The users of its records, in the records' order.
    users: tuple[str, ...]
    phase: Phase
    attempts: int = 0
    first_attempt_ms: int = 0
    next_attempt_ms: int = 0
    waits_on: int = 0
    #: Orders of later batches that wait for this one.
    dependents: set[int] = field(default_factory=set)
    #: Whom it keeps in order until it is finished, also those whose record it lost on the way: an even earlier
    #: batch may hold them, and only this one waits for that.
    holds: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.holds = frozenset(self.users)

    @property
    def fresh(self) -> bool:
        """On its first way: not waiting for another attempt."""
        return self.attempts == 0 or self.phase == "in_flight"


class Outbox:
    """Unfinished batches in sending order. `add` and `finish` cost O(users of the batch)."""

    def __init__(self) -> None:
        self._by_order: dict[int, OutboxBatch] = {}
        self._order_of_id: dict[str, int] = {}
        #: User -> order of the latest unfinished batch that holds a change of theirs.
        self._last_of_user: dict[str, int] = {}
        self.in_flight = 0

    def __len__(self) -> int:
        return len(self._by_order)

    def __iter__(self) -> Iterator[OutboxBatch]:
        return iter(self._by_order.values())

    def __getitem__(self, batch_id: str) -> OutboxBatch:
        return self._by_order[self._order_of_id[batch_id]]

    @property
    def record_count(self) -> int:
        """Records in all unfinished batches."""
        return sum(len(batch.users) for batch in self)

    def add(self, batch: OutboxBatch) -> None:
        """Put a batch at the end."""
        for user in batch.holds:
            earlier = self._last_of_user.get(user)
            if earlier is not None and earlier != batch.order:
                holder = self._by_order[earlier]
                if batch.order not in holder.dependents:
                    holder.dependents.add(batch.order)
                    batch.waits_on += 1
            self._last_of_user[user] = batch.order
        self._by_order[batch.order] = batch
        self._order_of_id[batch.id] = batch.order

    def keep_only(self, batch: OutboxBatch, indexes: list[int]) -> None:
        """Reduce a batch to the records at `indexes`."""
        batch.users = tuple(batch.users[index] for index in indexes)

    def rename(self, batch: OutboxBatch, new_id: str) -> None:
        """Give a batch another id in the same place."""
        del self._order_of_id[batch.id]
        batch.id = new_id
        self._order_of_id[new_id] = batch.order

    def finish(self, batch: OutboxBatch) -> None:
        """Forget a batch; whoever waited only for it may go."""
        for user in batch.holds:
            if self._last_of_user.get(user) == batch.order:
                del self._last_of_user[user]
        for order in batch.dependents:
            self._by_order[order].waits_on -= 1
        del self._by_order[batch.order]
        del self._order_of_id[batch.id]
