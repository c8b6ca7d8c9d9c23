"""What can be asked of an evaluator's machine: users, membership, due times, sizes. Nothing here moves it.

The rules that move the state are in `machine.py`; this is the state with the names of its program.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from actors.evaluator.inputs import string_buffers
from actors.evaluator.kernels.hashing import LENGTH_MASK, find_keys, find_user, gather_keys, hash_bytes
from actors.evaluator.kernels.tables import StateTable
from actors.evaluator.kernels.wheel import earliest
from actors.evaluator.layout import (
    DUE,
    FIRST_DUE,
    FIRST_MEMBER,
    I32,
    S_ALIVE,
    S_ARENA_USED,
    S_BLOCKS,
    S_CAPPED,
    S_CLOCK,
    S_DEDUP_COUNT,
    S_DEDUP_EVICTED,
    S_DEDUP_HORIZON_FROM,
    S_TIMERS,
    S_TOUCHED,
    S_USERS,
    S_WHEEL,
    StateArrays,
)
from actors.evaluator.program import Program
from actors.evaluator.state import new_state, state_bytes
from cluster.model.partitions import partitions_of


class MachineView:
    """An evaluator's arrays under one program; the base of `EvaluatorMachine`."""

    def __init__(self, program: Program, seed: int) -> None:
        self.program = program
        self._arrays = program.arrays
        self._seed = np.uint64(seed & (2**64 - 1))
        self._current = new_state(self._arrays)
        self._table = StateTable(self._current)
        #: partition of each user slot, computed once per new user
        self._partitions = np.zeros(0, np.int16)
        #: What the array above is the beginning of.
        self._partitions_room = self._partitions
        settings = program.published.definitions.settings
        self._horizon_ms = settings.dedup_horizon_ms
        self._partition_count = settings.partitions

    @property
    def _state(self) -> StateArrays:
        return self._current

    @_state.setter
    def _state(self, arrays: StateArrays) -> None:
        """Take arrays (some were given more room) and their addresses."""
        if arrays is not self._current:
            self._current = arrays
            self._table = StateTable(arrays)

    @property
    def seed(self) -> int:
        """What the hashes of keys and message ids are spread by."""
        return int(self._seed)

    @property
    def clock_ms(self) -> int:
        """The clock: the largest time that an input has had."""
        return int(self._state.scalars[S_CLOCK])

    @property
    def settled_ms(self) -> int:
        """The ms up to which every change of everybody is made: the clock, unless the machine is behind."""
        return int(self._state.scalars[S_WHEEL]) - 1

    @property
    def behind(self) -> bool:
        """Whether changes that are due at or before the clock remain to be made."""
        return self.settled_ms < self.clock_ms

    def user_keys(self, slots: I32) -> pa.Array:
        """Give the keys of user slots as an Arrow string column."""
        s = self._state
        offsets = np.zeros(len(slots) + 1, np.int32)
        np.cumsum(s.key_place[slots] & LENGTH_MASK, out=offsets[1:])
        data = np.zeros(int(offsets[-1]), np.uint8)
        gather_keys(slots, s.key_place, s.key_bytes, offsets, data)
        return pa.StringArray.from_buffers(len(slots), pa.py_buffer(offsets), pa.py_buffer(data))

    def _partitions_of(self, slots: I32) -> np.ndarray:
        self.know_partitions(self.user_count)
        return self._partitions[slots]

    def know_partitions(self, users: int) -> None:
        """Work out the partitions of further users, up to slot `users`; 0.3 µs each.

        Else the first transition waits for those of all users: a machine that is about to take over asks in steps.
        """
        known, stop = len(self._partitions), min(users, self.user_count)
        if known < stop:
            if self._partitions.base is not self._partitions_room or stop > len(self._partitions_room):
                self._partitions_room = np.zeros(stop + stop // 2, np.int16)
                self._partitions_room[:known] = self._partitions
            more = self.partitions_of_keys(self.user_keys(np.arange(known, stop, dtype=np.int32)))
            self._partitions_room[known:stop] = more
            self._partitions = self._partitions_room[:stop]

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

    def slots_for(self, other: MachineView) -> I32:
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
        first, last = int(self._arrays.shape[FIRST_MEMBER]), int(self._arrays.shape[FIRST_DUE])
        rows = self._state.users[chosen]
        return np.concatenate([rows[:, DUE : DUE + 1], rows[:, first:last]], axis=1)

    @property
    def membership_width(self) -> int:
        """Words of such a row."""
        return 1 + int(self._arrays.shape[FIRST_DUE]) - int(self._arrays.shape[FIRST_MEMBER])

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
        word = self._state.words[slot, int(self._arrays.shape[FIRST_MEMBER]) + (audience >> 6)]
        return bool((int(word) >> (audience & 63)) & 1)

    def members(self, audience: str) -> I32:
        """Give the slots of an audience's members, ascending."""
        index = self.program.audience_index[audience]
        users = int(self._state.scalars[S_USERS])
        column = self._state.words[:users, int(self._arrays.shape[FIRST_MEMBER]) + (index >> 6)]
        return np.flatnonzero((column >> np.uint64(index & 63)) & np.uint64(1)).astype(np.int32)

    def audience_sizes(self) -> dict[str, int]:
        """Give the number of members of each evaluated audience; 0.5 µs for 1,000 users each."""
        first, last = int(self._arrays.shape[FIRST_MEMBER]), int(self._arrays.shape[FIRST_DUE])
        sizes: list[int] = []
        for place in range(first, last):
            # Side by side: 64 audiences are counted from one look at the users' rows.
            words = self._state.words[: self.user_count, place].copy()
            sizes += [int(np.count_nonzero(words & np.uint64(1 << bit))) for bit in range(64)]
        return dict(zip(self.program.audiences, sizes, strict=False))

    def counters(self) -> dict[str, int]:
        """Give sizes for status and tests: users, blocks, timers, ids, bytes."""
        scalars = self._state.scalars
        return {
            "users": int(scalars[S_USERS]),
            "alive": int(scalars[S_ALIVE]),
            "blocks": int(scalars[S_BLOCKS]),
            "timers": int(scalars[S_TIMERS]),
            "window_words": int(scalars[S_ARENA_USED]),
            "events_capped": int(scalars[S_CAPPED]),
            "message_ids": int(scalars[S_DEDUP_COUNT]),
            "message_ids_evicted": int(scalars[S_DEDUP_EVICTED]),
            "state_bytes": state_bytes(self._state),
        }

    def dedup_horizon_ms(self) -> int:
        """Give the effective horizon: shorter than configured where ids had to be evicted early."""
        reached = self.clock_ms - int(self._state.scalars[S_DEDUP_HORIZON_FROM])
        return min(self._horizon_ms, reached)
