"""Which process of an evaluator is in office, and when another takes its place: without clock or store.

Ray starts a killed process again, and says nothing of one that is stopped, hangs, or is on a node that nobody reaches.
Such a one is silent: its lease does not change. Then the evaluator gets another process under a name of its own, which
takes the lease under a higher epoch; whatever the one before still does counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.leases.machine import Lease, Watch


@dataclass(slots=True)
class Successions:
    """`terms`: how often an evaluator was replaced in this run, by index. `grace_ms`: beyond a lapsed lease."""

    grace_ms: int
    terms: dict[int, int] = field(default_factory=dict)
    _watches: dict[int, Watch] = field(default_factory=dict)
    #: The owner that was replaced last: it is not replaced again.
    _replaced: dict[int, str] = field(default_factory=dict)

    def term(self, index: int) -> int:
        """Give how often it was replaced: the number in its process's name."""
        return self.terms.get(index, 0)

    def looked(self, index: int, record: Lease | None, now_ms: float) -> bool:
        """Take an evaluator's lease as it was found; true where another process is to take its place from now on.

        Nobody is silent who has let go, nor who has not begun: a process that starts is waited for.
        """
        watch = self._watches.setdefault(index, Watch())
        watch.see(record, now_ms)
        if record is None or record.released or record.nonce == self._replaced.get(index):
            return False
        if watch.unchanged_ms(now_ms) < record.term_ms + self.grace_ms:
            return False
        self._replaced[index] = record.nonce
        self.terms[index] = self.term(index) + 1
        return True

    def forget(self, index: int) -> None:
        """An evaluator that is no more."""
        for each in (self.terms, self._watches, self._replaced):
            each.pop(index, None)
