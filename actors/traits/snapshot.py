"""A parent model's tables, joined by key and dealt to partitions: the snapshot that every evaluator takes whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from actors.traits.columns import ARROW_TYPES
from actors.traits.related import Related
from actors.traits.tables import Keyed, TableBuilder, places_of
from actors.traits.wanted import check_names, check_schema, first_up, main_table, wanted_of
from cluster.definitions.model import ParentModel
from cluster.model.partitions import partitions_of

#: An Arrow table; pyarrow ships no types.
Table: TypeAlias = Any
ChunkedArray: TypeAlias = Any

#: The snapshot's own columns, before the declared ones.
KEY: Final = "key"
PARTITION: Final = "partition"


@dataclass(frozen=True, slots=True)
class TraitSnapshot:
    """A parent model's traits.

    `table`: columns `key` (string, unique, not null), `partition` (int16), then one a declared trait, in the
    document's order: number float64, boolean bool, timestamp int64 (ms), string, list list<string>; null is missing.
    `left_out`: per related table the rows that name no user: `no_key`, and `no_user` for keys that are nobody's.
    """

    parent: str
    table: Table
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def row_count(self) -> int:
        """How many users have a row."""
        return int(self.table.num_rows)


def join_tables(
    parent: ParentModel, partitions: int, tables: Sequence[Keyed], related: Mapping[str, Related]
) -> TraitSnapshot:
    """Give every user of any table a row, and the related traits; without tables, of any related table.

    A user whom one table lacks has its traits missing. Raises `SnapshotError`, reason `reserved_name`.
    """
    check_names(parent.snapshot_columns, (KEY, PARTITION), parent.id)
    keys = _all_keys([table.keys for table in tables] or [one.traits.keys for one in related.values()])
    columns: dict[str, ChunkedArray] = {}
    left_out: dict[str, dict[str, int]] = {}
    for keyed in (*tables, *(one.traits for one in related.values())):
        columns |= keyed.columns if keyed.keys is keys else _placed(keyed, keys)
    for name, one in related.items():
        strangers = pc.is_null(places_of(one.traits.keys, keys))
        rows = pc.sum(pc.if_else(strangers, one.rows, 0)).as_py() or 0
        counts = {"no_key": one.without_key, "no_user": rows}
        left_out |= {name: counts} if any(counts.values()) else {}
    dealt = [pa.array(partitions_of(chunk, partitions), pa.int16()) for chunk in keys.chunks]
    arrays = [keys, pa.chunked_array(dealt, pa.int16()), *(columns[name] for name in parent.snapshot_columns)]
    return TraitSnapshot(parent.id, pa.table(arrays, schema=snapshot_schema(parent)), left_out)


def build_snapshot(table: Table, parent: ParentModel, partitions: int) -> TraitSnapshot:
    """Type and check a table that is at hand: what reading its batches from one source gives."""
    wanted = wanted_of(main_table(parent, None), parent)
    check_schema(table.schema.names, wanted, where=first_up(wanted.where))
    builder = TableBuilder(wanted)
    for batch in table.select(wanted.names()).to_batches():
        builder.add(batch)
    return join_tables(parent, partitions, [builder.finish()], {})


def empty_snapshot(parent: ParentModel) -> TraitSnapshot:
    """Give a snapshot without rows: every trait of every user is missing."""
    return TraitSnapshot(parent.id, snapshot_schema(parent).empty_table())


def snapshot_schema(parent: ParentModel) -> Any:
    """Give the Arrow schema of the parent's snapshots."""
    declared = [pa.field(column.name, ARROW_TYPES[column.type]) for column in parent.snapshot_columns.values()]
    return pa.schema([pa.field(KEY, pa.string()), pa.field(PARTITION, pa.int16()), *declared])


def _all_keys(each: Sequence[ChunkedArray]) -> ChunkedArray:
    """Give the keys of all tables, each once: the first table's in its order, then what the others add."""
    keys = each[0] if each else pa.chunked_array([], pa.string())
    for others in each[1:]:
        new = others.filter(pc.is_null(places_of(others, keys)))
        if len(new):
            keys = pa.chunked_array([*keys.chunks, *new.chunks], pa.string())
    return keys


def _placed(keyed: Keyed, keys: ChunkedArray) -> dict[str, ChunkedArray]:
    """Give a table's columns in the order of `keys`."""
    places = places_of(keys, keyed.keys)
    return {
        name: _taken(column, places, keyed.defaults.get(name), len(keyed.keys))
        for name, column in keyed.columns.items()
    }


def _taken(column: ChunkedArray, places: ChunkedArray, default: Any, rows: int) -> ChunkedArray:
    if default is not None:
        # The default stands behind the last row, where those whom the table does not have find it.
        column = pa.chunked_array([*column.chunks, pa.array([default], column.type)], column.type)
        places = pc.fill_null(places, rows)
    return column.take(places)
