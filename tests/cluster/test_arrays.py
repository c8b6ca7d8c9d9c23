"""Arrays that grow in their place: the same memory, longer, and never somebody else's."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cluster import arrays
from cluster.arrays import growing_zeros, grown_in_place, line_zeros


@pytest.mark.skipif(sys.platform != "linux", reason="addresses are reserved on Linux alone")
def test_a_large_array_grows_where_it_is_and_a_small_one_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "GROWS_IN_PLACE_BYTES", 4_096)
    first = growing_zeros((1_000, 3), np.int64)
    first[:] = 7
    longer = grown_in_place(first, 200_000)
    assert longer is not None
    assert np.shares_memory(first, longer)
    assert (longer[:1_000] == 7).all()
    assert not longer[1_000:].any()
    longer[199_999] = 5
    assert grown_in_place(first, 2_000) is None  # what lies behind it is the longer one's
    assert grown_in_place(longer[:10], 2_000) is None
    again = grown_in_place(longer, 300_000)
    assert again is not None
    assert again[199_999].tolist() == [5, 5, 5]
    assert grown_in_place(growing_zeros((10, 3), np.int64), 20) is None
    assert grown_in_place(line_zeros((1_000, 3), np.int64), 2_000) is None


@pytest.mark.skipif(sys.platform != "linux", reason="addresses are reserved on Linux alone")
def test_where_the_system_gives_no_addresses_ahead_an_array_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        message = "Cannot allocate memory"
        raise OSError(message)

    monkeypatch.setattr(arrays, "GROWS_IN_PLACE_BYTES", 4_096)
    monkeypatch.setattr(arrays, "_Reserve", refused)
    assert not growing_zeros((1_000, 3), np.int64).any()
