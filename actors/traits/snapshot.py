"""A trait table as it was read, checked and typed once: the snapshot that every evaluator takes whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from actors.traits.columns import ARROW_TYPES, WrongType, convert, is_text, plain, to_text
from cluster.definitions.model import ParentModel, ValueType
from cluster.errors import SnapshotError
from cluster.limits import KEY_BYTES_MAX
from cluster.model.partitions import partitions_of

#: An Arrow table; pyarrow ships no types.
Table: TypeAlias = Any
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


def needed_columns(parent: ParentModel) -> list[str]:
    """Name the columns that a source must have: the key, then the traits (once, should the key be one)."""
    return list(dict.fromkeys([parent.primary_key, *parent.columns]))


def build_snapshot(table: Table, parent: ParentModel, partitions: int) -> TraitSnapshot:
    """Type and check a table that has at least `needed_columns(parent)`.

    Raises `SnapshotError` with reason `missing_column`, `ambiguous_column`, `wrong_type`, `damaged`, `null_key`,
    `empty_key`, `key_too_long`, `duplicate_key` or `reserved_name`. About 1 s a million users with eight traits.
    """
    check_schema(table.schema, parent, where=f"the traits of {parent.id!r}")
    _check_bytes(table, parent)
    keys = _keys(table.column(parent.primary_key), parent)
    columns = [keys, _partitions(keys, partitions)]
    columns += [_typed(table.column(c.name), c.name, c.type, parent) for c in parent.columns.values()]
    return TraitSnapshot(parent.id, pa.table(columns, schema=snapshot_schema(parent)))


def empty_snapshot(parent: ParentModel) -> TraitSnapshot:
    """Give a snapshot without rows: every trait of every user is missing."""
    return TraitSnapshot(parent.id, snapshot_schema(parent).empty_table())


def snapshot_schema(parent: ParentModel) -> Any:
    """Give the Arrow schema of the parent's snapshots."""
    declared = [pa.field(column.name, ARROW_TYPES[column.type]) for column in parent.columns.values()]
    return pa.schema([pa.field(KEY, pa.string()), pa.field(PARTITION, pa.int16()), *declared])


def check_schema(schema: Any, parent: ParentModel, where: str) -> None:
    """Raise `SnapshotError` unless every needed column is there exactly once; cheap, before any data is read."""
    for name in parent.columns:
        if name in (KEY, PARTITION):
            message = f"The trait {name!r} of {parent.id!r} has a name that snapshots use themselves."
            raise SnapshotError(message, reason="reserved_name", next_step="Give the column another name.")
    for name in needed_columns(parent):
        count = len(schema.get_all_field_indices(name))
        if count == 1:
            continue
        found = ", ".join(schema.names) or "none"
        if count == 0:
            message = f"{where}: the column {name!r} is missing; found columns: {found}."
            step = "Add it to the source or take it out of the definitions."
            raise SnapshotError(message, reason="missing_column", next_step=step)
        message = f"{where}: {count} columns are called {name!r}."
        raise SnapshotError(message, reason="ambiguous_column", next_step="Leave one of them.")


def _check_bytes(table: Table, parent: ParentModel) -> None:
    """Text must be UTF-8 and offsets in range: a file can say anything, and kernels trust what they get."""
    try:
        table.select(needed_columns(parent)).validate(full=True)
    except pa.ArrowInvalid as error:
        message = f"The traits of {parent.id!r} are damaged: {error}."
        raise SnapshotError(message, reason="damaged", next_step="Write the source anew.") from error


def _keys(column: ChunkedArray, parent: ParentModel) -> ChunkedArray:
    """Give the keys as text, checked."""
    keys = _by_chunk(column, _key_text, pa.string(), parent.primary_key, parent)
    if keys.null_count:
        raise _bad_key(parent, "null_key", pc.is_null(keys), "null", "a text or a whole number")
    lengths = pc.binary_length(keys)
    if pc.any(pc.equal(lengths, 0)).as_py():
        raise _bad_key(parent, "empty_key", pc.equal(lengths, 0), "an empty text", "1 byte or more")
    if pc.any(pc.greater(lengths, KEY_BYTES_MAX)).as_py():
        found = f"{pc.max(lengths).as_py()} bytes"
        raise _bad_key(
            parent, "key_too_long", pc.greater(lengths, KEY_BYTES_MAX), found, f"at most {KEY_BYTES_MAX} bytes"
        )
    _check_unique(keys, parent)
    return keys


def _key_text(array: Any) -> Any:
    array = plain(array)
    kind = array.type
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    if not (is_text(kind) or whole or pa.types.is_null(kind)):
        raise WrongType(_KEYS)
    return to_text(array)


def _bad_key(parent: ParentModel, reason: str, wrong: ChunkedArray, found: str, allowed: str) -> SnapshotError:
    count, first = pc.sum(wrong).as_py(), pc.index(wrong, True).as_py()
    message = (f"The traits of {parent.id!r}: the key column {parent.primary_key!r} holds {found} in {count} row(s), "
               f"first in row {first}; allowed: {allowed}.")  # fmt: skip
    return SnapshotError(message, reason=reason, next_step="Correct or leave out these rows.")


def _check_unique(keys: ChunkedArray, parent: ParentModel) -> None:
    distinct = pc.count_distinct(keys).as_py()
    if distinct == len(keys):
        return
    counts = pa.table({KEY: keys}).group_by(KEY).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts.column("count_all"), 1)).slice(0, 1).to_pylist()[0]
    message = (f"The traits of {parent.id!r}: the key column {parent.primary_key!r} has {len(keys) - distinct} row(s) "
               f"with a key that came before; {twice[KEY]!r} for one comes {twice['count_all']} times. "
               "Allowed: each key once (12 and \"12\" are the same key).")  # fmt: skip
    raise SnapshotError(message, reason="duplicate_key", next_step="Leave one row a key.")


def _partitions(keys: ChunkedArray, partitions: int) -> ChunkedArray:
    return pa.chunked_array(
        [pa.array(partitions_of(chunk.cast(pa.binary()).to_pylist(), partitions), pa.int16()) for chunk in keys.chunks],
        pa.int16(),
    )


def _typed(column: ChunkedArray, name: str, type_: ValueType, parent: ParentModel) -> ChunkedArray:
    return _by_chunk(column, lambda chunk: convert(chunk, type_), ARROW_TYPES[type_], name, parent, type_)


def _by_chunk(
    column: ChunkedArray,
    convert_chunk: Callable[[Any], Any],
    kind: Any,
    name: str,
    parent: ParentModel,
    declared: str = "key",
) -> ChunkedArray:
    """Convert chunk by chunk: a whole text column may be larger than one Arrow string array can be (2 GiB)."""
    chunks: Sequence[Any] = column.chunks or [pa.array([], column.type)]
    try:
        return pa.chunked_array([convert_chunk(chunk) for chunk in chunks], kind)
    except WrongType as error:
        message = (f"The traits of {parent.id!r}: the column {name!r} is declared {declared}, "
                   f"found Arrow type {column.type}; allowed: {error.allowed}.")  # fmt: skip
        step = "Change the column's type in the definitions or in the source."
        raise SnapshotError(message, reason="wrong_type", next_step=step) from error
    except pa.ArrowException as error:
        message = f"The traits of {parent.id!r}: the column {name!r} cannot be read as {declared}: {error}."
        raise SnapshotError(message, reason="damaged", next_step="Write the source anew.") from error
