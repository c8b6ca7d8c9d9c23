"""Changes that are in no batch yet, and the cursors that taking them allows.

Two ways of keeping them. In order: every change, taken from the front. Net: one per user, where a second change of
a user undoes the first (kinds alternate, so an even number comes to nothing; what only repeats membership undoes
nothing, and is not undone: see `changes.instead`), taken all at once. A cursor may only
pass what was taken or needs no sending: in order that is a prefix, and net taking everything keeps it one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

from actors.delivery.changes import REPEATS, Change, Cursors, instead


class Pending:
    """What a sync has read and not put into a batch. O(1) a change in and out."""

    def __init__(self, *, net: bool) -> None:
        self._net = net
        self._queue: deque[Change] = deque()
        self._by_user: dict[str, Change] = {}
        #: How far each evaluator was read.
        self._positions: dict[int, int] = {}
        #: In order only: how far each evaluator's changes were taken, and how many of its are left.
        self._taken: dict[int, int] = {}
        self._left: Counter[int] = Counter()
        self._since_ms = 0

    def __len__(self) -> int:
        return len(self._by_user) if self._net else len(self._queue)

    def __iter__(self) -> Iterator[Change]:
        return iter(self._by_user.values() if self._net else self._queue)

    @property
    def net(self) -> bool:
        """Whether changes are kept net."""
        return self._net

    @property
    def since_ms(self) -> int:
        """When the first of the changes now pending came; means nothing when there is none."""
        return self._since_ms

    def open(self, evaluator: int, cursor: int) -> None:
        """Start an evaluator's log after `cursor`."""
        self._positions[evaluator] = cursor
        self._taken[evaluator] = cursor

    def add(self, evaluator: int, changes: Iterable[Change], position: int, now_ms: int) -> None:
        """Take in what was read of one evaluator up to `position`."""
        if not len(self):
            self._since_ms = now_ms
        self._positions[evaluator] = max(position, self._positions.get(evaluator, position))
        if self._net:
            self._fold(changes)
            return
        before = len(self._queue)
        self._queue.extend(changes)
        self._left[evaluator] += len(self._queue) - before

    def go_net(self) -> None:
        """Keep changes net from now on, those already here included."""
        if not self._net:
            self._net = True
            self._fold(self._queue)
            self._queue.clear()
            self._left.clear()

    def go_in_order(self) -> None:
        """Keep every change from now on. Only with nothing pending: net changes cannot be unfolded."""
        assert not self._by_user, "net changes are pending"
        self._net = False
        self._taken = dict(self._positions)

    def take(self, limit: int, now_ms: int) -> list[Change]:
        """Take the oldest `limit` changes in order, or everything net."""
        if self._net:
            taken = list(self._by_user.values())
            self._by_user.clear()
            return taken
        pop = self._queue.popleft
        taken = [pop() for _ in range(min(limit, len(self._queue)))]
        self._taken.update({change.evaluator: change.seq for change in taken})
        for evaluator, count in Counter(change.evaluator for change in taken).items():
            self._left[evaluator] -= count
        self._since_ms = now_ms
        return taken

    def cursors(self) -> Cursors:
        """Give the cursors that hold once everything taken so far is durable."""
        if self._net:
            # What is pending net may stand for any earlier change: only emptiness lets a cursor move.
            return {} if self._by_user else dict(self._positions)
        return {
            evaluator: self._taken.get(evaluator, position) if self._left[evaluator] else position
            for evaluator, position in self._positions.items()
        }

    def _fold(self, changes: Iterable[Change]) -> None:
        by_user = self._by_user
        for change in changes:
            waiting = by_user.get(change.user_id)
            if waiting is None:
                by_user[change.user_id] = change
            elif change.cause in REPEATS:
                continue  # what waits tells at least as much, with what identifies the user then
            else:
                del by_user[change.user_id]
                left = instead(change, waiting.cause)
                if left is not None:
                    by_user[change.user_id] = left


def cut(changes: Sequence[Change], size: int) -> list[Sequence[Change]]:
    """Cut into batches of at most `size`, none empty."""
    return [changes[start : start + size] for start in range(0, len(changes), size)]
