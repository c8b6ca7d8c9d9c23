"""What a case hands back: figures with their targets, checks of correctness, curves and lines for plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

#: Points of a curve: every tenth of a percent.
CURVE_POINTS = 1_001


class Figure(msgspec.Struct, frozen=True):
    """One measured number, None where nothing came to be measured: that meets no target.

    Without a target it only informs; `better` says on which side of it is good.
    """

    name: str
    value: float | None
    unit: str = ""
    target: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


class Check(msgspec.Struct, frozen=True):
    """Whether something that must be so was so, in the very run that was measured."""

    name: str
    passed: bool
    detail: str = ""


class Line(msgspec.Struct, frozen=True):
    """One line of a plot: `y` over `x`, both of one length, in the units that the plot's labels name."""

    name: str
    x: list[float]
    y: list[float]


class LinePlot(msgspec.Struct, frozen=True):
    """Lines over one x; those of `right` have an axis of their own, so that two units can be seen together.

    `name` distinguishes the plots of one case; `limit` draws a level across the left axis, called `limit_name`.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    right_label: str = ""
    right: list[Line] = []
    log_x: bool = True
    log_y: bool = False
    limit: float | None = None
    limit_name: str = ""
    markers: bool = True


class BarPlot(msgspec.Struct, frozen=True):
    """Groups of bars: one group a name of `groups`, in it one bar of each of `bars` (its `y`, by group)."""

    name: str
    title: str
    x_label: str
    groups: list[str]
    bars: list[Line]


class Table(msgspec.Struct, frozen=True):
    """Figures that say more beside each other than one by one."""

    title: str
    columns: list[str]
    rows: list[list[str | float]]


class CaseResult(msgspec.Struct, frozen=True):
    """Everything one case found. `curves`: sorted quantiles (0 to 1 in CURVE_POINTS steps) by name, in ms."""

    case: str
    figures: list[Figure]
    checks: list[Check]
    curves: dict[str, list[float]] = {}
    notes: dict[str, Any] = {}
    plots: list[LinePlot] = []
    bar_plots: list[BarPlot] = []
    tables: list[Table] = []
    seconds: float = 0.0
    quick: bool = False

    @property
    def passed(self) -> bool:
        """Whether every check held; a missed target is a finding, a failed check makes the figures worthless."""
        return all(check.passed for check in self.checks)


def equal(name: str, found: object, expected: object) -> Check:
    """Check that two things are equal, and show both where they are not."""
    same = found == expected
    return Check(name, bool(same), "" if same else f"found {found!r}, expected {expected!r}"[:500])


def quantile(samples: np.ndarray | Sequence[float], share: float) -> float | None:
    """Give a quantile as a number to print; None of nothing."""
    return round(float(np.quantile(samples, share)), 3) if len(samples) else None


def curve(samples: np.ndarray | Sequence[float]) -> list[float]:
    """Give the quantiles of a distribution, rounded to µs."""
    if not len(samples):
        return []
    points = np.quantile(samples, np.linspace(0, 1, CURVE_POINTS))
    return [round(float(point), 3) for point in points]
