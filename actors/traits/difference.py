"""Who differs between two snapshots of a parent, in some columns: for delivery, which names users by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.traits.lookup import ABSENT, TraitLookup
from actors.traits.snapshot import KEY, Table


def changed_users(old: TraitLookup, new: TraitLookup, columns: Sequence[str]) -> list[str]:
    """Give the users whose values differ in one of the columns, or who are in one snapshot alone.

    A column that the old snapshot does not have differs for everybody who has a value now. About 2 s a million users.
    """
    old_keys: list[str] = old.table.column(KEY).to_pylist()
    new_keys: list[str] = new.table.column(KEY).to_pylist()
    places = new.rows(old_keys)
    kept = np.flatnonzero(places != ABSENT)
    differs = np.zeros(len(kept), np.bool_)
    for column in columns:
        differs |= _differs(_column(old.table, column, kept), _column(new.table, column, places[kept]))
    gone = np.flatnonzero(places == ABSENT)
    came = np.flatnonzero(old.rows(new_keys) == ABSENT)
    users = [old_keys[index] for index in (*gone.tolist(), *kept[differs].tolist())]
    return users + [new_keys[index] for index in came.tolist()]


def _column(table: Table, column: str, rows: npt.NDArray[np.int64]) -> Any:
    if column not in table.column_names:
        return pa.nulls(len(rows))
    return table.column(column).take(pa.array(rows, pa.int64())).combine_chunks()


def _differs(old: Any, new: Any) -> npt.NDArray[np.bool_]:
    if old.type != new.type or pa.types.is_list(new.type):
        pairs = zip(old.to_pylist(), new.to_pylist(), strict=True)
        return np.fromiter((before != after for before, after in pairs), np.bool_, len(new))
    same = pc.or_(pc.fill_null(pc.equal(old, new), False), pc.and_(pc.is_null(old), pc.is_null(new)))
    unequal: npt.NDArray[np.bool_] = pc.invert(same).to_numpy(zero_copy_only=False)
    return unequal.astype(np.bool_)
