"""What every input comes down to: keys given slots, slices applied, snapshots taken, time advanced, room made.

The steps of `machine.py`, which says when each is done.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from actors.evaluator.calendars import Calendars
from actors.evaluator.compiling import compile_program
from actors.evaluator.inputs import (
    HitColumns,
    HitReader,
    rows_of,
    string_buffers,
)
from actors.evaluator.kernels.dedup import hash_messages
from actors.evaluator.kernels.events import apply_hits
from actors.evaluator.kernels.hashing import encode_keys
from actors.evaluator.kernels.loading import apply_snapshot, retire_missing
from actors.evaluator.kernels.tables import BatchKeysTable, HitTable, ProgramTable
from actors.evaluator.kernels.users import fire
from actors.evaluator.layout import (
    I32,
    NEED_ROOM,
    NEVER,
    S_CLOCK,
    S_NEED,
    S_OUT,
    S_POSITION,
    S_TRAITS_AT,
    S_TRAITS_LEFT,
    S_TRAITS_ON,
    S_WHEEL,
    S_WORK,
    U64,
    BatchKeys,
)
from actors.evaluator.results import Transitions, joined
from actors.evaluator.state import (
    with_arena_room,
    with_boundaries,
    with_dedup_room,
    with_instant_room,
    with_user_room,
    without_fresh_rows,
)
from actors.evaluator.trait_rows import TraitPlan
from actors.evaluator.traits import trait_times, trait_words, whole
from actors.evaluator.view import MachineView
from cluster.definitions.model import Published

#: New users that room is made for at once.
_NEW_USERS: Final = 4_096
#: As many users as there may be.
_ALL: Final = 2**62


class MachineSteps(MachineView):
    """An evaluator's arrays with the steps that change them."""

    def __init__(self, published: Published, *, clock_ms: int = 0, seed: int = 0) -> None:
        super().__init__(compile_program(published), seed)
        self._reader = HitReader(self.program)
        self._calendars = Calendars(self.program.calendars)
        self._versions = np.array(self.program.audience_versions, np.int32)
        self._program_table = ProgramTable(self._arrays)
        self._parts: list[Transitions] = []
        #: The snapshot that is prepared, or taken and not everybody's yet.
        self.plan: TraitPlan | None = None
        self._ids_max = published.definitions.settings.dedup_ids_max
        self._state.scalars[S_CLOCK] = clock_ms
        self._state.scalars[S_WHEEL] = clock_ms + 1 if clock_ms else 0

    def _apply(self, columns: HitColumns, *, live: bool) -> np.ndarray:
        """Apply one slice and give its outcomes, in the order of `columns`."""
        count = len(columns)
        slots, key_hashes = self._encode(columns)
        first, second = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        hash_messages(
            columns.message_offsets,
            columns.message_data,
            columns.message_valid,
            columns.sources,
            key_hashes,
            self._seed,
            first,
            second,
        )
        self._state = with_dedup_room(self._state, count)
        self._cover(int(columns.clocks.min()), max(self.clock_ms, int(columns.clocks.max())))
        outcomes = np.zeros(count, np.uint8)
        hits = HitTable(columns.arrays(slots, first, second, outcomes))
        done = 0
        while done < count:
            done = apply_hits(
                self._program_table, self._table, hits, done, self._horizon_ms, self._ids_max, live
            )
            if done < count:
                # Much is to come: each step moves the whole arena.
                self._make_room(0 if live else len(self._state.arena))
        return outcomes

    def _pass_rows(self, hits: pa.RecordBatch) -> None:
        """Count the rows of a batch that is done: the next one's lie behind them in the log."""
        self._state.scalars[S_POSITION] += rows_of(hits)

    def _cover(self, from_ms: int, until_ms: int) -> None:
        """See that the calendars reach from what may still count at `from_ms` to what begins after `until_ms`."""
        found = self._calendars.cover(from_ms - self.program.retention_ms, until_ms)
        if found is not None:
            self._state = with_boundaries(self._state, *found)

    def _encode(self, columns: HitColumns) -> tuple[I32, U64]:
        """Give each hit's user slot, making users, and the hash of its key."""
        parents = self._arrays.model_parent[columns.models]
        return self._encode_keys(parents, columns.key_offsets, columns.key_data)

    def _encode_keys(self, parents: I32, offsets: I32, data: np.ndarray) -> tuple[I32, U64]:
        count = len(parents)
        slots, hashes = np.zeros(count, np.int32), np.zeros(count, np.uint64)
        keys = BatchKeysTable(BatchKeys(parents, offsets, data, slots, hashes))
        done = 0
        while True:
            done = encode_keys(self._program_table, self._table, keys, self._seed, done)
            if done == count:
                return slots, hashes
            # Most keys are known: room for many new users would mostly be for nobody.
            step = min(_NEW_USERS, count - done)
            self._state = with_user_room(self._state, step, int(offsets[done + step] - offsets[done]))

    def _take_snapshot(self, parent: str, snapshot: pa.Table, *, live: bool) -> None:
        index = self.program.parents.index(parent)
        keys = whole(snapshot.column("key"))
        rows = len(keys)
        slots, _ = self._encode_keys(np.full(rows, index, np.int32), *string_buffers(keys))
        words, times = trait_words(self.program, index, snapshot), trait_times(self.program, index, snapshot)
        done = 0
        while done < rows:
            done = apply_snapshot(
                self._program_table, self._table, index, slots, words, times, done, self.clock_ms, live
            )
            if done < rows:
                self._make_room()
        at = 0
        while at < self.user_count:
            at = retire_missing(self._program_table, self._table, index, at, self.clock_ms, live)
            if at < self.user_count:
                self._make_room()

    def _end_plan(self) -> None:
        """Give back the rows of a snapshot that everybody has, or nobody is to have."""
        self.plan = None
        scalars = self._state.scalars
        scalars[S_TRAITS_AT], scalars[S_TRAITS_ON], scalars[S_TRAITS_LEFT] = NEVER, 0, 0
        self._state = without_fresh_rows(self._state)

    def _advance(self, until_ms: int, wave_users: int | None) -> None:
        self._cover(self.settled_ms if self.user_count else until_ms, until_ms)
        scalars = self._state.scalars
        scalars[S_WORK] = 0
        most = _ALL if wave_users is None else wave_users
        while fire(self._program_table, self._table, until_ms, max(1, most)) == NEED_ROOM:
            self._make_room()
        scalars[S_CLOCK] = max(until_ms, self.clock_ms)

    def _make_room(self, spare_words: int = 0) -> None:
        """Give a kernel what it stopped for: words of the arena (and some to spare), else room for transitions."""
        words = int(self._state.scalars[S_NEED])
        if words:
            self._state = with_arena_room(self._state, max(words, spare_words))
        else:
            self._flush()

    def _flush(self) -> None:
        """Move the output columns aside, and give the instant buffers more room if they were the ones full."""
        s = self._state
        count = int(s.scalars[S_OUT])
        most = len(self.program.audiences) + 1
        self._state = s = with_instant_room(s, most)
        if count:
            self._parts.append(
                Transitions(
                    s.out_user[:count].copy(),
                    s.out_audience[:count].copy(),
                    s.out_at[:count].copy(),
                    s.out_n[:count].copy(),
                    s.out_kind[:count].copy(),
                    s.out_cause[:count].copy(),
                )
            )
            s.scalars[S_OUT] = 0

    def _take(self) -> Transitions:
        self._flush()
        if self._state.scalars[S_TRAITS_ON] and not self._state.scalars[S_TRAITS_LEFT]:
            self._end_plan()
        result = joined(self._parts)
        self._parts = []
        return result
