"""Every row is counted once."""

from __future__ import annotations

import numpy as np

from cluster.admission.outcomes import row_outcomes


def test_a_row_is_accepted_when_any_model_takes_it() -> None:
    assert row_outcomes(1, [], np.array([0, 0, 0]), bytes([1, 0, 2])) == (1, 0, [])


def test_a_row_no_model_takes_is_too_late_before_it_is_a_duplicate() -> None:
    assert row_outcomes(2, [], np.array([0, 0, 1]), bytes([1, 2, 1])) == (0, 1, [(0, "too_late")])


def test_rows_without_hits_keep_their_reason_and_all_are_ordered() -> None:
    rejected = [(0, "no_key"), (3, "no_model")]
    assert row_outcomes(5, rejected, np.array([4, 2, 1]), bytes([0, 2, 1])) == (
        1, 1, [(0, "no_key"), (2, "too_late"), (3, "no_model")],
    )
