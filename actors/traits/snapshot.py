"""A trait table as it was read, checked and typed once: the snapshot that every evaluator takes whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from actors.traits.columns import ARROW_TYPES, WrongType, convert, is_text, plain, to_text
from actors.traits.wanted import Wanted, check_schema, wanted_of
from cluster.definitions.model import ParentModel, ValueType
from cluster.errors import SnapshotError
from cluster.limits import KEY_BYTES_MAX
from cluster.model.partitions import partitions_of

#: An Arrow table; pyarrow ships no types.
Table: TypeAlias = Any
Batch: TypeAlias = Any
ChunkedArray: TypeAlias = Any

#: The snapshot's own columns, before the declared ones.
KEY: Final = "key"
PARTITION: Final = "partition"

_KEYS: Final = "text or whole numbers"


@dataclass(frozen=True, slots=True)
class TraitSnapshot:
    """A parent model's traits.

    `table`: columns `key` (string, unique, not null), `partition` (int16), then one a declared trait, in the
    document's order: number float64, boolean bool, timestamp int64 (ms), string, list list<string>; null is missing.
    """

    parent: str
    table: Table

    @property
    def row_count(self) -> int:
        """How many users have a row."""
        return int(self.table.num_rows)


class SnapshotBuilder:
    """Types and checks batches as they come: whatever the source's size, it holds what the snapshot will.

    Faulty keys are counted over all batches and refused at the end, so that one message tells them all.
    """

    def __init__(self, parent: ParentModel, partitions: int) -> None:
        _check_names(parent)
        self._parent = parent
        self._wanted = wanted_of(parent)
        self._partitions = partitions
        self._rows = 0
        self._keys: list[Any] = []
        self._of_partition: list[Any] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in parent.columns}
        self._bad: dict[str, _BadKeys] = {}

    def add(self, batch: Batch) -> None:
        """Take rows that have at least `wanted_of(parent)`; raises `SnapshotError`, reason `wrong_type`, `damaged`."""
        _check_bytes(batch, self._wanted)
        keys = self._typed(batch, self._wanted.key, _key_text, "key")
        self._check_keys(keys)
        self._keys.append(keys)
        if not self._bad:
            partitions = partitions_of(keys, self._partitions)
            self._of_partition.append(pa.array(partitions, pa.int16()))
            for name, column in self._parent.columns.items():
                self._columns[name].append(self._typed(batch, name, _converter(column.type), column.type))
        self._rows += batch.num_rows

    def finish(self) -> TraitSnapshot:
        """Give the snapshot; raises `SnapshotError`: `null_key`, `empty_key`, `key_too_long` or `duplicate_key`."""
        for bad in self._bad.values():
            raise bad.error(self._wanted)
        keys = pa.chunked_array(self._keys, pa.string())
        _check_unique(keys, self._wanted)
        partitions = pa.chunked_array(self._of_partition, pa.int16())
        columns = [
            pa.chunked_array(self._columns[column.name], ARROW_TYPES[column.type])
            for column in self._parent.columns.values()
        ]
        return TraitSnapshot(
            self._parent.id, pa.table([keys, partitions, *columns], schema=snapshot_schema(self._parent))
        )

    def _typed(self, batch: Batch, name: str, convert_array: Callable[[Any], Any], declared: str) -> Any:
        column, where = batch.column(name), self._wanted.where
        try:
            return convert_array(column)
        except WrongType as error:
            message = (f"{_first_up(where)}: the column {name!r} is declared {declared}, "
                       f"found Arrow type {column.type}; allowed: {error.allowed}.")  # fmt: skip
            step = "Change the column's type in the definitions or in the source."
            raise SnapshotError(message, reason="wrong_type", next_step=step) from error
        except pa.ArrowException as error:
            message = f"{_first_up(where)}: the column {name!r} cannot be read as {declared}: {error}."
            raise SnapshotError(message, reason="damaged", next_step="Write the source anew.") from error

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
        message = (f"{_first_up(wanted.where)}: the key column {wanted.key!r} holds {self.found} in {self.count} "
                   f"row(s), first in row {self.first}; allowed: {self.allowed}.")  # fmt: skip
        return SnapshotError(message, reason=self.reason, next_step="Correct or leave out these rows.")


def build_snapshot(table: Table, parent: ParentModel, partitions: int) -> TraitSnapshot:
    """Type and check a table that is at hand: what reading its batches from a source gives."""
    wanted = wanted_of(parent)
    check_schema(table.schema.names, wanted, where=_first_up(wanted.where))
    builder = SnapshotBuilder(parent, partitions)
    for batch in table.select(wanted.names()).to_batches():
        builder.add(batch)
    return builder.finish()


def empty_snapshot(parent: ParentModel) -> TraitSnapshot:
    """Give a snapshot without rows: every trait of every user is missing."""
    return TraitSnapshot(parent.id, snapshot_schema(parent).empty_table())


def snapshot_schema(parent: ParentModel) -> Any:
    """Give the Arrow schema of the parent's snapshots."""
    declared = [pa.field(column.name, ARROW_TYPES[column.type]) for column in parent.columns.values()]
    return pa.schema([pa.field(KEY, pa.string()), pa.field(PARTITION, pa.int16()), *declared])


def _check_names(parent: ParentModel) -> None:
    for name in parent.columns:
        if name in (KEY, PARTITION):
            message = f"The trait {name!r} of {parent.id!r} has a name that snapshots use themselves."
            raise SnapshotError(message, reason="reserved_name", next_step="Give the column another name.")


def _check_bytes(batch: Batch, wanted: Wanted) -> None:
    """Text must be UTF-8 and offsets in range: a file can say anything, and kernels trust what they get."""
    try:
        batch.select(wanted.names()).validate(full=True)
    except pa.ArrowInvalid as error:
        message = f"{_first_up(wanted.where)} are damaged: {error}."
        raise SnapshotError(message, reason="damaged", next_step="Write the source anew.") from error


def _key_text(array: Any) -> Any:
    array = plain(array)
    kind = array.type
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    if not (is_text(kind) or whole or pa.types.is_null(kind)):
        raise WrongType(_KEYS)
    return to_text(array)


def _converter(type_: ValueType) -> Callable[[Any], Any]:
    return lambda array: convert(array, type_)


def _check_unique(keys: ChunkedArray, wanted: Wanted) -> None:
    distinct = pc.count_distinct(keys).as_py()
    if distinct == len(keys):
        return
    counts = pa.table({KEY: keys}).group_by(KEY).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts.column("count_all"), 1)).slice(0, 1).to_pylist()[0]
    message = (f"{_first_up(wanted.where)}: the key column {wanted.key!r} has {len(keys) - distinct} row(s) "
               f"with a key that came before; {twice[KEY]!r} for one comes {twice['count_all']} times. "
               "Allowed: each key once (12 and \"12\" are the same key).")  # fmt: skip
    raise SnapshotError(message, reason="duplicate_key", next_step="Leave one row a key.")


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
