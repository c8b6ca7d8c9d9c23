"""The difference in membership between two machines at one instant: what publishing emits (cause `definition`).

Membership words are compared, not audiences: what two versions have in common costs a look at a word a user, however
many audiences lie in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa

from actors.evaluator.instants import instant_counts
from actors.evaluator.layout import (
    CAUSE_DEFINITION,
    I32,
    I64,
    LAST_AT,
    LAST_TR,
    NEVER_BEFORE,
    S_INSTANT_AT,
    S_INSTANT_LEN,
    U64,
)
from actors.evaluator.results import TRANSITION_SCHEMA, Transitions
from actors.evaluator.state import with_instant_room

if TYPE_CHECKING:
    from actors.evaluator.machine import EvaluatorMachine

#: (user key, audience id) -> the latest `n` at the present instant.
Numbers: TypeAlias = dict[tuple[str, str], int]
_ONE: Final = np.uint64(1)


@dataclass(frozen=True, slots=True)
class Difference:
    """What turns one machine's membership into another's.

    `tables` are its transitions, in order; `ended` the old machine's audiences that everybody left (gone, or moved to
    another parent); `gains` entries less exits of each audience of the new machine, apart from what ended.
    """

    tables: list[pa.RecordBatch]
    ended: frozenset[str]
    gains: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Transitions by index: `slots` and `audiences` of one machine and its program, `entered` 1 or 0."""

    slots: I32
    audiences: I32
    entered: np.ndarray

    def __len__(self) -> int:
        return len(self.slots)


_NOBODY: Final = _Rows(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.uint8))


@dataclass(frozen=True, slots=True)
class _Compared:
    """Who changes (by new slots); by old slots: who leaves since the new machine has no such user, and what ended."""

    changed: _Rows
    left: _Rows
    removed: _Rows


def difference(old: EvaluatorMachine | None, new: EvaluatorMachine) -> pa.RecordBatch:
    """Give the transitions of `difference_by_slots` as one table."""
    slots = None if old is None else new.slots_for(old)
    tables = difference_by_slots(old, new, slots).tables
    if not tables:
        return pa.RecordBatch.from_pylist([], schema=TRANSITION_SCHEMA)
    return pa.Table.from_batches(tables).combine_chunks().to_batches()[0]


def difference_by_slots(old: EvaluatorMachine | None, new: EvaluatorMachine, slots: I32 | None) -> Difference:
    """Give what turns `old`'s membership into `new`'s, at `new`'s clock, numbered on from the transitions made there.

    `slots` are `new`'s for each user of `old`, -1 for none. `old` None: everybody enters. Removed audiences exit with
    their old version. Notes the transitions in `new`, so that a later one at the same instant goes on counting, but for
    users that `new` does not know (`worker.py` gives a publication a ms of its own). Cost: O(users x membership words +
    transitions).
    """
    numbers: Numbers = {}
    if old is not None and old.clock_ms == new.clock_ms:
        numbers.update({(user, audience): n for (_, user, audience), n in instant_counts(old).items()})
    ended = _ended(old, new)
    compared = _compare(old, new, slots, ended)
    tables = [] if old is None else _exits(old, new, compared, numbers)
    changed = compared.changed
    named = _named(new, numbers)
    n = _numbered(new, changed, named)
    if len(changed):
        tables.append(new.transitions_table(_transitions(changed, n, new.clock_ms)))
    _note(new, *_noted(new, changed, n, named))
    return Difference(tables, ended, _gains(old, new, compared))


def _ended(old: EvaluatorMachine | None, new: EvaluatorMachine) -> frozenset[str]:
    if old is None:
        return frozenset()
    kept = new.program.audience_index
    return frozenset(
        audience
        for audience in old.program.audiences
        if audience not in kept or old.parent_of(audience) != new.parent_of(audience)
    )


# --- membership, by words ------------------------------------------------------------------------------


def _words(machine: EvaluatorMachine) -> U64:
    """Give everybody's membership: [users, words], bit i of the row is audience i."""
    rows: U64 = machine.membership_rows(None)[:, 1:].view(np.uint64)
    return rows


