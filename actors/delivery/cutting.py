"""Records to requests' worth: by what they have in common, by count and by bytes, each user's order kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.delivery.ids import part_id
from actors.delivery.outbox import stretches
from actors.delivery.plans import SyncPlan
from actors.delivery.rows import StoredRow
from destinations.records import Batch, Record


@dataclass(slots=True)
class _Group:
    key: str
    indexes: list[int] = field(default_factory=list)
    size_bytes: int = 0


def cut_records(
    users: Sequence[str], keys: Sequence[str], sizes: Sequence[int], *, records_max: int, bytes_max: int | None,
    once: bool = False,
) -> list[tuple[str, list[int]]]:  # fmt: skip
    """Give groups of one key each, in sending order, as `(key, indexes)`.

    A record joins the latest group of its key unless that is full, or goes before a group that holds an earlier record
    of its user, or with `once` is that group. Every size is at most `bytes_max`.
    """
    if 0 < len(users) <= records_max and len(set(keys)) == 1:
        fits = bytes_max is None or sum(sizes) <= bytes_max
        if fits and (not once or len(set(users)) == len(users)):
            return [(keys[0], list(range(len(users))))]
    groups: list[_Group] = []
    latest: dict[str, int] = {}
    latest_of_user: dict[str, int] = {}
    for index, (user, key, size) in enumerate(zip(users, keys, sizes, strict=True)):
        at = latest.get(key)
        if (
            at is None
            or at < latest_of_user.get(user, -1) + once
            or len(groups[at].indexes) >= records_max
            or (bytes_max is not None and groups[at].size_bytes + size > bytes_max)
        ):
            at = latest[key] = len(groups)
            groups.append(_Group(key))
        groups[at].indexes.append(index)
        groups[at].size_bytes += size
        latest_of_user[user] = at
    return [(group.key, group.indexes) for group in groups]


def to_rows(
    plan: SyncPlan, batch_id: str, order: int, span: int, records: Sequence[Record]
) -> tuple[list[StoredRow], list[Record]]:
    """Give the batches of a batch's records, one or more in its place, and the records that are too large to send."""
    limits = plan.kind.limits(plan.settings)
    keys = [plan.kind.batch_key(plan.settings, record) for record in records]
    sizes = [0] * len(records)
    too_large: list[Record] = []
    if limits.bytes_max is not None:
        sizes = [plan.kind.size_bytes(plan.settings, record) for record in records]
        fits = [index for index, size in enumerate(sizes) if size + limits.bytes_around <= limits.bytes_max]
        if len(fits) < len(records):
            fitting = set(fits)
            too_large = [record for index, record in enumerate(records) if index not in fitting]
        records, keys, sizes = [records[i] for i in fits], [keys[i] for i in fits], [sizes[i] for i in fits]
    if not records:
        return [], too_large
    groups = cut_records(
        [record.user_id for record in records], keys, sizes,
        records_max=plan.config.batch_records,
        bytes_max=None if limits.bytes_max is None else limits.bytes_max - limits.bytes_around,
        once=plan.newest_counts,
    )  # fmt: skip
    places = [(order, span)] if len(groups) == 1 else stretches(order, span, len(groups))
    rows = []
    for number, ((key, indexes), (part_order, part_span)) in enumerate(zip(groups, places, strict=True)):
        # Only a batch of its own goes under the batch's id: other contents never travel under the same id.
        id_ = batch_id if len(groups) == 1 else part_id(batch_id, f"part {number}")
        chosen = tuple(records[index] for index in indexes)
        rows.append(to_row(plan, id_, part_order, part_span, key, chosen))
    return rows, too_large


def to_row(
    plan: SyncPlan, id_: str, order: int, span: int, key: str, records: tuple[Record, ...], attempts: int = 0,
    first_attempt_ms: int = 0, next_attempt_ms: int = 0,
) -> StoredRow:  # fmt: skip
    """Encode records as one batch."""
    body = plan.kind.encode(plan.settings, Batch(id_, plan.sync.id, records, key))
    return StoredRow(order, id_, records, body, attempts, first_attempt_ms, next_attempt_ms, span, key)
