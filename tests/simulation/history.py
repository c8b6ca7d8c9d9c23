"""What an evaluator's log durably holds, as it came to hold it: the truth that everything else is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from actors.evaluator.succession.tenure import INHERITED, RETIRED, Inherited
from cluster.log.contract import Log
from cluster.log.records import NO_META, Entry, TransitionBlock
from cluster.model.partitions import partition_of
from tests.simulation.workload import PARTITIONS


class History:
    """One evaluator's entries and transitions, trimmed or not, with the (virtual) times at which they were committed.

    Transitions also have a time at which whoever asked was bound to see them: when the commit's result was shown, or a
    recovery after it.
    """

    def __init__(self, *, is_first: bool) -> None:
        #: Whether it is the log of an evaluator that takes nobody over.
        self.is_first = is_first
        self.entries: list[Entry] = []
        self.entries_s: list[float] = []
        self.blocks: list[TransitionBlock] = []
        self.committed_s: list[float] = []
        self.shown_s: list[float | None] = []
        #: The newest value of each name.
        self.meta: dict[str, bytes] = {}
        #: What no log may do, as found while it was written and read.
        self.faults: list[str] = []

    def commit(
        self, entries: Sequence[Entry], blocks: Sequence[TransitionBlock], now_s: float,
        meta: Mapping[str, bytes] = NO_META,
    ) -> None:  # fmt: skip
        """Note a commit that the log says it made."""
        self.meta |= meta
        for entry in entries:
            before = self.entries[-1] if self.entries else None
            if entry.seq != len(self.entries) + 1:
                self.faults.append(f"entry {entry.seq} was committed after entry {len(self.entries)}")
            if before is not None and entry.clock_ms < before.clock_ms:
                self.faults.append(f"the clock went back from {before.clock_ms} to {entry.clock_ms} at {entry.seq}")
            self.entries.append(entry)
            self.entries_s.append(now_s)
        for block in blocks:
            if block.first_seq != self.last_transition_seq + 1:
                self.faults.append(f"transition {block.first_seq} was committed after {self.last_transition_seq}")
            self.blocks.append(block)
            self.committed_s.append(now_s)
            self.shown_s.append(None)

    def show(self, now_s: float) -> None:
        """Note that what is committed by now is what everybody sees."""
        for place in range(len(self.shown_s) - 1, -1, -1):
            if self.shown_s[place] is not None:
                return
            self.shown_s[place] = now_s

    def reopen(self, log: Log, now_s: float) -> int:
        """Compare with a log that was opened (anew) and take over what it has; gives how many entries it lost.

        It may have lost what was never acknowledged: whether it was is not for here to say.
        """
        kept = {entry.seq: entry for entry in log.entries()}
        for entry in self.entries[: log.last_seq()]:
            if kept.get(entry.seq, entry) != entry:
                self.faults.append(f"entry {entry.seq} is another one after it was opened again")
        lost = max(0, len(self.entries) - log.last_seq())
        del self.entries[log.last_seq() :], self.entries_s[log.last_seq() :]
        while self.blocks and self.blocks[-1].last_seq > log.last_transition_seq():
            for of_blocks in (self.blocks, self.committed_s, self.shown_s):
                of_blocks.pop()  # type: ignore[attr-defined]
        new = [kept[seq] for seq in range(len(self.entries) + 1, log.last_seq() + 1)]
        self.commit(new, log.transitions_after(self.last_transition_seq, 1_000_000), now_s)
        self.meta = {name: value for name in (RETIRED, INHERITED) if (value := log.meta(name)) is not None}
        return lost

    @property
    def from_ms(self) -> int:
        """The clock up to which others made what is in it; 0 where nobody did."""
        inherited = self.meta.get(INHERITED)
        return msgspec.json.decode(inherited, type=Inherited).clock_ms if inherited is not None else 0

    @property
    def until_ms(self) -> int | None:
        """The clock after which others make what is due; None where nobody does."""
        retired = self.meta.get(RETIRED)
        return int(retired) if retired is not None else None

    @property
    def last_transition_seq(self) -> int:
        """The newest transition's number."""
        return self.blocks[-1].last_seq if self.blocks else 0

    def transitions(self) -> list[dict[str, Any]]:
        """Give every transition with its number `seq`, and when it was `committed_s` and `shown_s`."""
        found = []
        for block, committed_s, shown_s in zip(self.blocks, self.committed_s, self.shown_s, strict=True):
            for place, row in enumerate(block.rows().to_pylist()):
                row |= {"seq": block.first_seq + place, "committed_s": committed_s, "shown_s": shown_s}
                found.append(row)
        return found


@dataclass(frozen=True, slots=True)
class Tenure:
    """What an evaluator logged, and whose it was: of these partitions, what was made after `from_ms`."""

    index: int
    history: History
    partitions: frozenset[int]

    @property
    def began(self) -> bool:
        """Whether it ever worked: an heir does once it has taken over."""
        return self.history.is_first or self.history.from_ms > 0


class Truth:
    """All histories of a run, read once at its end. `owners` are those of the partitions then."""

    def __init__(self, tenures: Sequence[Tenure], owners: Sequence[int]) -> None:
        self.tenures = tenures
        self.owners = owners

    @property
    def histories(self) -> Mapping[int, History]:
        """By evaluator."""
        return {tenure.index: tenure.history for tenure in self.tenures}

    def owner_of(self, user: str) -> int:
        """Give the evaluator that had a user at last: in its log is all that was logged of them."""
        return self.owners[partition_of(user, PARTITIONS)]

    def first_owner_of(self, user: str) -> int:
        """Give the evaluator that had a user first."""
        return next(each.index for each in self.tenures if partition_of(user, PARTITIONS) in each.partitions)

    @cached_property
    def transitions(self) -> dict[int, list[dict[str, Any]]]:
        """Each evaluator's transitions, those included that others made before."""
        return {tenure.index: tenure.history.transitions() for tenure in self.tenures}

    def own(self, tenure: Tenure) -> list[dict[str, Any]]:
        """Give the transitions that an evaluator made itself."""
        return [each for each in self.transitions[tenure.index] if each["at"] > tenure.history.from_ms]

    @cached_property
    def by_pair(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Transitions of each (user, audience) as they were made, by one evaluator after the other."""
        pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for tenure in self.tenures:
            for each in self.own(tenure) if tenure.began else ():
                pairs.setdefault((each["user_id"], each["audience_id"]), []).append(each)
        return pairs
