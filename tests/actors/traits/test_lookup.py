"""Look-ups give the row of each key, or say that there is none."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from actors.traits.lookup import ABSENT, TraitLookup
from actors.traits.snapshot import build_snapshot, empty_snapshot
from tests.actors.traits.making import parent, table

keys = st.text(min_size=1, max_size=3)


@given(st.lists(keys, unique=True, max_size=30), st.lists(keys, max_size=30), st.integers(1, 5))
def test_every_key_finds_its_own_row(stored: list[str], asked: list[str], chunk: int) -> None:
    rows = pa.table({"user_id": pa.array(stored, pa.string()), "ltv": pa.array(range(len(stored)), pa.float64())})
    chunks = [rows.slice(i, chunk) for i in range(0, len(stored), chunk)] or [rows]
    lookup = TraitLookup(build_snapshot(pa.concat_tables(chunks), parent({"ltv": "number"}), 8).table)
    wanted = [stored.index(key) if key in stored else None for key in asked]
    assert lookup.rows(asked).tolist() == [ABSENT if row is None else row for row in wanted]
    found = lookup.get(asked, ["ltv"]).column("ltv").to_pylist()
    assert found == [None if row is None else float(row) for row in wanted]


def test_keys_of_one_hash_are_told_apart() -> None:
    lookup = TraitLookup(build_snapshot(table(4), parent(), 8).table)
    # As if all keys, stored and asked for, had the hash of u2.
    lookup._hashes[:] = lookup._hashes[lookup._rows.tolist().index(2)]
    assert lookup.rows(["u2"]).tolist() == [2]
    assert lookup.rows(["u0"]).tolist() == [ABSENT]


def test_an_empty_snapshot_has_nobody() -> None:
    lookup = TraitLookup(empty_snapshot(parent()).table)
    assert lookup.rows(["u0"]).tolist() == [ABSENT]
    assert lookup.get(["u0"], ["ltv", "tier"]).to_pydict() == {"ltv": [None], "tier": [None]}
    assert lookup.rows([]).tolist() == []
