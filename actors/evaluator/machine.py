"""The evaluator's core: hits, ticks, trait snapshots and definitions in; transitions out. Deterministic.

Only this file moves an evaluator's state. It never reads a clock: time is what its inputs say, and its own clock
never goes back (semantics.md §3). The same machine runs in the cluster, in `usher replay`, in the tests and in the
benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pyarrow as pa

from actors.evaluator.compacting import compacted, worth_compacting
from actors.evaluator.compiling import compile_program
from actors.evaluator.difference import difference
from actors.evaluator.filters import evaluate_test
from actors.evaluator.inputs import HitColumns, read_hits, slices, string_buffers
from actors.evaluator.kernels.blocks import advance
from actors.evaluator.kernels.dedup import hash_messages
from actors.evaluator.kernels.events import apply_hits, words_needed
from actors.evaluator.kernels.hashing import encode_keys, find_keys, find_user, gather_keys, hash_bytes
from actors.evaluator.kernels.loading import apply_snapshot, finish_loading, retire_missing
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.kernels.wheel import earliest
from actors.evaluator.layout import (
    DUE,
    I32,
    NEED_ROOM,
    S_ALIVE,
    S_BLOCKS,
    S_CLOCK,
    S_DEDUP_COUNT,
    S_DEDUP_EVICTED,
    S_DEDUP_HORIZON_FROM,
    S_NODES,
    S_OUT,
    S_TOUCHED,
    S_USERS,
    S_WHEEL,
    U64,
    StateArrays,
)
from actors.evaluator.program import Program, TraitLeaf
from actors.evaluator.results import BatchResult, Transitions, joined, table_of
from actors.evaluator.state import (
    new_state,
    state_bytes,
    with_block_room,
    with_dedup_room,
    with_instant_room,
    with_timer_room,
    with_user_room,
)
from cluster.definitions.model import Published
from cluster.model.partitions import partitions_of

#: Keys of a snapshot that get their slots at once.
_KEYS_A_STEP: Final = 65_536

#: How a snapshot holds a trait of each declared type (docs/architecture.md §5).
_ARROW_TYPES = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.int64(),
    "string": pa.string(),
    "list": pa.list_(pa.string()),
}


class EvaluatorMachine:
    """One evaluator's state and every rule that moves it.

    `seed` only spreads hashes (a sender cannot choose keys that collide); no result depends on it.
    """

    def __init__(self, published: Published, *, clock_ms: int = 0, seed: int = 0) -> None:
        self.program: Program = compile_program(published)
        self._arrays = self.program.arrays
        self._filters = self.program.model_rings
        self._versions = np.array(self.program.audience_versions, np.int32)
        self._seed = np.uint64(seed & (2**64 - 1))
        self._program_table = ProgramTable(self._arrays)
        self._current = new_state(self._arrays)
        self._table = StateTable(self._current)
        self._parts: list[Transitions] = []
        #: partition of each user slot, computed once per new user
        self._partitions = np.zeros(0, np.int16)
        settings = published.definitions.settings
        self._horizon_ms = settings.dedup_horizon_ms
        self._ids_max = settings.dedup_ids_max
        self._partition_count = settings.partitions
        self._state.scalars[S_CLOCK] = clock_ms
        self._state.scalars[S_WHEEL] = clock_ms + 1 if clock_ms else 0

    @property
    def _state(self) -> StateArrays:
        return self._current

    @_state.setter
    def _state(self, arrays: StateArrays) -> None:
        """Take arrays (some were given more room) and their addresses."""
        if arrays is not self._current:
            self._current = arrays
            self._table = StateTable(arrays)

    # --- inputs ----------------------------------------------------------------------------------

    @property
    def clock_ms(self) -> int:
        """The clock: the largest time that an input has had."""
        return int(self._state.scalars[S_CLOCK])

    def handle_batch(self, hits: pa.RecordBatch, now_ms: int, end_clock_ms: int | None = None) -> BatchResult:
        """Apply a batch (docs/architecture.md §2) received at `now_ms`; replay gives each hit's own clock in it.

        `end_clock_ms` is the clock after the batch's last row where that row has no hit. All changes due up
        to the end are made, before and after.
        """
        outcomes = np.zeros(hits.num_rows, np.uint8)
        for part, start in _with_starts(slices(hits)):
            columns = read_hits(part, self.program, self._filters, now_ms)
            done = self._apply(columns, live=True)
            outcomes[start + columns.order] = done
        end = max(now_ms if end_clock_ms is None else end_clock_ms, self.clock_ms)
        self._advance(end)
        return BatchResult(outcomes, self._take(), self.clock_ms)

    def tick(self, now_ms: int) -> Transitions:
        """Make every change due at or before `now_ms`."""
        self._advance(max(now_ms, self.clock_ms))
        return self._take()

    def apply_traits(self, parent: str, snapshot: pa.Table, now_ms: int) -> Transitions:
        """Take a snapshot whole (docs/architecture.md §5), as a difference; transitions have cause `traits`."""
        self._advance(max(now_ms, self.clock_ms))
        self._take_snapshot(parent, snapshot, live=True)
        return self._take()

    # --- loading retained events -------------------------------------------------------------------

    def load(
        self, retained: Iterable[pa.RecordBatch], snapshots: dict[str, pa.Table], clock_ms: int
    ) -> None:
        """Fill an empty machine silently: afterwards membership is what it would be had it seen everything live."""
        for hits in retained:
            for part in slices(hits):
                self._apply(read_hits(part, self.program, self._filters, 0), live=False)
        for parent, snapshot in snapshots.items():
            if parent in self.program.parents:
                self._take_snapshot(parent, snapshot, live=False)
        scalars = self._state.scalars
        scalars[S_CLOCK] = max(clock_ms, self.clock_ms)
        scalars[S_WHEEL] = self.clock_ms + 1
        users = int(scalars[S_USERS])
        self._state = with_timer_room(self._state, users + int(scalars[S_BLOCKS]) + 1)
        self._state.touched_stamp[:] = 0
        scalars[S_TOUCHED] = 0
        finish_loading(self._program_table, self._table, self.clock_ms)

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
        finish_loading(self._program_table, self._table, self.clock_ms)
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
        self._make_room(columns, slots)
        outcomes = np.zeros(count, np.uint8)
        done = 0
        while done < count:
            done = apply_hits(
                self._program_table, self._table,
                done,
                columns.rows,
                columns.models,
                slots,
                columns.clocks,
                columns.times,
                columns.relative,
                columns.timed,
                columns.masks,
                first,
                second,
                self._horizon_ms,
                self._ids_max,
                live,
                outcomes,
            )
            if done < count:
                self._flush()
        return outcomes

    def _encode(self, columns: HitColumns) -> tuple[I32, U64]:
        """Give each hit's user slot, making users, and the hash of its key."""
        parents = self._arrays.model_parent[columns.models]
        return self._encode_keys(parents, columns.key_offsets, columns.key_data)

    def _encode_keys(self, parents: I32, offsets: I32, data: np.ndarray) -> tuple[I32, U64]:
        count = len(parents)
        self._state = with_user_room(self._state, count, int(offsets[count] - offsets[0]))
        slots, hashes = np.zeros(count, np.int32), np.zeros(count, np.uint64)
        encode_keys(self._program_table, self._table, parents, offsets, data, self._seed, slots, hashes)
        return slots, hashes

    def _make_room(self, columns: HitColumns, slots: I32) -> None:
        count = len(columns)
        self._state = with_block_room(
            self._state, int(words_needed(self._program_table, self._table, slots, columns.models, columns.masks))
        )
        self._state = with_timer_room(self._state, 2 * count + 1)
        self._state = with_dedup_room(self._state, count)

    def _take_snapshot(self, parent: str, snapshot: pa.Table, *, live: bool) -> None:
        index = self.program.parents.index(parent)
        keys = _whole(snapshot.column("key"))
        rows = len(keys)
        offsets, data = string_buffers(keys)
        parts = [
            # In steps: room is made for as many new users as there are keys, and most are known.
            self._encode_keys(np.full(min(_KEYS_A_STEP, rows - at), index, np.int32), offsets[at:], data)[0]
            for at in range(0, rows, _KEYS_A_STEP)
        ]
        slots = np.concatenate([np.zeros(0, np.int32), *parts])
        words = self._trait_words(index, snapshot)
        self._state = with_timer_room(self._state, int(self._state.scalars[S_USERS]) + 1)
        done = 0
        while done < rows:
            done = apply_snapshot(
                self._program_table, self._table, index, slots, words, done, self.clock_ms, live
            )
            if done < rows:
                self._flush()
        at = 0
        users = int(self._state.scalars[S_USERS])
        while at < users:
            at = retire_missing(self._program_table, self._table, index, at, self.clock_ms, live)
            if at < users:
                self._flush()

    def _trait_words(self, parent: int, snapshot: pa.Table) -> U64:
        """Give the truth of the parent's trait leaves for each row: [rows, leaf words]."""
        words = np.zeros((snapshot.num_rows, self.program.leaf_words), np.uint64)
        for leaf in self.program.trait_leaves[parent]:
            truth = evaluate_test(_trait_column(snapshot, leaf), leaf.test)
            words[truth, leaf.leaf >> 6] |= np.uint64(1 << (leaf.leaf & 63))
        return words

    def _advance(self, until_ms: int) -> None:
        while advance(self._program_table, self._table, until_ms) == NEED_ROOM:
            self._flush()
        self._state.scalars[S_CLOCK] = max(until_ms, self.clock_ms)

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

    def user_keys(self, slots: I32) -> pa.Array:
        """Give the keys of user slots as an Arrow string column."""
        s = self._state
        offsets = np.zeros(len(slots) + 1, np.int32)
        np.cumsum(s.key_length[slots], out=offsets[1:])
        data = np.zeros(int(offsets[-1]), np.uint8)
        gather_keys(slots, s.key_start, s.key_length, s.key_bytes, offsets, data)
        return pa.StringArray.from_buffers(len(slots), pa.py_buffer(offsets), pa.py_buffer(data))

    def _partitions_of(self, slots: I32) -> np.ndarray:
        known = len(self._partitions)
        users = int(self._state.scalars[S_USERS])
        if known < users:
            fresh = self.user_keys(np.arange(known, users, dtype=np.int32))
            more = self.partitions_of_keys(fresh)
            self._partitions = np.concatenate([self._partitions, more])
        return self._partitions[slots]

    def know_partitions(self, users: int) -> None:
        """Work out the partitions of further users, up to slot `users`; 0.3 µs each.

        Else the first transition waits for those of all users: a machine that is about to take over asks in steps.
        """
        known, stop = len(self._partitions), min(users, self.user_count)
        if known < stop:
            more = self.partitions_of_keys(self.user_keys(np.arange(known, stop, dtype=np.int32)))
            self._partitions = np.concatenate([self._partitions, more])

    @property
    def state(self) -> StateArrays:
        """The arrays, for the publication of membership; only the machine and its parts change them."""
        return self._state

    def with_state(self, state: StateArrays) -> StateArrays:
        """Take arrays that were given more room."""
        self._state = state
        return state

    @property
    def user_count(self) -> int:
        """The number of user slots."""
        return int(self._state.scalars[S_USERS])

    def parent_of(self, audience: str) -> str:
        """Give the parent model of an evaluated audience."""
        return self.program.parents[int(self._arrays.audience_parent[self.program.audience_index[audience]])]

    def partitions_of_keys(self, keys: pa.Array) -> np.ndarray:
        """Give the virtual partition of each key."""
        return np.asarray(partitions_of(keys.cast(pa.binary()).to_pylist(), self._partition_count)).astype(np.int16)

    def slots_for(self, other: EvaluatorMachine) -> I32:
        """Give this machine's slot of each of the other's users, -1 where it has none."""
        result = np.full(other.user_count, -1, np.int32)
        parents = {parent: i for i, parent in enumerate(self.program.parents)}
        for index, parent in enumerate(other.program.parents):
            if parent not in parents:
                continue
            users = np.flatnonzero(other.state.user_parent[: other.user_count] == index).astype(np.int32)
            offsets, data = string_buffers(other.user_keys(users))
            result[users] = find_keys(self._table, parents[parent], offsets, data, self._seed)
        return result

    # --- publication of membership -------------------------------------------------------------------

    def keys_between(self, first: int, stop: int) -> tuple[list[bytes], np.ndarray]:
        """Give the keys (UTF-8) and parent indexes of the user slots first..stop."""
        keys = self.user_keys(np.arange(first, stop, dtype=np.int32))
        return keys.cast(pa.binary()).to_pylist(), self._state.user_parent[first:stop]

    def membership_rows(self, slots: I32 | None) -> np.ndarray:
        """Give [next due time (a lower bound), membership words...] of users as int64; None: of all users."""
        chosen = slice(0, self.user_count) if slots is None else slots
        first, last = int(self._arrays.shape[3]), int(self._arrays.shape[4])
        rows = self._state.users[chosen]
        return np.concatenate([rows[:, DUE : DUE + 1], rows[:, first:last]], axis=1)

    def take_touched(self) -> I32:
        """Give the users whose membership or due time changed since the last call."""
        s = self._state
        count = int(s.scalars[S_TOUCHED])
        touched = s.touched[:count].copy()
        s.touched_stamp[touched] = 0
        s.scalars[S_TOUCHED] = 0
        return touched

    # --- questions ---------------------------------------------------------------------------------

    def next_due_ms(self) -> int:
        """Give the earliest time at which a tick may change something (a lower bound), or layout.NEVER."""
        return int(earliest(self._table))

    def slot_of(self, parent: str, key: str) -> int:
        """Give a user's slot, or -1."""
        data = np.frombuffer(key.encode("utf-8", "surrogatepass") or b"\0", np.uint8)
        length = len(key.encode("utf-8", "surrogatepass"))
        index = self.program.parents.index(parent)
        hashed = hash_bytes(data, 0, length, self._seed ^ np.uint64(index))
        return int(find_user(self._table, index, data, 0, length, np.uint64(hashed)))

    def is_member(self, audience: str, key: str) -> bool:
        """Say whether a user is a member at the machine's clock; unknown users are not."""
        index = self.program.audience_index[audience]
        parent = self.program.parents[self._arrays.audience_parent[index]]
        slot = self.slot_of(parent, key)
        return slot >= 0 and self._member_bit(slot, index)

    def _member_bit(self, slot: int, audience: int) -> bool:
        word = self._state.words[slot, int(self._arrays.shape[3]) + (audience >> 6)]
        return bool((int(word) >> (audience & 63)) & 1)

    def members(self, audience: str) -> I32:
        """Give the slots of an audience's members, ascending."""
        index = self.program.audience_index[audience]
        users = int(self._state.scalars[S_USERS])
        column = self._state.words[:users, int(self._arrays.shape[3]) + (index >> 6)]
        return np.flatnonzero((column >> np.uint64(index & 63)) & np.uint64(1)).astype(np.int32)

    def audience_sizes(self) -> dict[str, int]:
        """Give the number of members of each evaluated audience; O(users) each."""
        return {audience: len(self.members(audience)) for audience in self.program.audiences}

    def counters(self) -> dict[str, int]:
        """Give sizes for status and tests: users, blocks, timers, ids, bytes."""
        scalars = self._state.scalars
        return {
            "users": int(scalars[S_USERS]),
            "alive": int(scalars[S_ALIVE]),
            "blocks": int(scalars[S_BLOCKS]),
            "timers": int(scalars[S_NODES]),
            "message_ids": int(scalars[S_DEDUP_COUNT]),
            "message_ids_evicted": int(scalars[S_DEDUP_EVICTED]),
            "state_bytes": state_bytes(self._state),
        }

    def dedup_horizon_ms(self) -> int:
        """Give the effective horizon: shorter than configured where ids had to be evicted early."""
        reached = self.clock_ms - int(self._state.scalars[S_DEDUP_HORIZON_FROM])
        return min(self._horizon_ms, reached)


def _trait_column(snapshot: pa.Table, leaf: TraitLeaf) -> pa.Array:
    """Give a leaf's column; all missing where the snapshot is older than the column's declaration (or its type)."""
    wanted = _ARROW_TYPES[leaf.test.type]
    place = snapshot.schema.get_field_index(leaf.trait)
    if place < 0 or snapshot.schema.field(place).type != wanted:
        return pa.nulls(snapshot.num_rows, wanted)
    return _whole(snapshot.column(place))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Give a table's column as one array."""
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], column.type)
    return combined


def _with_starts(parts: list[pa.RecordBatch]) -> Iterable[tuple[pa.RecordBatch, int]]:
    start = 0
    for part in parts:
        yield part, start
        start += part.num_rows


