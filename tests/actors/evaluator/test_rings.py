"""Rings keep exactly the n latest timestamps, whatever order they come in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluator.kernels.rings import ring_clear, ring_insert, ring_nth
from actors.evaluator.layout import NEVER_BEFORE


@given(st.integers(1, 9), st.lists(st.integers(-50, 50), max_size=60))
def test_a_ring_keeps_the_n_latest_in_any_order(capacity: int, times: list[int]) -> None:
    arena = np.zeros(64, np.int64)
    ring_clear(arena, 5, capacity)
    for seen, ts in enumerate(times, start=1):
        before = [ring_nth(arena, 5, capacity, n) for n in range(1, capacity + 1)]
        inserted = ring_insert(arena, 5, capacity, ts)
        latest = sorted(times[:seen], reverse=True)[:capacity]
        wanted = latest + [NEVER_BEFORE] * (capacity - len(latest))
        assert [ring_nth(arena, 5, capacity, n) for n in range(1, capacity + 1)] == wanted
        assert inserted == (wanted != before), "False exactly when nothing that is kept changed"
    assert not arena[:5].any()
    assert not arena[5 + capacity + 1 :].any(), "a ring writes only its own words"
