"""What counts as reached, and what makes a case fail."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from benchmarks.main import figure_row, to_document
from benchmarks.results import CURVE_POINTS, CaseResult, Check, Figure, curve, equal, quantile


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("ratio", 8.0, "times", 8.0), True),
        (Figure("ratio", 7.99, "times", 8.0), False),
        (Figure("p99", 150.0, "ms", 150.0, "lower"), True),
        (Figure("p99", 150.1, "ms", 150.0, "lower"), False),
        (Figure("p99", None, "ms", 150.0, "lower"), False),
        (Figure("bytes", 12.0), None),
    ],
)
def test_a_target_is_met_at_the_target_and_never_by_nothing(figure: Figure, met: bool | None) -> None:
    assert figure.met is met
    assert len(figure_row(figure)) == 5


def test_a_missed_target_is_a_finding_and_a_failed_check_a_failure() -> None:
    missed = CaseResult("read", [Figure("ratio", 0.1, "times", 0.85)], [Check("answers", True)])
    assert missed.passed
    assert not CaseResult("read", [], [Check("answers", True), equal("members", 3, 4)]).passed
    assert equal("members", 3, 4).detail == "found 3, expected 4"


def test_a_result_survives_its_way_out_of_its_process() -> None:
    result = CaseResult("read", [Figure("p99", None, "ms", 5.0, "lower")], [Check("x", True)], {"c": curve([1, 2])})
    assert msgspec.json.decode(msgspec.json.encode(result), type=CaseResult) == result
    document = to_document(result)
    assert (document["passed"], document["figures"][0]["met"]) == (True, False)


def test_curves_are_quantiles() -> None:
    points = curve(np.arange(1_001.0))
    assert len(points) == CURVE_POINTS
    assert (points[0], points[500], points[-1]) == (0.0, 500.0, 1_000.0)
    assert quantile(np.arange(101.0), 0.99) == pytest.approx(99.0)
    assert (quantile([], 0.5), curve([])) == (None, [])
    assert not any(map(math.isnan, points))
