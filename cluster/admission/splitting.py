"""A decoded batch dealt out to the evaluators that own its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.admission.decoder import parse_events
from cluster.admission.structs import StructTree
from cluster.admission.timestamps import Format, Int64s
from cluster.admission.typing_columns import id_column
from cluster.admission.wire_paths import wire_path
from cluster.model.partitions import partitions_of


@dataclass(frozen=True, slots=True)
class Share:
    """What one owner gets. Row `r` of `envelope`, which `hits` call `r`, is row `rows[r]` of the whole batch.

    `hit_indices` are the places of `hits` in the whole batch's hits; both are ascending.
    """

    envelope: pa.RecordBatch
    hits: pa.RecordBatch
    rows: Int64s
    hit_indices: Int64s


def split(
    hits: pa.RecordBatch, envelope: pa.RecordBatch, partitions: int, owner_of_partition: Sequence[int]
) -> Mapping[int, Share]:
    """Deal a batch by the partition of each hit's key; a row with keys of two owners goes to both.

    Rows without hits go to the partition of `user_id`, else `anonymous_id`, else of the raw bytes. A single owner
    gets the batch as it is, nothing is copied. Owners that get nothing are left out.
    """
    owners = np.asarray(owner_of_partition, np.int64)
    if len(owners) != partitions:
        message = f"{len(owners)} owners are named for {partitions} partitions"
        raise ValueError(message)
    whole = Share(envelope, hits, np.arange(envelope.num_rows), np.arange(hits.num_rows))
    if (owners == owners[0]).all():
        return {int(owners[0]): whole} if envelope.num_rows else {}
    hit_rows = hits["row"].to_numpy().astype(np.int64)
    hit_owners = owners[partitions_of(hits["key"], partitions)]
    bare_rows = _rows_without_hits(envelope.num_rows, hit_rows)
    bare_owners = owners[fallback_partitions(envelope, bare_rows, partitions)]
    present = np.unique(np.concatenate([hit_owners, bare_owners])).tolist()
    if len(present) == 1:
        return {present[0]: whole}
    shares = {}
    for owner in present:
        hit_indices = np.flatnonzero(hit_owners == owner)
        rows = np.union1d(hit_rows[hit_indices], bare_rows[bare_owners == owner])
        renumbered = pa.array(np.searchsorted(rows, hit_rows[hit_indices]).astype(np.int32))
        own_hits = hits.take(pa.array(hit_indices)).set_column(0, hits.schema.field(0), renumbered)
        shares[owner] = Share(envelope.take(pa.array(rows)), own_hits, rows, hit_indices)
    return shares


def fallback_partitions(envelope: pa.RecordBatch, rows: Int64s, partitions: int) -> Int64s:
    """Give the partition that each of these rows, without a hit, is dealt to."""
    dealt: Int64s = np.asarray(partitions_of(_fallback_keys(envelope, rows), partitions), np.int64)
    return dealt


def _rows_without_hits(row_count: int, hit_rows: Int64s) -> Int64s:
    bare = np.ones(row_count, np.bool_)
    bare[hit_rows] = False
    return np.flatnonzero(bare)


def _fallback_keys(envelope: pa.RecordBatch, rows: Int64s) -> list[bytes]:
    """Give what rows without hits are dealt by."""
    keys = [b""] * len(rows)
    if not len(rows):
        return keys
    chosen = envelope.take(pa.array(rows))
    formats = chosen["format"].to_numpy()
    for fmt in np.unique(formats).tolist():
        places = np.flatnonzero(formats == fmt)
        for place, key in zip(places.tolist(), _ids_or_bytes(fmt, chosen["raw"].take(pa.array(places))), strict=True):
            keys[place] = key
    return keys


def _ids_or_bytes(fmt: int, raw: pa.BinaryArray) -> list[bytes]:
    user, anonymous = _id_paths(fmt)
    tree = _id_tree(fmt)
    events, _ = parse_events(tree, raw)
    reader = tree.reader(events)
    ids = pc.coalesce(id_column(reader.values(user)), id_column(reader.values(anonymous))).cast(pa.binary())
    found: list[bytes] = pc.coalesce(ids, raw).to_pylist()
    return found


def _id_paths(fmt: int) -> list[tuple[str, ...]]:
    paths = [wire_path(Format(fmt), (field,)) for field in ("user_id", "anonymous_id")]
    return [path for path in paths if path is not None]


@cache
def _id_tree(fmt: int) -> StructTree:
    return StructTree(_id_paths(fmt))