def _compare(
    old: EvaluatorMachine | None, new: EvaluatorMachine, slots: I32 | None, ended: frozenset[str]
) -> _Compared:
    now = _words(new)
    if old is None or slots is None:
        return _Compared(_rows_of(now, now), _NOBODY, _NOBODY)
    before = _words(old)
    known = slots >= 0
    was = np.zeros_like(now)
    was[slots[known]] = _moved(before, old, new, ended)[known]
    going_on = np.zeros(before.shape[1], np.uint64)
    for i, audience in enumerate(old.program.audiences):
        if audience not in ended:
            going_on[i >> 6] |= np.uint64(1 << (i & 63))
    strangers = np.flatnonzero(~known).astype(np.int32)
    left = _rows_of(before[strangers] & going_on)
    removed = _rows_of(before & ~going_on) if ended else _NOBODY
    return _Compared(
        _rows_of(now ^ was, now), _Rows(strangers[left.slots], left.audiences, left.entered), removed
    )


def _moved(before: U64, old: EvaluatorMachine, new: EvaluatorMachine, ended: frozenset[str]) -> U64:
    """Give the old membership of the audiences that go on, at their new places.

    Audiences that keep their distance to one another move as one.
    """
    groups: dict[tuple[int, int, int], int] = {}
    for source, audience in enumerate(old.program.audiences):
        if audience not in ended:
            target = new.program.audience_index[audience]
            group = (source >> 6, target >> 6, (target & 63) - (source & 63))
            groups[group] = groups.get(group, 0) | 1 << (source & 63)
    result = np.zeros((len(before), max(1, -(-len(new.program.audiences) // 64))), np.uint64)
    for (source_word, target_word, shift), mask in groups.items():
        bits = before[:, source_word] & np.uint64(mask)
        if shift > 0:
            bits <<= np.uint64(shift)
        elif shift < 0:
            bits >>= np.uint64(-shift)
        result[:, target_word] |= bits
    return result


def _rows_of(changed: U64, now: U64 | None = None) -> _Rows:
    """Give the bits that are set in `changed`, audience by audience; `entered` is what they are in `now` (None: 0)."""
    users = np.flatnonzero(_any_word(changed)).astype(np.int32)
    some = changed[users]
    parts = []
    for audience in _bits(some):
        word, bit = audience >> 6, np.uint64(audience & 63)
        slots = users[((some[:, word] >> bit) & _ONE).astype(np.bool_)]
        entered = np.zeros(len(slots), np.uint8) if now is None else ((now[slots, word] >> bit) & _ONE).astype(np.uint8)
        parts.append((slots, np.full(len(slots), audience, np.int32), entered))
    return _Rows(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else _NOBODY


def _any_word(rows: U64) -> U64:
    """Give the words of each row, or-ed: column by column, for a row is too short to be worth a loop of its own."""
    result = rows[:, 0].copy()
    for word in range(1, rows.shape[1]):
        result |= rows[:, word]
    return result


def _bits(words: U64) -> Iterator[int]:
    """Give the bits that are set in any row."""
    for word, value in enumerate(np.bitwise_or.reduce(words, axis=0).tolist()):
        while value:
            yield (word << 6) + (value & -value).bit_length() - 1
            value &= value - 1


def _gains(old: EvaluatorMachine | None, new: EvaluatorMachine, compared: _Compared) -> dict[str, int]:
    changed = compared.changed
    count = len(new.program.audiences)
    entries = np.bincount(changed.audiences[changed.entered == 1], minlength=count)
    exits = np.bincount(changed.audiences[changed.entered == 0], minlength=count)
    gains = dict(zip(new.program.audiences, (entries - exits).tolist(), strict=True))
    if old is not None:
        for audience, left in enumerate(np.bincount(compared.left.audiences).tolist()):
            if left:
                gains[old.program.audiences[audience]] -= left
    return gains


# --- numbering at one instant ----------------------------------------------------------------------------


def _codes(machine: EvaluatorMachine, slots: I32, audiences: I32) -> I64:
    """Give one number for each (slot, audience)."""
    codes: I64 = slots.astype(np.int64) * max(1, len(machine.program.audiences)) + audiences
    return codes


def _named(machine: EvaluatorMachine, numbers: Numbers) -> I32:
    """Give [slot, audience, number] of what a machine can name."""
    index = machine.program.audience_index
    rows = []
    for (user, audience), n in numbers.items():
        if audience in index:
            slot = machine.slot_of(machine.parent_of(audience), user)
            if slot >= 0:
                rows.append((slot, index[audience], n))
    return np.array(rows, np.int32).reshape(-1, 3)


def _numbered(machine: EvaluatorMachine, rows: _Rows, named: I32) -> I32:
    """Give `n` of each transition: one more than the number already given at this instant, 0 for most."""
    n = np.zeros(len(rows), np.int32)
    if len(named) and len(rows):
        codes = _codes(machine, named[:, 0], named[:, 1])
        order = np.argsort(codes)
        wanted = _codes(machine, rows.slots, rows.audiences)
        places = np.minimum(np.searchsorted(codes[order], wanted), len(codes) - 1)
        again = codes[order][places] == wanted
        n[again] = named[order][places[again], 2] + 1
    return n


def _noted(machine: EvaluatorMachine, rows: _Rows, n: I32, named: I32) -> tuple[I32, I32, I32]:
    """Give slot, audience and latest number of all that has happened at this instant, these transitions included."""
    others = named[
        ~np.isin(_codes(machine, named[:, 0], named[:, 1]), _codes(machine, rows.slots, rows.audiences))
    ] if len(named) else named
    return (
        np.concatenate([rows.slots, others[:, 0]]),
        np.concatenate([rows.audiences, others[:, 1]]),
        np.concatenate([n, others[:, 2]]),
    )


def _note(new: EvaluatorMachine, slots: I32, audiences: I32, n: I32) -> None:
    """Chain these per user in the instant buffers, in place of what the machine noted itself.

    What it noted while it was behind the old one were transitions that nobody was told of. Vectorised: there may be
    millions.
    """
    count = len(slots)
    order = np.argsort(slots, kind="stable")
    slots, audiences, n = slots[order], audiences[order], n[order]
    state = new.with_state(with_instant_room(new.state, count + len(new.program.audiences) + 1))
    if int(state.scalars[S_INSTANT_AT]) == new.clock_ms:
        last_at = state.users[: new.user_count, LAST_AT]
        last_at[last_at == new.clock_ms] = NEVER_BEFORE
    previous = np.arange(-1, count - 1, dtype=np.int32)
    previous[np.flatnonzero(np.diff(slots, prepend=-1) != 0)] = -1
    state.instant_audience[:count] = audiences
    state.instant_n[:count] = n
    state.instant_previous[:count] = previous
    state.users[slots, LAST_AT] = new.clock_ms
    state.users[slots, LAST_TR] = np.arange(count)
    state.scalars[S_INSTANT_AT] = new.clock_ms
    state.scalars[S_INSTANT_LEN] = count


# --- transitions -----------------------------------------------------------------------------------------


def _transitions(rows: _Rows, n: I32, clock_ms: int) -> Transitions:
    count = len(rows)
    return Transitions(
        user=rows.slots,
        audience=rows.audiences,
        at=np.full(count, clock_ms, np.int64),
        n=n,
        entered=rows.entered,
        cause=np.full(count, CAUSE_DEFINITION, np.uint8),
    )


def _exits(
    old: EvaluatorMachine, new: EvaluatorMachine, compared: _Compared, numbers: Numbers
) -> list[pa.RecordBatch]:
    """Write the exits by old slots: of audiences that ended by their old version, else by the new one.

    Adds to `numbers` those of audiences that go on under another parent: who is a user there too goes on from them.
    """
    named = _named(old, numbers)
    tables = []
    for rows, versions in ((compared.removed, None), (compared.left, new.program.audience_versions)):
        if not len(rows):
            continue
        n = _numbered(old, rows, named)
        table = old.transitions_table(_transitions(rows, n, new.clock_ms))
        if versions is not None:
            index = new.program.audience_index
            by_old = np.array([versions[index[a]] if a in index else 0 for a in old.program.audiences], np.int32)
            place = table.schema.get_field_index("audience_version")
            table = table.set_column(place, table.schema.field(place), pa.array(by_old[rows.audiences]))
        else:
            numbers.update(_of_moved(old, new, rows, n))
        tables.append(table)
    return tables


def _of_moved(old: EvaluatorMachine, new: EvaluatorMachine, removed: _Rows, n: I32) -> Numbers:
    result: Numbers = {}
    for index, audience in enumerate(old.program.audiences):
        chosen = removed.audiences == index
        if audience in new.program.audience_index and chosen.any():
            users = old.user_keys(removed.slots[chosen]).to_pylist()
            result.update({(user, audience): count for user, count in zip(users, n[chosen].tolist(), strict=True)})
    return result
