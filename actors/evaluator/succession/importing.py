"""An heir's way to its users: other evaluators' logs read beside their work, then followed, then their last entries.

Sources are asked as any evaluator is; what came of it is handed to the heir's own worker, which commits it together
with how far it reaches, so a crash anywhere goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import pyarrow as pa

from actors.evaluator.stimuli import Build, Finish, Inherit, Stimulus
from actors.evaluator.succession.merging import Merge
from actors.evaluator.succession.parting import Parting
from actors.evaluator.succession.tenure import Positions
from cluster.definitions.model import Published
from cluster.errors import NotReady
from cluster.limits import RETRY_AFTER_MS
from cluster.log.contract import Log
from cluster.log.records import Entry, unpack_transitions
from cluster.runtime.protocols import Evaluator, Reply

#: Bytes of entries asked for at a time; a source gives at least one entry.
ENTRIES_BYTES: Final = 4 << 20
_TRANSITIONS: Final = 65_536
#: Entries handed to the worker at a time, and those of one source that may wait for other sources'.
_STEP: Final = 512
_WAITING_MAX: Final = 4_096
#: Entries to come at which the machine is made, and at which the heir is as good as there.
_NEAR: Final = 64
#: Entries of a source that are left to the switch, and steps after which it is as near as it gets: under the highest
#: load there are always more.
_LEFT: Final = 2
_ROUNDS_MAX: Final = 400
_FOLLOW_EVERY_S: Final = 0.02
_AGAIN_S: Final = 0.1

Ask = Callable[[Stimulus], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class End:
    """Where a source's log ended: its last entry and its last transition."""

    seq: int
    transition_seq: int


@dataclass(frozen=True, slots=True)
class Legacy:
    """What an heir is told when it starts: the definitions in force, and whose users it gets, by evaluator.

    `theirs`: the partitions of each source, all of them.
    """

    published: Published
    sources: Mapping[int, Evaluator]
    theirs: Mapping[int, tuple[int, ...]]


def entries_reply(log: Log, seq: int, bytes_max: int, bound_ms: int) -> Reply:
    """Give a source's answer to `entries_after`; nothing is logged any more with a clock below `bound_ms`."""
    last_seq = log.last_seq()
    entries: list[Entry] = []
    size_bytes = 0
    for entry in log.entries(after_seq=seq):
        if entry.seq > last_seq or (entries and size_bytes + len(entry.payload) > bytes_max):
            break
        entries.append(entry)
        size_bytes += len(entry.payload)
    whole = not entries or entries[-1].seq == last_seq
    through_ms = bound_ms if whole else entries[-1].clock_ms
    return {"entries": pack_entries(entries), "through_ms": through_ms, "last_seq": last_seq}


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """Write entries for another process."""
    return msgspec.msgpack.encode(entries)


def unpack_entries(payload: bytes) -> list[Entry]:
    """Read what `pack_entries` wrote."""
    return msgspec.msgpack.decode(payload, type=list[Entry])


