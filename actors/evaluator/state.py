"""The evaluator's arrays and how they grow. Kernels never allocate: they are given room before each slice of hits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from actors.evaluator.kernels.dedup import refill
from actors.evaluator.kernels.hashing import rebuild_table
from actors.evaluator.layout import (
    AHEAD_STEP,
    CHUNK_CLASSES,
    DEALING,
    FEED_WORDS,
    LEAF_WORDS,
    LINE_WORDS,
    NEVER,
    NEVER_BEFORE,
    ROW_WORDS,
    S_ARENA_TOP,
    S_COUNT,
    S_DEDUP_COUNT,
    S_DEDUP_HEAD,
    S_DEDUP_HORIZON_FROM,
    S_DEDUP_LEN,
    S_INSTANT_AT,
    S_INSTANT_LEN,
    S_KEY_TOP,
    S_TOUCHED,
    S_TRAITS_AT,
    S_USERS,
    WAVE_STEP,
    WHEEL_SLOTS,
    ProgramArrays,
    StateArrays,
)
from cluster.arrays import GROWS_IN_PLACE_BYTES, growing_zeros, grown_in_place, grows_in_place, line_zeros

#: Rows that a new state's arrays start with, by what they hold. The output columns keep theirs; the others grow.
USERS: Final = 1024
OUT_ROWS: Final = 1 << 16
ARENA_WORDS: Final = 4096
#: Arrays of a row a user, zero where there is none yet.
_PER_USER: Final = ("users", "user_parent", "user_hash", "key_place", "touched", "touched_stamp", "fresh_row")
IDS: Final = 4096
#: Up to this size arrays grow fourfold, so that they are copied seldom.
_GENEROUS_BYTES: Final = 256 << 20
#: Words of memory first touched, and keys entered in a larger table, in one step of some ms.
_WORDS_A_STEP: Final = 1 << 18
_KEYS_A_STEP: Final = 1 << 14
#: New users that room is made for in place, beyond those who need it: 0.1 ms.
_USERS_MORE: Final = 1 << 16
#: The least size of a hash table, as a power of two.
_TABLE_BITS_MIN: Final = 10


def _power_of_two(least: int) -> int:
    return 1 << max(_TABLE_BITS_MIN, (least - 1).bit_length())


def _grown(array: NDArray[Any], size: int, used: int, fill: int = 0) -> NDArray[Any]:
    """Give an array with `size` rows: the `used` first ones, the others set to `fill`.

    A large one grows in its place; copying moves all that is used.
    """
    known = len(array)
    result = grown_in_place(array, size)
    if result is None:
        result = growing_zeros((size, *array.shape[1:]), array.dtype)
        result[:used] = array[:used]
        known = used
    if fill:
        result[known:] = fill
    return result


def _next_size(array: NDArray[Any], needed: int) -> int:
    """Give the rows to grow to: many more while that is cheap, since what is not written yet costs no memory."""
    return max(needed, int(len(array) * (4 if array.nbytes < _GENEROUS_BYTES else 1.6)))


def new_state(program: ProgramArrays) -> StateArrays:
    """Make empty arrays with room for a few users."""
    users, ids = USERS, IDS
    audiences = len(program.audience_parent)
    rows = line_zeros((users, int(program.shape[ROW_WORDS])), np.int64)
    arena = line_zeros((ARENA_WORDS,), np.int64)
    scalars = np.zeros(S_COUNT, np.int64)
    scalars[S_ARENA_TOP] = LINE_WORDS  # place 0 means none
    scalars[S_INSTANT_AT] = NEVER_BEFORE
    scalars[S_TRAITS_AT] = NEVER
    scalars[S_DEDUP_HORIZON_FROM] = NEVER_BEFORE
    out = max(OUT_ROWS, audiences + 1)
    return StateArrays(
        scalars=scalars,
        users=rows,
        words=rows.view(np.uint64),
        halves=rows.view(np.int32),
        user_parent=np.zeros(users, np.int16),
        user_hash=np.zeros(users, np.uint64),
        key_place=np.zeros(users, np.int64),
        key_bytes=np.zeros(users * 16, np.uint8),
        key_table=np.zeros(_power_of_two(users * 2), np.uint64),
        arena=arena,
        reals=arena.view(np.float64),
        offsets=arena.view(np.int32),
        page_free=np.zeros(len(program.page_words), np.int64),
        chunk_free=np.zeros(CHUNK_CLASSES, np.int64),
        wheel=np.full(DEALING + 1, -1, np.int32),
        timer_links=np.full(2 * users, -1, np.int32),
        near_bits=np.zeros(WHEEL_SLOTS // 64, np.uint64),
        far_bits=np.zeros(WHEEL_SLOTS // 64, np.uint64),
        calendar_starts=np.zeros(1, np.int32),
        calendar_bounds=np.zeros(0, np.int64),
        calendar_hint=np.zeros(0, np.int32),
        wave=np.zeros(WAVE_STEP, np.int32),
        ahead=np.zeros(AHEAD_STEP, np.int32),
        due_pages=np.zeros(len(program.page_words), np.int32),
        fed_struct=np.zeros(len(program.feeds) // FEED_WORDS, np.int32),
        fed_page=np.zeros(len(program.feeds) // FEED_WORDS, np.int64),
        dirty=np.zeros(max(1, audiences), np.int32),
        heap=np.zeros(max(1, audiences), np.int32),
        audience_stamp=np.zeros(max(1, audiences), np.int64),
        out_user=np.zeros(out, np.int32),
        out_audience=np.zeros(out, np.int32),
        out_at=np.zeros(out, np.int64),
        out_n=np.zeros(out, np.int32),
        out_kind=np.zeros(out, np.uint8),
        out_cause=np.zeros(out, np.uint8),
        instant_audience=np.zeros(out, np.int32),
        instant_n=np.zeros(out, np.int32),
        instant_previous=np.zeros(out, np.int32),
        dedup_first=np.zeros(ids, np.uint64),
        dedup_second=np.zeros(ids, np.uint64),
        dedup_clock=np.full(ids, NEVER_BEFORE, np.int64),
        dedup_queue_first=np.zeros(ids, np.uint64),
        dedup_queue_second=np.zeros(ids, np.uint64),
        dedup_queue_clock=np.zeros(ids, np.int64),
        touched=np.zeros(users, np.int32),
        touched_stamp=np.zeros(users, np.int64),
        fresh_row=np.zeros(users, np.int32),
        fresh_words=np.zeros((1, int(program.shape[LEAF_WORDS])), np.uint64),
        fresh_times=np.zeros((1, int(program.time_column.max(initial=-1)) + 1), np.int64),
    )


def with_user_room(s: StateArrays, more_users: int, more_key_bytes: int) -> StateArrays:
    """Make room for new users and their key bytes; the key table stays at most half full."""
    used = int(s.scalars[S_USERS])
    needed = used + more_users
    bytes_needed = int(s.scalars[S_KEY_TOP]) + more_key_bytes
    if bytes_needed > len(s.key_bytes):
        size = _next_size(s.key_bytes, bytes_needed)
        s = s._replace(key_bytes=_grown(s.key_bytes, size, int(s.scalars[S_KEY_TOP])))
    if needed > len(s.users):
        # Where they grow in their place a few at a time, since each new one's links are written.
        few = s.users.nbytes >= GROWS_IN_PLACE_BYTES and grows_in_place()
        size = needed + _USERS_MORE if few else _next_size(s.users, needed)
        rows = _grown(s.users, size, used)
        s = s._replace(
            users=rows,
            words=rows.view(np.uint64),
            halves=rows.view(np.int32),
            user_parent=_grown(s.user_parent, size, used),
            user_hash=_grown(s.user_hash, size, used),
            key_place=_grown(s.key_place, size, used),
            timer_links=_grown(s.timer_links, 2 * size, 2 * used, -1),
            touched=_grown(s.touched, size, int(s.scalars[S_TOUCHED])),
            touched_stamp=_grown(s.touched_stamp, size, used),
            fresh_row=_grown(s.fresh_row, size, used),
        )
    if 2 * needed > len(s.key_table):
        table = np.zeros(_power_of_two(3 * needed), np.uint64)
        rebuild_table(s.user_hash, 0, int(s.scalars[S_USERS]), table)
        s = s._replace(key_table=table)
    return s


@dataclass(frozen=True, slots=True)
class KeyRoom:
    """A larger key table that was filled beside the work, from the hashes of the first `users`."""

    hashes: NDArray[np.uint64]
    users: int
    table: NDArray[np.uint64]


def key_room(s: StateArrays, users: int, pause: Callable[[], None]) -> KeyRoom | None:
    """Make a key table for so many users, if the one at hand is smaller; `pause` is called between steps of some ms.

    On any thread: what is read of the state is never written over.
    """
    if 2 * users <= len(s.key_table):
        return None
    table = np.empty(_power_of_two(3 * users), np.uint64)
    for start in range(0, len(table), _WORDS_A_STEP):
        # Written now: a page that is first touched while a key is looked for costs 100 times as much as the look.
        table[start : start + _WORDS_A_STEP] = 0
        pause()
    known = int(s.scalars[S_USERS])
    for start in range(0, known, _KEYS_A_STEP):
        rebuild_table(s.user_hash, start, min(known, start + _KEYS_A_STEP), table)
        pause()
    return KeyRoom(s.user_hash, known, table)


def with_key_room(s: StateArrays, room: KeyRoom) -> StateArrays:
    """Take a key table that was made for this state, with the users who came since; not one of users that moved."""
    same = room.hashes.__array_interface__["data"][0] == s.user_hash.__array_interface__["data"][0]
    if not same or len(room.table) <= len(s.key_table):
        return s
    rebuild_table(s.user_hash, room.users, int(s.scalars[S_USERS]), room.table)
    return s._replace(key_table=room.table)


def with_fresh_rows(s: StateArrays, words: NDArray[np.uint64], times: NDArray[np.int64]) -> StateArrays:
    """Take the rows of a snapshot that is prepared."""
    return s._replace(fresh_words=words, fresh_times=times)


def without_fresh_rows(s: StateArrays) -> StateArrays:
    """Give them back."""
    words, times = s.fresh_words.shape[1], s.fresh_times.shape[1]
    return with_fresh_rows(s, np.zeros((1, words), np.uint64), np.zeros((1, times), np.int64))


def with_arena_room(s: StateArrays, more_words: int) -> StateArrays:
    """Make room for pages and chunks in the arena."""
    needed = int(s.scalars[S_ARENA_TOP]) + more_words
    if needed > len(s.arena):
        arena = _grown(s.arena, _next_size(s.arena, needed), int(s.scalars[S_ARENA_TOP]))
        s = s._replace(arena=arena, reals=arena.view(np.float64), offsets=arena.view(np.int32))
    return s


def with_boundaries(s: StateArrays, starts: NDArray[np.int32], bounds: NDArray[np.int64]) -> StateArrays:
    """Take the boundaries of the calendars."""
    return s._replace(
        calendar_starts=starts, calendar_bounds=bounds, calendar_hint=np.zeros(len(starts) - 1, np.int32)
    )


def with_dedup_room(s: StateArrays, more: int) -> StateArrays:
    """Make room for message ids: the table at most half full, the queue for one entry an acceptance."""
    if 2 * (int(s.scalars[S_DEDUP_COUNT]) + more) > len(s.dedup_first):
        size = _power_of_two(3 * (int(s.scalars[S_DEDUP_COUNT]) + more))
        first, second = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        clock = np.full(size, NEVER_BEFORE, np.int64)
        refill(s.dedup_first, s.dedup_second, s.dedup_clock, first, second, clock)
        s = s._replace(dedup_first=first, dedup_second=second, dedup_clock=clock)
    length, head = int(s.scalars[S_DEDUP_LEN]), int(s.scalars[S_DEDUP_HEAD])
    if length + more > len(s.dedup_queue_clock):
        order = (head + np.arange(length)) & (len(s.dedup_queue_clock) - 1)
        size = _power_of_two(2 * (length + more))
        s = s._replace(
            dedup_queue_first=_grown(s.dedup_queue_first[order], size, length),
            dedup_queue_second=_grown(s.dedup_queue_second[order], size, length),
            dedup_queue_clock=_grown(s.dedup_queue_clock[order], size, length),
        )
        s.scalars[S_DEDUP_HEAD] = 0
    return s


def with_instant_room(s: StateArrays, more: int) -> StateArrays:
    """Make room in the instant buffers for further transitions at the present instant."""
    used = int(s.scalars[S_INSTANT_LEN])
    needed = used + more
    if needed > len(s.instant_audience):
        size = max(needed, 2 * len(s.instant_audience))
        s = s._replace(
            instant_audience=_grown(s.instant_audience, size, used),
            instant_n=_grown(s.instant_n, size, used),
            instant_previous=_grown(s.instant_previous, size, used),
        )
    return s


def state_bytes(s: StateArrays) -> int:
    """Give the memory of all arrays as far as it was ever written; two views of the same count once."""
    used = {name: int(s.scalars[S_USERS]) for name in _PER_USER}
    used.update(arena=int(s.scalars[S_ARENA_TOP]), key_bytes=int(s.scalars[S_KEY_TOP]))
    return sum(
        array.nbytes if name not in used else array[: used[name]].nbytes
        for name, array in s._asdict().items()
        if name not in ("words", "halves", "reals", "offsets")
    )
