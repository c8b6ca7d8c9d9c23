"""A table with one row a user, built batch by batch: keys checked, columns typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from actors.traits.columns import ARROW_TYPES
from actors.traits.typing_batches import Batch, check_bytes, typed_columns, typed_keys
from actors.traits.wanted import Wanted, first_up
from cluster.errors import SnapshotError
from cluster.limits import KEY_BYTES_MAX

#: An Arrow chunked array; pyarrow ships no types.
ChunkedArray: TypeAlias = Any

#: What a value is for a user whom a table does not have, by trait; None: missing.
_NO_DEFAULTS: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Keyed:
    """Columns by key: `keys` text, unique, not null; `columns` of the same length, by trait, at their snapshot types.

    `defaults` holds what a trait is for a user without a row here, where that is not missing.
    """

    keys: ChunkedArray
    columns: Mapping[str, ChunkedArray]
    defaults: Mapping[str, Any]


class TableBuilder:
    """Takes batches as they come: whatever the source's size, it holds what the snapshot will.

    Faulty keys are counted over all batches and refused at the end, so that one message tells them all.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._rows = 0
        self._keys: list[Any] = []
        self._columns: dict[str, list[Any]] = {read.name: [] for read in wanted.reads}
        self._bad: dict[str, _BadKeys] = {}

    def add(self, batch: Batch) -> None:
        """Take rows that have at least the wanted columns; raises `SnapshotError`, reason `wrong_type`, `damaged`."""
        check_bytes(batch, self._wanted)
        keys = typed_keys(batch, self._wanted)
        self._check_keys(keys)
        if not self._bad:
            self._keys.append(keys)
            for name, column in typed_columns(batch, self._wanted).items():
                self._columns[name].append(column)
        self._rows += batch.num_rows

    def finish(self) -> Keyed:
        """Give the table; raises `SnapshotError`: `null_key`, `empty_key`, `key_too_long` or `duplicate_key`."""
        for bad in self._bad.values():
            raise bad.error(self._wanted)
        keys = pa.chunked_array(self._keys, pa.string())
        _check_unique(keys, self._wanted)
        columns = {
            read.name: pa.chunked_array(self._columns[read.name], ARROW_TYPES[read.type]) for read in self._wanted.reads
        }
        return Keyed(keys, columns, _NO_DEFAULTS)

    def _check_keys(self, keys: Any) -> None:
        lengths = pc.binary_length(keys)
        longest = pc.max(lengths).as_py() or 0
        self._note("null_key", pc.is_null(keys), "null", "a text or a whole number")
        self._note("empty_key", pc.equal(lengths, 0), "an empty text", "1 byte or more")
        too_long = pc.greater(lengths, KEY_BYTES_MAX)
        self._note("key_too_long", too_long, f"{longest} bytes", f"at most {KEY_BYTES_MAX} bytes")

    def _note(self, reason: str, wrong: Any, found: str, allowed: str) -> None:
        if count := pc.sum(wrong).as_py() or 0:
            first = self._rows + pc.index(wrong, True).as_py()
            self._bad.setdefault(reason, _BadKeys(reason, first, found, allowed)).count += count


@dataclass(slots=True)
class _BadKeys:
    """Keys that are refused for one reason: the first one's row, what it held, how many there are."""

    reason: str
    first: int
    found: str
    allowed: str
    count: int = 0

    def error(self, wanted: Wanted) -> SnapshotError:
        message = (f"{first_up(wanted.where)}: the key column {wanted.key!r} holds {self.found} in {self.count} "
                   f"row(s), first in row {self.first}; allowed: {self.allowed}.")  # fmt: skip
        return SnapshotError(message, reason=self.reason, next_step="Correct or leave out these rows.")


def places_of(values: ChunkedArray, among: ChunkedArray) -> ChunkedArray:
    """Give where each text is among others (each of those once), null where it is not."""
    wide = pa.large_string()  # all of them in one array may be more than a string array can hold
    chunks = [chunk.cast(wide) for chunk in among.chunks]
    whole = pa.concat_arrays(chunks) if chunks else pa.array([], wide)
    return pa.chunked_array([pc.index_in(chunk.cast(wide), value_set=whole) for chunk in values.chunks], pa.int32())


def _check_unique(keys: ChunkedArray, wanted: Wanted) -> None:
    distinct = pc.count_distinct(keys).as_py()
    if distinct == len(keys):
        return
    counts = pa.table({"key": keys}).group_by("key").aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts.column("count_all"), 1)).slice(0, 1).to_pylist()[0]
    message = (f"{first_up(wanted.where)}: the key column {wanted.key!r} has {len(keys) - distinct} row(s) "
               f"with a key that came before; {twice['key']!r} for one comes {twice['count_all']} times. "
               "Allowed: each key once (12 and \"12\" are the same key).")  # fmt: skip
    raise SnapshotError(message, reason="duplicate_key", next_step="Leave one row a key.")
