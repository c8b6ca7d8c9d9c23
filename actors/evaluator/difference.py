"""The difference in membership between two machines at one instant: what publishing emits (cause `definition`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from actors.evaluator.instants import instant_counts, seed_instant
from actors.evaluator.layout import (
    CAUSE_DEFINITION,
    CAUSES,
    I32,
    LAST_AT,
    LAST_TR,
    S_INSTANT_AT,
    S_INSTANT_LEN,
)
from actors.evaluator.results import TRANSITION_SCHEMA
from actors.evaluator.state import with_instant_room

if TYPE_CHECKING:
    from actors.evaluator.machine import EvaluatorMachine


@dataclass(frozen=True, slots=True)
class _Part:
    """One audience's difference; `slots` are the new machine's, -1 for a user it does not know."""

    audience: str
    version: int
    parent: str
    keys: pa.Array
    slots: I32
    entered: np.ndarray


def difference(old: EvaluatorMachine | None, new: EvaluatorMachine) -> pa.RecordBatch:
    """Give what turns `old`'s membership into `new`'s, at `new`'s clock, numbered on from `old`'s transitions there.

    `old` None: everybody enters. Removed audiences exit with their old version. Notes the transitions in
    `new`, so that later ones at the same instant go on counting. Cost: O(audiences x users).
    """
    counts = instant_counts(old) if old is not None and old.clock_ms == new.clock_ms else {}
    parts = [part for part in _parts(old, new) if len(part.keys)]
    numbers = [_numbers(part, counts) for part in parts]
    for part, n in zip(parts, numbers, strict=True):
        if counts:
            for key, count in zip(part.keys.to_pylist(), n.tolist(), strict=True):
                counts[part.parent, key, part.audience] = count
    if counts:
        seed_instant(new, counts)
    else:
        _note(new, parts)
    tables = [_table(new, part, n) for part, n in zip(parts, numbers, strict=True)]
    if not tables:
        return pa.RecordBatch.from_pylist([], schema=TRANSITION_SCHEMA)
    return pa.Table.from_batches(tables).combine_chunks().to_batches()[0]


def _parts(old: EvaluatorMachine | None, new: EvaluatorMachine) -> list[_Part]:
    result = []
    mapping = new.slots_for(old) if old is not None else np.zeros(0, np.int32)
    old_index = old.program.audience_index if old is not None else {}
    users = new.user_count
    for index, audience in enumerate(new.program.audiences):
        now = np.zeros(users, np.bool_)
        now[new.members(audience)] = True
        was = np.zeros(users, np.bool_)
        gone = np.zeros(0, np.int32)
        if old is not None and audience in old_index and old.parent_of(audience) == new.parent_of(audience):
            before = old.members(audience)
            mapped = mapping[before]
            was[mapped[mapped >= 0]] = True
            gone = before[mapped < 0]
        changed = np.flatnonzero(now != was).astype(np.int32)
        keys = new.user_keys(changed)
        slots = changed
        entered = now[changed]
        if len(gone) and old is not None:
            keys = pa.concat_arrays([keys, old.user_keys(gone)])
            slots = np.concatenate([slots, np.full(len(gone), -1, np.int32)])
            entered = np.concatenate([entered, np.zeros(len(gone), np.bool_)])
        version = new.program.audience_versions[index]
        result.append(_Part(audience, version, new.parent_of(audience), keys, slots, entered))
    if old is not None:
        result += _removed(old, new, mapping)
    return result


def _removed(old: EvaluatorMachine, new: EvaluatorMachine, mapping: I32) -> list[_Part]:
    """Everybody leaves an audience that is gone, or that moved to another parent."""
    result = []
    kept = set(new.program.audiences)
    for index, audience in enumerate(old.program.audiences):
        if audience in kept and old.parent_of(audience) == new.parent_of(audience):
            continue
        members = old.members(audience)
        result.append(
            _Part(
                audience,
                old.program.audience_versions[index],
                old.parent_of(audience),
                old.user_keys(members),
                mapping[members],
                np.zeros(len(members), np.bool_),
            )
        )
    return result


def _numbers(part: _Part, counts: dict[tuple[str, str, str], int]) -> np.ndarray:
    if not counts:
        return np.zeros(len(part.keys), np.int32)
    return np.array(
        [counts.get((part.parent, key, part.audience), -1) + 1 for key in part.keys.to_pylist()], np.int32
    )


def _note(new: EvaluatorMachine, parts: list[_Part]) -> None:
    """Chain the transitions per user in the instant buffers, vectorised: there may be millions."""
    index = new.program.audience_index
    known = [part for part in parts if part.audience in index]
    slots = np.concatenate([part.slots for part in known]) if known else np.zeros(0, np.int32)
    audiences = [np.full(len(part.slots), index[part.audience], np.int32) for part in known]
    audience = np.concatenate(audiences) if audiences else np.zeros(0, np.int32)
    chosen = slots >= 0
    slots, audience = slots[chosen], audience[chosen]
    order = np.argsort(slots, kind="stable")
    slots, audience = slots[order], audience[order]
    count = len(slots)
    state = new.with_state(with_instant_room(new.state, count + len(new.program.audiences) + 1))
    previous = np.arange(-1, count - 1, dtype=np.int32)
    previous[np.flatnonzero(np.diff(slots, prepend=-1) != 0)] = -1
    state.instant_audience[:count] = audience
    state.instant_n[:count] = 0
    state.instant_previous[:count] = previous
    state.users[slots, LAST_AT] = new.clock_ms
    state.users[slots, LAST_TR] = np.arange(count)
    state.scalars[S_INSTANT_AT] = new.clock_ms
    state.scalars[S_INSTANT_LEN] = count


def _table(new: EvaluatorMachine, part: _Part, n: np.ndarray) -> pa.RecordBatch:
    rows = len(part.keys)
    kinds = pa.array(["exited", "entered"]).take(pa.array(part.entered.astype(np.int8)))
    return pa.RecordBatch.from_arrays(
        [
            pa.repeat(part.audience, rows),
            pa.repeat(pa.scalar(part.version, pa.int32()), rows),
            part.keys,
            kinds,
            pa.repeat(pa.scalar(new.clock_ms, pa.int64()), rows),
            pa.array(n, pa.int32()),
            pa.repeat(CAUSES[CAUSE_DEFINITION], rows),
            pa.array(new.partitions_of_keys(part.keys), pa.int16()),
        ],
        schema=TRANSITION_SCHEMA,
    )
