"""`traits`: what the users have is a function of their number, and the quick size runs to its end with every check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.bench_traits import MANY_TRAITS, measure
from benchmarks.traits_live import load
from benchmarks.traits_users import TRAITS, definitions, write_users


def test_values_of_a_user_change_with_the_mark_and_with_nothing_else(tmp_path: Path) -> None:
    numbers, calm, changed = np.arange(1_000), np.zeros(1_000, np.bool_), np.zeros(1_000, np.bool_)
    changed[::20] = True
    write_users(tmp_path / "a.parquet", numbers, calm)
    write_users(tmp_path / "b.parquet", numbers[::-1].copy(), changed)
    first, second = (pq.read_table(tmp_path / name).sort_by("user_id") for name in ("a.parquet", "b.parquet"))
    assert first.column("user_id").equals(second.column("user_id"))
    differing = np.array([one != other for one, other in zip(first.to_pylist(), second.to_pylist(), strict=True)])
    marked = np.array([int(key.removeprefix("user_")) % 20 == 0 for key in first.column("user_id").to_pylist()])
    assert (differing <= marked).all()
    assert differing.sum() > 45


@pytest.mark.parametrize("traits", [len(TRAITS), MANY_TRAITS])
def test_a_load_reads_every_trait(tmp_path: Path, traits: int) -> None:
    write_users(tmp_path / "users.parquet", np.arange(300), np.zeros(300, np.bool_), traits)
    loaded = load(tmp_path / "users.parquet", tmp_path / "stored", traits)
    assert loaded.rows == 300
    assert Path(loaded.path).exists()
    assert len(definitions(traits).definitions.parent_models["users"].columns) == traits


def test_the_quick_size_runs_and_every_check_holds() -> None:
    steps: list[str] = []
    result = measure(True, steps.append)
    assert [check.name for check in result.checks if not check.passed] == []
    assert len(result.notes) == 3
    for noted in result.notes.values():
        assert noted["next day"]["transitions"] > 0
        assert noted["unchanged"]["transitions"] == 0
    all_in, tenth, _ = (noted["first"]["transitions"] for noted in result.notes.values())
    assert 0 < 5 * tenth < all_in
    assert steps
