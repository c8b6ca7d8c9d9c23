"""The evaluator's core: hits, ticks, trait snapshots and definitions in; transitions out. Deterministic.

Only this file moves an evaluator's state. It never reads a clock: time is what its inputs say, and its own clock
never goes back (semantics.md §3). The same machine runs in the cluster, in `usher replay`, in the tests and in the
benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from actors.evaluator.calendars import Calendars
from actors.evaluator.checkpointing.state import parts_of, state_of
from actors.evaluator.compacting import compacted, worth_compacting
from actors.evaluator.compiling import compile_program
from actors.evaluator.difference import difference
from actors.evaluator.inputs import (
    HitColumns,
    HitReader,
    longest_reaches,
    slices,
    string_buffers,
    times_of,
    without_matches,
)
from actors.evaluator.kernels.dedup import hash_messages
from actors.evaluator.kernels.events import apply_hits
from actors.evaluator.kernels.hashing import encode_keys
from actors.evaluator.kernels.loading import apply_snapshot, finish_loading, retire_missing
from actors.evaluator.kernels.tables import BatchKeysTable, HitTable, ProgramTable
from actors.evaluator.kernels.users import advance_user, fire
from actors.evaluator.layout import (
    ALIVE,
    DUE,
    FIRST_MEMBER,
    FIRST_PAGE,
    FLAGS,
    I32,
    LAST_AT,
    MISSING,
    NEED_ROOM,
    NEVER,
    NEVER_BEFORE,
    S_ALIVE,
    S_CLOCK,
    S_DEDUP_COUNT,
    S_INSTANT_AT,
    S_INSTANT_LEN,
    S_NEED,
    S_OUT,
    S_POSITION,
    S_TIMERS,
    S_TOUCHED,
    S_WHEEL,
    S_WORK,
    U64,
    BatchKeys,
)
from actors.evaluator.results import BatchResult, Transitions, joined, table_of
from actors.evaluator.state import (
    with_arena_room,
    with_boundaries,
    with_dedup_room,
    with_instant_room,
    with_user_room,
)
from actors.evaluator.traits import trait_times, trait_words, whole
from actors.evaluator.view import MachineView
from cluster.checkpoints.parts import Part
from cluster.definitions.model import Published
from cluster.errors import CheckpointError

#: New users that room is made for at once.
_NEW_USERS: Final = 4_096

#: Users given their first truth by one kernel call: between calls the interpreter breathes.
_USERS_A_STEP: Final = 16_384
#: Timers that an event may leave to be fired and dealt out later: what a batch adds to a wave's share of the work, so
#: that a machine at full load never falls further behind.
_TIMERS_AN_EVENT: Final = 8
#: As many users as there may be.
_ALL: Final = 2**62
#: A batch's hits as slices, and its rows.
_Read: TypeAlias = tuple[list[HitColumns], int]
#: What a checkpoint holds beside the state.
_PARTITIONS: Final = "machine.partitions"


class EvaluatorMachine(MachineView):
    """One evaluator's state and every rule that moves it.

    `seed` only spreads hashes (a sender cannot choose keys that collide); no result depends on it.
    """

    def __init__(self, published: Published, *, clock_ms: int = 0, seed: int = 0) -> None:
        super().__init__(compile_program(published), seed)
        self._reader = HitReader(self.program)
        self._calendars = Calendars(self.program.calendars)
        self._versions = np.array(self.program.audience_versions, np.int32)
        self._program_table = ProgramTable(self._arrays)
        self._parts: list[Transitions] = []
        self._ids_max = published.definitions.settings.dedup_ids_max
        self._state.scalars[S_CLOCK] = clock_ms
        self._state.scalars[S_WHEEL] = clock_ms + 1 if clock_ms else 0

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
        self._advance(end, None if wave_users is None else wave_users + _TIMERS_AN_EVENT * hits.num_rows)
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
            yield parts, _rows(hits)

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
        rows[:, int(self._arrays.shape[FIRST_MEMBER]) : int(self._arrays.shape[FIRST_PAGE])] = 0
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
        if self._parts or not worth_compacting(self._state):
            return False
        self._state, kept = compacted(self._arrays, self._state, self._horizon_ms)
        self._partitions = self._partitions[kept[kept < len(self._partitions)]]
        self._finish_loading()
        return True

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
        self._state.scalars[S_POSITION] += _rows(hits)

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
        offsets, data = string_buffers(keys)
        slots, _ = self._encode_keys(np.full(rows, index, np.int32), offsets, data)
        words, times = trait_words(self.program, index, snapshot), trait_times(self.program, index, snapshot)
        done = 0
        while done < rows:
            done = apply_snapshot(
                self._program_table, self._table, index, slots, words, times, done, self.clock_ms, live
            )
            if done < rows:
                self._make_room()
        at = 0
        missing = np.full(times.shape[1], MISSING, np.int64)
        while at < self.user_count:
            at = retire_missing(self._program_table, self._table, index, missing, at, self.clock_ms, live)
            if at < self.user_count:
                self._make_room()

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

    # --- results -----------------------------------------------------------------------------------

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
        result = joined(self._parts)
        self._parts = []
        return result

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


def _rows(hits: pa.RecordBatch) -> int:
    """Give the rows of a batch up to the last one that has a hit."""
    return int(hits.column("row")[-1].as_py()) + 1 if hits.num_rows else 0


def _with_starts(parts: list[pa.RecordBatch]) -> Iterable[tuple[pa.RecordBatch, int]]:
    start = 0
    for part in parts:
        yield part, start
        start += part.num_rows


