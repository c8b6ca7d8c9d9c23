"""The users of `traits`: what they have is a function of their number, and of whether they have changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.core import event_model, published_of
from benchmarks.workloads import user_keys
from cluster.definitions.model import Published

_WRITE_ROWS: Final = 500_000
#: 2026-11-30T00:00:00Z: what "30 days ago" is counted from in the data.
_NOW_S: Final = 1_795_996_800
#: Of so many users one has changed traits in the next day's snapshot, is new, is gone.
_CHANGED_EVERY, _NEW_EVERY, _GONE_EVERY = 20, 100, 100
#: A tenth of the users have a higher one.
_LTV_OF_A_TENTH: Final = 540
TRAITS: Final[dict[str, str]] = {
    "ltv": "number", "orders": "number", "tier": "string", "country": "string", "last_seen": "timestamp",
    "opted_in": "boolean", "interests": "list", "email": "string",
}  # fmt: skip
TIERS: Final = ("bronze", "silver", "gold", "platinum")
_COUNTRIES: Final = tuple(f"C{number:03}" for number in range(200))
_INTERESTS: Final = tuple(f"interest_{number}" for number in range(50))


def definitions(traits: int = len(TRAITS), *, tenth: bool = False) -> Published:
    """Give 20 audiences over the traits; beyond the eight, more numbers that no audience reads.

    A user is in 8 of them; `tenth`: those with much ltv are in 11, nine of ten users in none.
    """
    columns = {**TRAITS, **{f"score_{number}": "number" for number in range(traits - len(TRAITS))}}
    parent = {"id": "users", "primary_key": "user_id", "traits": {
        "columns": {name: {"type": kind} for name, kind in columns.items()}}}  # fmt: skip
    quiet = {"not": {"event": "e0", "within": "5m"}}
    wheres = [
        *({"trait": "ltv", "gt": 60 * step} for step in range(6)), *({"trait": "tier", "eq": tier} for tier in TIERS),
        {"trait": "country", "in": list(_COUNTRIES[:20])}, {"trait": "opted_in", "eq": True},
        {"trait": "interests", "has_any": list(_INTERESTS[:3])}, {"trait": "orders", "gte": 10},
        {"trait": "email", "ends_with": "9@example.com"}, {"trait": "last_seen", "within_last": "30d"},
        *({"all": [{"trait": "ltv", "between": [low, low + 100]}, quiet]} for low in (0, 100, 200, 300)),
    ]  # fmt: skip
    if tenth:
        wheres = [{"all": [where, {"trait": "ltv", "gt": _LTV_OF_A_TENTH}]} for where in wheres]
    audiences = [{"id": f"a{place}", "parent": "users", "where": where} for place, where in enumerate(wheres)]
    return published_of({
        "version": 1, "parent_models": [parent], "event_models": [event_model(0, {})], "audiences": audiences,
    })  # fmt: skip


def write_users(path: Path, numbers: np.ndarray, changed: np.ndarray, traits: int = len(TRAITS)) -> None:
    """Write users by number; those in `changed` (a mask by number) have other values than before."""
    writer: Any = None
    for start in range(0, len(numbers), _WRITE_ROWS):
        rows = _rows(numbers[start : start + _WRITE_ROWS], changed, traits)
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    writer.close()


def _rows(numbers: np.ndarray, changed: np.ndarray, traits: int) -> pa.Table:
    """Give rows whose values are a hash of the number, and of whether it has changed."""
    seeds = numbers.astype(np.uint64) * np.uint64(2) + changed[numbers].astype(np.uint64)

    def drawn(salt: int, most: int) -> np.ndarray:
        mixed = (seeds + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        spread = (mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(40)
        return np.asarray(spread.astype(np.int64) % most)

    keys = user_keys(numbers)
    lists = pa.array(np.arange(0, 2 * len(numbers) + 1, 2, dtype=np.int32))
    interests = pa.array(np.stack([drawn(7, 50), drawn(8, 50)], axis=1).reshape(-1))
    columns = {
        "user_id": keys,
        "ltv": pa.array(drawn(1, 60_000) / 100.0),
        "orders": pa.array(drawn(2, 50)),
        "tier": pa.array(TIERS).take(pa.array(drawn(3, len(TIERS)))),
        "country": pa.array(_COUNTRIES).take(pa.array(drawn(4, len(_COUNTRIES)))),
        "last_seen": pa.array((_NOW_S - drawn(5, 90 * 86_400)) * 1_000_000, pa.timestamp("us", "UTC")),
        "opted_in": pa.array(drawn(6, 2) == 1),
        "interests": pa.ListArray.from_arrays(lists, pa.array(_INTERESTS).take(interests)),
        "email": pc.binary_join_element_wise(keys, pa.scalar("@example.com"), ""),
    }
    extra = {f"score_{number}": pa.array(drawn(20 + number, 1_000) / 10.0) for number in range(traits - len(TRAITS))}
    return pa.table({**columns, **extra})


def write_two_days(folder: Path, users: int, traits: int) -> None:
    """Write `1.parquet` and the next day's `2.parquet`: some users have other traits in it, some are new, some gone."""
    numbers, new = np.arange(users), np.arange(users, users + users // _NEW_EVERY)
    changed = np.zeros(users + len(new), np.bool_)
    write_users(folder / "1.parquet", numbers, changed, traits)
    kept = numbers[numbers % _GONE_EVERY != 1]
    changed[kept[::_CHANGED_EVERY]] = True
    write_users(folder / "2.parquet", np.concatenate([kept, new]), changed, traits)


def members_expected(row: dict[str, Any], *, tenth: bool) -> list[bool]:
    """Give in which of the first ten audiences a user of a stored snapshot is."""
    found = [*(row["ltv"] > 60 * place for place in range(6)), *(row["tier"] == tier for tier in TIERS)]
    return [member and (not tenth or row["ltv"] > _LTV_OF_A_TENTH) for member in found]
