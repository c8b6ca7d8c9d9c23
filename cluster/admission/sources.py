"""Which source an event came from, as the numbers that hits and the fit table use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cluster.admission.plan import FIRST_SOURCE, NO_SOURCE, UNKNOWN_SOURCE, EventPlan
from cluster.admission.timestamps import Int64s

#: The hits' `source` of an event without one.
NO_SOURCE_INDEX = -1


class Sources(NamedTuple):
    """Per row: the code for the fit table, and the hits' `source`."""

    codes: Int64s
    indices: npt.NDArray[np.int16]


def source_index(plan: EventPlan, name: str | None) -> int:
    """Give the hits' `source`: the index in `plan.sources`, -1 for none.

    A name that no definition knows becomes a number in -32768..-2 by its hash: dedup is scoped by source, and
    needs to tell such sources apart, on every edge alike.
    """
    if not name:
        return NO_SOURCE_INDEX
    known = plan.source_index.get(name)
    return -2 - xxhash.xxh3_64_intdigest(name.encode()) % 32_767 if known is None else known


def source_code(plan: EventPlan, name: str | None) -> int:
    """Give the source's code in the fit table."""
    if not name:
        return NO_SOURCE
    known = plan.source_index.get(name)
    return UNKNOWN_SOURCE if known is None else FIRST_SOURCE + known


def sources_of(plan: EventPlan, names: pa.Array) -> Sources:
    """Give the sources of rows from their names (text, plain or dictionary-encoded; null and `""` are none)."""
    count = len(names)
    if names.null_count == count:
        return Sources(np.full(count, NO_SOURCE, np.int64), np.full(count, NO_SOURCE_INDEX, np.int16))
    if names.null_count == 0 and not pa.types.is_dictionary(names.type) and pc.count_distinct(names).as_py() == 1:
        name = names[0].as_py()
        return Sources(np.full(count, source_code(plan, name), np.int64),
                       np.full(count, source_index(plan, name), np.int16))
    encoded = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
    places = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    distinct = [*encoded.dictionary.to_pylist(), None]
    codes = np.array([source_code(plan, name) for name in distinct], np.int64)
    indices = np.array([source_index(plan, name) for name in distinct], np.int16)
    return Sources(codes[places], indices[places])
