"""Batches that are not finished, and which of them may go: a user's later batch waits for the earlier one.

A batch has a stretch of the sync's order for itself, `span` long: when it is divided, its parts share the stretch, so
that they stand where it stood, before everything that came later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from actors.delivery.concurrency import SharedSlots

Phase = Literal["sealing", "waiting", "in_flight"]

#: A new batch's stretch. Dividing ends with single records, at the latest when as many parts as records share it:
#: a batch has at most 2^17 records, and 2^29 batches fit what SQLite counts with.
ORDER_SPAN: Final = 1 << 34


def stretches(order: int, span: int, count: int) -> list[tuple[int, int]]:
    """Give the `(order, span)` of `count` parts of a stretch."""
    part = span // max(1, count)
    assert part > 0, "the stretch is shorter than its parts are many"
    return [(order + index * part, part) for index in range(count)]


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
    span: int = ORDER_SPAN
    waits_on: int = 0
    #: Orders of later batches that wait for this one.
    dependents: set[int] = field(default_factory=set)
    #: Whom it keeps in order until it is finished, also those whose record it lost on the way: an even earlier
    #: batch may hold them, and only this one waits for that.
    holds: frozenset[str] = frozenset()
    #: What its request took of the limits on unanswered requests.
    slots: SharedSlots | None = None

    def __post_init__(self) -> None:
        self.holds = self.holds or frozenset(self.users)

    @property
    def fresh(self) -> bool:
        """On its first way: not waiting for another attempt."""
        return self.attempts == 0 or self.phase == "in_flight"

    @property
    def may_go(self) -> bool:
        """Durable, unanswered by nobody, and no earlier batch holds one of its users."""
        return self.phase == "waiting" and self.waits_on == 0


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

    def __contains__(self, batch_id: str) -> bool:
        return batch_id in self._order_of_id

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
                self._let_wait(batch, self._by_order[earlier])
            self._last_of_user[user] = batch.order
        self._by_order[batch.order] = batch
        self._order_of_id[batch.id] = batch.order

    def insert(self, batch: OutboxBatch) -> None:
        """Put a batch in its place by its order. None of the later batches has been sent."""
        if not self._by_order or batch.order > max(self._by_order):
            self.add(batch)
            return
        later_users: set[str] = set()
        for other in self:
            shared = batch.holds & other.holds
            if shared and other.order < batch.order:
                self._let_wait(batch, other)
            elif shared:
                assert other.phase != "in_flight", "a batch that is sent already would be overtaken"
                self._let_wait(other, batch)
                later_users |= shared
        for user in batch.holds - later_users:
            self._last_of_user[user] = batch.order
        self._by_order[batch.order] = batch
        self._by_order = dict(sorted(self._by_order.items()))
        self._order_of_id[batch.id] = batch.order

    def keep_only(self, batch: OutboxBatch, indexes: Sequence[int]) -> None:
        """Reduce a batch to the records at `indexes`."""
        batch.users = tuple(batch.users[index] for index in indexes)

    def replace(self, batch: OutboxBatch, parts: Sequence[OutboxBatch]) -> None:
        """Put parts of a batch in its place. Whom no part has any more, the first one holds."""
        assert parts, "a batch that has nothing left is reduced to nothing, and finished in its turn"
        kept = frozenset[str]().union(*(part.users for part in parts))
        parts[0].holds |= batch.holds - kept
        del self._by_order[batch.order]
        del self._order_of_id[batch.id]
        last: dict[str, OutboxBatch] = {}
        for part in parts:
            for user in part.holds:
                if user in last:
                    self._let_wait(part, last[user])
                last[user] = part
        if batch.waits_on:
            self._follow(batch, parts)
        for later in (self._by_order[order] for order in sorted(batch.dependents)):
            later.waits_on -= 1
            for part in {id(last[user]): last[user] for user in later.holds if user in last}.values():
                self._let_wait(later, part)
        for user, part in last.items():
            if self._last_of_user.get(user) == batch.order:
                self._last_of_user[user] = part.order
        for part in parts:
            self._by_order[part.order] = part
            self._order_of_id[part.id] = part.order
        self._by_order = dict(sorted(self._by_order.items()))

    def has_later(self, batch: OutboxBatch, user: str) -> bool:
        """Whether a later unfinished batch holds a change of a batch's user."""
        return self._last_of_user.get(user, batch.order) != batch.order

    def finish(self, batch: OutboxBatch) -> None:
        """Forget a batch; whoever waited only for it may go."""
        for user in batch.holds:
            if self._last_of_user.get(user) == batch.order:
                del self._last_of_user[user]
        for order in batch.dependents:
            self._by_order[order].waits_on -= 1
        del self._by_order[batch.order]
        del self._order_of_id[batch.id]

    def _follow(self, batch: OutboxBatch, parts: Sequence[OutboxBatch]) -> None:
        """Let the first part of each user wait for the earlier batches that the whole waited for."""
        for earlier in self:
            if batch.order in earlier.dependents:
                earlier.dependents.remove(batch.order)
                for part in parts:
                    if not earlier.holds.isdisjoint(part.holds):
                        self._let_wait(part, earlier)

    @staticmethod
    def _let_wait(later: OutboxBatch, earlier: OutboxBatch) -> None:
        if later.order not in earlier.dependents:
            earlier.dependents.add(later.order)
            later.waits_on += 1
