"""Which evaluators there are and who owns which partition; and a change of that, from its beginning to its end.

Indexes are never used again: each names one log. A change makes new evaluators, the heirs, which take everybody over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class Placement(msgspec.Struct, frozen=True):
    """`owners[p]` is the index of the evaluator that has partition p.

    `retired`: evaluators that have handed their users over, with their last transition: kept while somebody reads it.
    `next_index` is above every index that was ever given.
    """

    owners: tuple[int, ...]
    retired: dict[int, int]
    next_index: int

    @property
    def evaluators(self) -> tuple[int, ...]:
        """The evaluators that own partitions, ascending."""
        return tuple(sorted(set(self.owners)))

    def partitions_of(self, index: int) -> tuple[int, ...]:
        """Give the partitions of an evaluator."""
        return tuple(p for p, owner in enumerate(self.owners) if owner == index)


class Scaling(msgspec.Struct, frozen=True):
    """A change of placement that is under way: `owners` as they shall be.

    `ending`: some present owner may have ended, so that nothing but the end of the change is possible.
    `snapshots` (by parent) are those with which they end, None while that is not agreed on: nobody has ended then.
    `attempt` counts what was agreed on, so that evaluators know what overtook what.
    `finishing`: all have, at `clock_ms`, each with a last entry and transition (`ends`).
    """

    owners: tuple[int, ...]
    phase: Literal["taking over", "ending", "finishing"] = "taking over"
    clock_ms: int = 0
    ends: dict[int, tuple[int, int]] = {}
    counts: dict[str, int] = {}
    attempt: int = 0
    snapshots: dict[str, int] | None = None

    @property
    def heirs(self) -> tuple[int, ...]:
        """The evaluators that take over, ascending."""
        return tuple(sorted(set(self.owners)))

    def partitions_of(self, index: int) -> tuple[int, ...]:
        """Give the partitions that an heir gets."""
        return tuple(p for p, owner in enumerate(self.owners) if owner == index)


def deal_partitions(partitions: int, evaluators: int) -> tuple[int, ...]:
    """Give each partition's owner: contiguous runs, sizes at most one apart.

    `deal_partitions(64, 2)` gives the first 32 partitions to evaluator 0.
    """
    return tuple(partition * evaluators // partitions for partition in range(partitions))


def first_placement(partitions: int, evaluators: int) -> Placement:
    """Give the placement of a new data dir."""
    return Placement(deal_partitions(partitions, evaluators), {}, evaluators)


def scaled(placement: Placement, evaluators: int) -> Scaling:
    """Begin to hand all users over to so many evaluators."""
    dealt = deal_partitions(len(placement.owners), evaluators)
    return Scaling(tuple(placement.next_index + owner for owner in dealt))


def flipped(placement: Placement, scaling: Scaling) -> Placement:
    """Give the placement once the heirs have taken over."""
    ended = {index: end[1] for index, end in scaling.ends.items()}
    return Placement(scaling.owners, {**placement.retired, **ended}, max(scaling.heirs) + 1)


def without(placement: Placement, retired: int) -> Placement:
    """Give the placement once nobody reads a retired evaluator any more."""
    rest = {index: seq for index, seq in placement.retired.items() if index != retired}
    return Placement(placement.owners, rest, placement.next_index)


def sources_of(placement: Placement, scaling: Scaling, heir: int) -> Mapping[int, tuple[int, ...]]:
    """Give whose users an heir gets: each present owner of one of its partitions, with all that it owns."""
    mine = set(scaling.partitions_of(heir))
    return {
        index: placement.partitions_of(index)
        for index in placement.evaluators
        if mine & set(placement.partitions_of(index))
    }
