"""What became of each row of a request, from what became of its hits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: The evaluator's outcome of a hit (docs/architecture.md §3).
ACCEPTED, DUPLICATE, TOO_LATE = 0, 1, 2


class RowOutcomes(NamedTuple):
    """Every row is counted once: accepted, duplicate, or rejected with its reason; `rejected` is ascending by row."""

    accepted: int
    duplicates: int
    rejected: list[tuple[int, str]]


def row_outcomes(
    row_count: int, rejected: Iterable[tuple[int, str]], hit_rows: npt.NDArray[np.integer], outcomes: bytes
) -> RowOutcomes:
    """Judge the rows: accepted when any model took it, else `too_late` if any model said so, else a duplicate.

    `hit_rows` and `outcomes` (one byte a hit) belong together, in any order; `rejected` are the rows without hits.
    """
    taken, late, repeated = (np.zeros(row_count, np.bool_) for _ in range(3))
    codes = np.frombuffer(outcomes, np.uint8)
    for mask, code in ((taken, ACCEPTED), (repeated, DUPLICATE), (late, TOO_LATE)):
        mask[hit_rows[codes == code]] = True
    late &= ~taken
    repeated &= ~taken & ~late
    late_rows = [(row, "too_late") for row in np.flatnonzero(late).tolist()]
    return RowOutcomes(int(taken.sum()), int(repeated.sum()), sorted([*rejected, *late_rows]))
