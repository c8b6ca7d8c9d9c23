"""The evaluator's core: hits, ticks, trait snapshots and definitions in; transitions out. Deterministic.

Only this file and its steps (`steps.py`) move an evaluator's state. It never reads a clock: time is what its inputs
say, and its own clock never goes back (semantics.md §3). The same machine runs in the cluster, in `usher replay`, in
the tests and in the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from actors.evaluator.checkpointing.state import parts_of, state_of
from actors.evaluator.compacting import compacted, worth_compacting
from actors.evaluator.difference import difference
from actors.evaluator.inputs import (
    HitColumns,
    longest_reaches,
    rows_of,
    slices,
    string_buffers,
    times_of,
    without_matches,
)
from actors.evaluator.kernels.loading import finish_loading
from actors.evaluator.kernels.users import advance_user
from actors.evaluator.layout import (
    ALIVE,
    DUE,
    FIRST_DUE,
    FIRST_MEMBER,
    FLAGS,
    FRESH,
    LAST_AT,
    NEED_ROOM,
    NEVER,
    NEVER_BEFORE,
    S_ALIVE,
    S_CLOCK,
    S_DEDUP_COUNT,
    S_INSTANT_AT,
    S_INSTANT_LEN,
    S_OUT,
    S_POSITION,
    S_TIMERS,
    S_TOUCHED,
    S_TRAITS_AT,
    S_TRAITS_LEFT,
    S_WHEEL,
    S_WORK,
)
from actors.evaluator.results import BatchResult, Transitions, table_of
from actors.evaluator.state import (
    with_dedup_room,
)
from actors.evaluator.trait_plans import MachinePlans
from cluster.checkpoints.parts import Part
from cluster.errors import CheckpointError

#: Users given their first truth by one kernel call: between calls the interpreter breathes.
_USERS_A_STEP: Final = 16_384
#: Timers that an event may leave to be fired and dealt out later: what a batch adds to a wave's share of the work, so
#: that a machine at full load never falls further behind. Not while a snapshot is taken, where a user is much work.
_TIMERS_AN_EVENT: Final = 8
#: A batch's hits as slices, and its rows.
_Read: TypeAlias = tuple[list[HitColumns], int]
#: What a checkpoint holds beside the state.
_PARTITIONS: Final = "machine.partitions"


class EvaluatorMachine(MachinePlans):
    """One evaluator's state and every rule that moves it.

    `seed` only spreads hashes (a sender cannot choose keys that collide); no result depends on it.
    """

    # --- inputs ----------------------------------------------------------------------------------

    @property
    def wave_work(self) -> int:
        """How many users the last input brought up to date beside its own."""
        return int(self._state.scalars[S_WORK])

    def handle_batch(
        self,
        hits: pa.RecordBatch,
        now_ms: int,
        end_clock_ms: int | None = None,
        wave_users: int | None = None,
    ) -> BatchResult:
        """Apply a batch (docs/architecture.md §2) received at `now_ms`; replay gives each hit's own clock in it.

        `end_clock_ms` is the clock after the batch's last row where that row has no hit. Each event's user is brought
        up to date before it, exactly. Then everybody else is to the end of the batch: at most about `wave_users` of
        them (None: all) and some more an event; while `behind` says so, later calls go on.
        """
        outcomes = np.zeros(hits.num_rows, np.uint8)
        for part, start in _with_starts(slices(hits)):
            columns = self._reader.read(part, now_ms)
            done = self._apply(columns, live=True)
            outcomes[start + columns.order] = done
        self._pass_rows(hits)
        end = max(now_ms if end_clock_ms is None else end_clock_ms, self.clock_ms)
        if wave_users is not None and self.plan is None:
            wave_users += _TIMERS_AN_EVENT * hits.num_rows
        self._advance(end, wave_users)
        return BatchResult(outcomes, self._take(), self.clock_ms)

    def tick(self, now_ms: int, wave_users: int | None = None) -> Transitions:
        """Make every change due at or before `now_ms`, of at most about `wave_users` users (None: all)."""
        self._advance(max(now_ms, self.clock_ms), wave_users)
        return self._take()

    def settle_users(self, parent: str, keys: Iterable[str], now_ms: int) -> Transitions:
        """Make every change of some users due at or before `now_ms`, whoever else waits; the clock stays.

        For look-ups while the machine is behind. `now_ms` is the clock at most.
        """
        self._cover(now_ms, now_ms)
        for key in keys:
            slot = self.slot_of(parent, key)
            if slot >= 0 and self._state.users[slot, DUE] <= now_ms:
                while advance_user(self._program_table, self._table, slot, now_ms) == NEED_ROOM:
                    self._make_room()
        return self._take()

    def apply_traits(
        self, parent: str, snapshot: pa.Table, now_ms: int, wave_users: int | None = None
    ) -> Transitions:
        """Take a snapshot whole (docs/architecture.md §5), as a difference; transitions have cause `traits`.

        Users that it changes are brought up to date first; of the others as many as `wave_users` says (`handle_batch`).
        """
        self._cover(self.settled_ms if self.user_count else now_ms, now_ms)
        if self.plan is not None and self.plan.taken:
            self._advance(max(now_ms, self.clock_ms), None)
            self._end_plan()
        self.drop_plan()
        self._state.scalars[S_CLOCK] = max(now_ms, self.clock_ms)
        self._take_snapshot(parent, snapshot, live=True)
        self._advance(self.clock_ms, wave_users)
        return self._take()

    # --- loading retained events -------------------------------------------------------------------

    def load(
        self,
        retained: Iterable[pa.RecordBatch],
        snapshots: Mapping[str, pa.Table],
        clock_ms: int,
        hits_expected: int = 0,
        ahead: Callable[[Iterator[_Read]], Iterator[_Read]] = iter,
    ) -> None:
        """Fill an empty machine silently, or go on so with one that a checkpoint filled, up to `clock_ms`.

        Afterwards membership is what it would be had it seen everything live, and no transition counts as made at this
        instant (`instants.seed_instant`). 0.5 µs an event, 0.4 µs more for one whose windows are not over at the end,
        and 1.3 µs a user. `hits_expected` lets room for their ids be made at once; `ahead` may work the reading of hits
        off on another thread.
        """
        if self.user_count:
            self._forget_derived()
        self._make_room_for_ids(hits_expected)
        for parts, rows in ahead(self._read_for_loading(retained, self.clock_ms, clock_ms)):
            for columns in parts:
                self._apply(columns, live=False)
            self._state.scalars[S_POSITION] += rows
        clock_ms = max(clock_ms, self.clock_ms)
        self._cover(clock_ms, clock_ms)
        for parent, snapshot in snapshots.items():
            if parent in self.program.parents:
                self._take_snapshot(parent, snapshot, live=False)
        self._state.scalars[S_CLOCK] = clock_ms
        self._finish_loading()

    def _read_for_loading(
        self, retained: Iterable[pa.RecordBatch], clock_ms: int, until_ms: int
    ) -> Iterator[_Read]:
        """Read batches as `load` takes them: with what still counts at `until_ms`. Looks at nothing of the state."""
        reaches = longest_reaches(self.program)
        for hits in retained:
            parts = []
            for part in slices(hits):
                columns = self._reader.read(part, 0)
                # Where whatever window it was in is over, it is a user's event, and an id, and nothing else.
                counts = times_of(columns, clock_ms) + reaches[columns.models] > until_ms
                parts.append(without_matches(columns, counts))
                clock_ms = max(clock_ms, int(columns.clocks.max()))
            yield parts, rows_of(hits)

    def _make_room_for_ids(self, hits: int) -> None:
        """Make room for so many message ids at the size that it would grow to, and no larger."""
        known = int(self._state.scalars[S_DEDUP_COUNT])
        wanted = min(known + hits, self._ids_max)
        if wanted > known:
            self._state = with_dedup_room(self._state, max(1, 2 * wanted // 3 - known))

    def know_keys(self, parent: str, keys: Sequence[str]) -> None:
        """Give keys that are not known yet a slot: users outside the universe, as good as unknown."""
        if keys:
            offsets, data = string_buffers(pa.array(keys, pa.string()))
            index = self.program.parents.index(parent)
            self._encode_keys(np.full(len(keys), index, np.int32), offsets, data)

    def _forget_derived(self) -> None:
        """Take back what `_finish_loading` works out anew: timers, membership, who is in the universe, numbers."""
        s = self._state
        rows = s.users[: self.user_count]
        rows[:, DUE] = NEVER
        rows[:, LAST_AT] = NEVER_BEFORE
        rows[:, FLAGS] &= ~ALIVE
        rows[:, int(self._arrays.shape[FIRST_MEMBER]) : int(self._arrays.shape[FIRST_DUE])] = 0
        s.wheel[:] = -1
        s.near_bits[:] = 0
        s.far_bits[:] = 0
        s.scalars[[S_TIMERS, S_ALIVE, S_INSTANT_LEN]] = 0
        s.scalars[S_INSTANT_AT] = NEVER_BEFORE

    def _finish_loading(self) -> None:
        scalars = self._state.scalars
        scalars[S_WHEEL] = self.clock_ms + 1
        self._state.touched_stamp[:] = 0
        scalars[S_TOUCHED] = 0
        users = self.user_count
        start = 0
        while start < users:
            stop = min(users, start + _USERS_A_STEP)
            start = finish_loading(self._program_table, self._table, start, stop, self.clock_ms)
            if start < stop:
                self._make_room()

    # --- checkpoints -------------------------------------------------------------------------------

    @property
    def at_rest(self) -> bool:
        """Whether a checkpoint may be taken: nothing due waits, and every transition was given."""
        return not self.behind and not self._parts and not int(self._state.scalars[S_OUT])

    def parts(self) -> dict[str, Part]:
        """Give what a checkpoint keeps, uncopied: good until the next input. The machine must be at rest."""
        return {**parts_of(self._state), _PARTITIONS: Part(self._partitions, len(self._partitions))}

    def resume(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become the machine whose parts these were: of an alike program, with this one's seed.

        Raises CheckpointError (incompatible) where the layout is another one. Takes the arrays, uncopied.
        """
        partitions = arrays.get(_PARTITIONS)
        if partitions is None or partitions.dtype != self._partitions.dtype:
            message = "The checkpoint has no partitions of its users."
            raise CheckpointError(message, reason="incompatible")
        self._state = state_of({k: v for k, v in arrays.items() if k != _PARTITIONS}, self._state)
        self._partitions = partitions
        if int(self._state.scalars[S_TRAITS_AT]) != NEVER or int(self._state.scalars[S_TRAITS_LEFT]):
            # A snapshot was being prepared. Nothing of it counts yet, and it is offered again.
            self._state.users[:, FLAGS] &= ~FRESH
            self._end_plan()

    def difference_from(self, old: EvaluatorMachine | None) -> pa.RecordBatch:
        """Give the transitions from the old machine's membership (None: nobody's) to this one's, at this one's clock.

        Continues the numbering `n` where the old one already made transitions at this instant. Removed
        audiences' exits carry their old version.
        """
        return difference(old, self)

    def compact(self) -> bool:
        """Give back the room of users who left, where they are many; True: every slot has changed.

        Nothing else does. Only where nobody holds slots: `Transitions` turned into tables, cursors aside.
        """
        if self._parts or self.plan is not None or not worth_compacting(self._state):
            return False
        self._state, kept = compacted(self._arrays, self._state, self._horizon_ms)
        self._partitions = self._partitions[kept[kept < len(self._partitions)]]
        self._finish_loading()
        return True

    # --- results -----------------------------------------------------------------------------------

    def transitions_table(self, transitions: Transitions) -> pa.RecordBatch:
        """Write transitions as Arrow (docs/architecture.md §3); about 0.1 µs each."""
        users = self.user_keys(transitions.user)
        return table_of(
            transitions,
            self.program.audiences,
            self._versions,
            users,
            self._partitions_of(transitions.user),
        )


def _with_starts(parts: list[pa.RecordBatch]) -> Iterable[tuple[pa.RecordBatch, int]]:
    start = 0
    for part in parts:
        yield part, start
        start += part.num_rows