class Importer:
    """Brings one heir up to its sources. Whoever calls while another call is under way waits for it."""

    def __init__(
        self,
        published: Published,
        sources: Mapping[int, Evaluator],
        theirs: Mapping[int, Sequence[int]],
        own: Sequence[int],
        positions: Positions,
        ask: Ask,
    ) -> None:
        self._sources = sources
        self._version = published.version
        self._partings = {source: Parting(published, theirs[source], own) for source in sources}
        #: Definitions are alike in all logs: one has them for all.
        self._first = min(sources)
        self._ask = ask
        self._merge = Merge(list(sources))
        #: The entry up to which each source was read, and up to which it was handed on.
        self._read = {source: positions.entries.get(source, 0) for source in sources}
        self._taken = dict(self._read)
        self._transitions = {source: positions.transitions.get(source, 0) for source in sources}
        self._last = dict.fromkeys(sources, 0)
        #: What the worker has not taken yet: it is out of the merge already.
        self._unsent: Inherit | None = None
        self._following: asyncio.Task[None] | None = None
        self._built = False
        #: A caller that heard nothing asks again, while what it asked for before still goes on.
        self._alone = asyncio.Lock()
        #: Why the sources could not be followed lately, empty while they can.
        self.failure = ""

    def percent(self) -> int:
        """Give how much of the sources' logs is taken; 100 only once they are followed."""
        if self._following is not None:
            return 100
        whole = sum(self._last.values())
        return min(99, 100 * sum(self._taken.values()) // whole) if whole else 0

    async def come_near(self) -> None:
        """Take what there is, make the machine, go on until little is missing, and follow from then on.

        Raises NotReady where a source does not answer; call it again then.
        """
        async with self._alone:
            if self._following is not None:
                return
            await self._catch_up()
            while not await self._build():
                await self._go_on({})
            await self._catch_up()
            for _ in range(_ROUNDS_MAX):
                if self._left() <= _LEFT * len(self._sources):
                    break
                await self._go_on({})
            self._following = asyncio.create_task(self._follow(), name="succession")

    async def finish(self, ends: Mapping[int, End], clock_ms: int, counts: Mapping[str, int]) -> None:
        """Take the sources' last entries; from `clock_ms` on the heir works for its users. Idempotent."""
        async with self._alone:
            await self.stop()
            while not self._at(ends):
                await self._go_on(ends)
            await self._build()
            await self._checked(self._ask(Finish(clock_ms, dict(counts))))

    async def stop(self) -> None:
        """Follow no longer, after the step at hand: what the worker has taken must be known here."""
        following, self._following = self._following, None
        if following is not None:
            await following

    # --- inside ----------------------------------------------------------------------------------

    async def _build(self) -> bool:
        """Have the machine made; false before the definitions that it shall have are taken."""
        if not self._built:
            reply = await self._checked(self._ask(Build(self._version)))
            self._built = bool(reply["built"])
        return self._built

    def _at(self, ends: Mapping[int, End]) -> bool:
        return all(
            self._taken[source] >= end.seq and self._transitions[source] >= end.transition_seq
            for source, end in ends.items()
        )

    async def _catch_up(self) -> None:
        """Go on until few entries and transitions are left; under load there are always some."""
        while True:
            before = sum(self._transitions.values())
            await self._go_on({})
            moved = sum(self._transitions.values()) - before
            if self._left() <= _NEAR * len(self._sources) and moved < _TRANSITIONS:
                return

    def _left(self) -> int:
        return sum(self._last.values()) - sum(self._taken.values())

    async def _go_on(self, ends: Mapping[int, End]) -> None:
        """Take a step. Where none is possible yet (a source's clock was set back, say), leave the sources in peace."""
        if not await self._step(ends):
            await asyncio.sleep(_FOLLOW_EVERY_S)

    async def _follow(self) -> None:
        while self._following is not None:
            try:
                moved = await self._step({})
                self.failure = ""
            except NotReady as error:
                # A source that restarts: the switch waits for it anyway.
                self.failure = str(error)
                moved = False
                await asyncio.sleep(_AGAIN_S)
            if not moved:
                await asyncio.sleep(_FOLLOW_EVERY_S)

    async def _step(self, ends: Mapping[int, End]) -> bool:
        """Read some of each source, hand on what is in order; false where there was nothing."""
        if self._unsent is None:
            # Each to its end: one that went on after another had failed would read beside the next step.
            reads = (self._read_entries(source, ends.get(source)) for source in self._sources)
            for failure in await asyncio.gather(*reads, return_exceptions=True):
                if failure is not None:
                    raise failure
            tables, transitions = await self._read_transitions()
            taken = self._merge.take(_STEP)
            if not taken and transitions == self._transitions:
                return False
            entries = await asyncio.to_thread(self._parted, taken)
            entries_at = {**self._taken, **{source: entry.seq for source, entry in taken}}
            self._unsent = Inherit(tuple(entries), tuple(tables), Positions(entries_at, transitions))
        await self._checked(self._ask(self._unsent))
        positions, self._unsent = self._unsent.positions, None
        self._taken, self._transitions = positions.entries, positions.transitions
        return True

    async def _read_entries(self, source: int, end: End | None) -> None:
        if end is not None and self._read[source] >= end.seq:
            self._merge.end(source)
            return
        if self._merge.waiting(source) > _WAITING_MAX:
            return
        reply = await self._checked(self._sources[source].entries_after(self._read[source], ENTRIES_BYTES))
        entries = unpack_entries(reply["entries"])
        self._last[source] = int(reply["last_seq"])
        if entries:
            self._read[source] = entries[-1].seq
        elif self._read[source] < self._last[source]:
            # What there was is not retained any more.
            self._read[source] = self._last[source]
            self._taken = {**self._taken, source: self._last[source]}
        self._merge.add(source, entries, int(reply["through_ms"]))
        if end is not None and self._read[source] >= end.seq:
            self._merge.end(source)

    async def _read_transitions(self) -> tuple[list[pa.RecordBatch], dict[int, int]]:
        tables: list[pa.RecordBatch] = []
        reached = dict(self._transitions)
        for source, evaluator in self._sources.items():
            call = evaluator.transitions_after(reached[source], _TRANSITIONS, 0, None)
            reply = await self._checked(call)
            reached[source] = max(reached[source], int(reply["next_seq"]))
            if reply["transitions"]:
                own = self._partings[source].transitions(unpack_transitions(reply["transitions"]))
                tables += [own] if own.num_rows else []
        return tables, reached

    def _parted(self, taken: Sequence[tuple[int, Entry]]) -> list[Entry]:
        entries: list[Entry] = []
        for source, entry in taken:
            own: Entry | None = None
            if entry.kind == "batch":
                own = self._partings[source].batch(entry)
            elif entry.kind == "traits" or (entry.kind == "definitions" and source == self._first):
                own = entry
            if own is not None:
                entries.append(replace(own, seq=0))
        return entries

    async def _checked(self, call: Awaitable[Any]) -> Reply:
        reply: Reply = await call
        if "error" in reply:
            raise NotReady(str(reply.get("message", reply["error"])), retry_after_ms=RETRY_AFTER_MS)
        return reply
