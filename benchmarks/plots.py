"""Plots of a case: its targets, and the distributions that it measured. Needs the extra `bench` (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import CURVE_POINTS, CaseResult
from cluster.errors import InputError

#: The tail is what matters: quantiles are drawn by their distance from 1, to this.
_TAIL_SHOWN = 0.999


def require_matplotlib() -> Any:
    """Give pyplot, drawing to files alone; raises InputError that names the extra."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        message = f"Plots need matplotlib, which is not installed ({error})."
        raise InputError(message, next_step="pip install 'usher-audiences[bench]', or leave --out away.") from error
    return pyplot


def draw(result: CaseResult, folder: Path) -> list[Path]:
    """Draw what a case has to show; gives the files."""
    drawn = []
    if any(figure.target is not None and figure.value is not None for figure in result.figures):
        drawn.append(_draw_targets(result, folder / f"{result.case}-targets.png"))
    if any(result.curves.values()):
        drawn.append(_draw_curves(result, folder / f"{result.case}-latency.png"))
    return drawn


def _draw_targets(result: CaseResult, path: Path) -> Path:
    """Draw each figure as a part of its target: longer is better, 1 is met."""
    pyplot = require_matplotlib()
    shown = [figure for figure in result.figures if figure.target and figure.value]
    parts = [
        figure.value / figure.target if figure.better == "higher" else figure.target / figure.value
        for figure in shown
        if figure.value is not None and figure.target is not None
    ]
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.5 * len(shown)))
    colors = ["tab:green" if part >= 1 else "tab:red" for part in parts]
    axes.barh([one.name for one in shown], parts, color=colors)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("times better than the target asks (1: just met)")
    axes.invert_yaxis()
    axes.set_title(f"{result.case}: figures against their targets")
    return _save(pyplot, figure, path)


def _draw_curves(result: CaseResult, path: Path) -> Path:
    pyplot = require_matplotlib()
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    shares = np.linspace(0, 1, CURVE_POINTS)
    inside = shares <= _TAIL_SHOWN
    for name, points in result.curves.items():
        if points:
            axes.plot(1 / (1 - shares[inside]), np.asarray(points)[inside], label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xticks([1, 2, 10, 100, 1_000], ["0", "p50", "p90", "p99", "p99.9"])
    axes.set_ylabel("ms")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    axes.set_title(f"{result.case}: latency by quantile")
    return _save(pyplot, figure, path)


def _save(pyplot: Any, figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
