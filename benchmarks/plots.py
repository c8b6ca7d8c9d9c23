"""Plots of a case: its targets, its distributions, its lines. Needs the extra `bench` (matplotlib)."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import CURVE_POINTS, BarPlot, CaseResult, Line, LinePlot
from cluster.errors import InputError

#: The tail is what matters: quantiles are drawn by their distance from 1, to this.
_TAIL_SHOWN = 0.999
#: From so many on, a tick says 200k or 5M.
_THOUSAND, _MILLION = 1_000, 1_000_000
#: A bar's name is broken into lines of so many characters.
_NAME_CHARS = 36
#: The least ratio of ticks of a logarithmic axis that are both named: nearer ones would overlap.
_TICKS_APART = 1.6


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


def draw(result: CaseResult, folder: Path, footer: str = "") -> list[Path]:
    """Draw what a case has to show; gives the files. `footer` stands small below each plot: the machine."""
    drawn = []
    if any(figure.target is not None and figure.value is not None for figure in result.figures):
        drawn.append(_draw_targets(result, folder / f"{result.case}-targets.png", footer))
    if any(result.curves.values()):
        drawn.append(_draw_curves(result, folder / f"{result.case}-latency.png", footer))
    drawn += [_draw_bars(plot, folder / f"{result.case}-{plot.name}.png", footer) for plot in result.bar_plots]
    drawn += [_draw_lines(plot, folder / f"{result.case}-{plot.name}.png", footer) for plot in result.plots]
    return drawn


def _draw_targets(result: CaseResult, path: Path, footer: str) -> Path:
    """Draw each figure as a part of its target: longer is better, 1 is met."""
    pyplot = require_matplotlib()
    shown = [figure for figure in result.figures if figure.target and figure.value]
    parts = [
        figure.value / figure.target if figure.better == "higher" else figure.target / figure.value
        for figure in shown
        if figure.value is not None and figure.target is not None
    ]
    figure, axes = pyplot.subplots(figsize=(8, 1.6 + 0.6 * len(shown)), layout="constrained")
    colors = ["tab:green" if part >= 1 else "tab:red" for part in parts]
    bars = axes.barh([textwrap.fill(one.name, _NAME_CHARS) for one in shown], parts, color=colors)
    axes.bar_label(bars, [f"{part:.2g}" for part in parts], padding=4,
                   bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.set_xlim(right=1.15 * max(1.0, *parts))
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("times as good as the target (1: just met)")
    axes.invert_yaxis()
    axes.set_title(f"{result.case}: figures against their targets")
    return _save(figure, path, footer)


def _draw_bars(plot: BarPlot, path: Path, footer: str) -> Path:
    """Draw groups of bars from the top down, each with its value behind it."""
    pyplot = require_matplotlib()
    count = len(plot.bars)
    figure, axes = pyplot.subplots(figsize=(8, 1.4 + 0.22 * (count + 1) * len(plot.groups)), layout="constrained")
    places = np.arange(len(plot.groups)) * (count + 1.0)
    for index, line in enumerate(plot.bars):
        bars = axes.barh(places + index, line.y, height=0.9, label=line.name, color=f"C{index}")
        axes.bar_label(bars, [short(value) for value in line.y], padding=3, fontsize=8)
    axes.set_yticks(places + (count - 1) / 2, plot.groups)
    axes.invert_yaxis()
    axes.set_xlim(left=0, right=1.1 * max((value for line in plot.bars for value in line.y), default=1.0))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlabel(plot.x_label)
    axes.set_title(plot.title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=count, frameon=False)
    return _save(figure, path, footer)


def _draw_curves(result: CaseResult, path: Path, footer: str) -> Path:
    pyplot = require_matplotlib()
    figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
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
    return _save(figure, path, footer)


def _draw_lines(plot: LinePlot, path: Path, footer: str) -> Path:
    """Draw lines; those of the right axis are dashed, and their colors go on where the left ones end."""
    pyplot = require_matplotlib()
    figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    handles = _plot_lines(axes, plot.lines, 0, "-", "o" if plot.markers else "")
    if plot.limit is not None:
        handles.append(axes.axhline(plot.limit, color="black", linewidth=1, linestyle=":", label=plot.limit_name))
    if plot.log_x:
        axes.set_xscale("log")
        axes.minorticks_off()
        ticks = named_ticks([x for line in (*plot.lines, *plot.right) for x in line.x])
        axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.set_xlabel(plot.x_label)
    _label_y(axes, plot.y_label, log=plot.log_y)
    axes.grid(True, alpha=0.3)
    if plot.right:
        other = axes.twinx()
        handles += _plot_lines(other, plot.right, len(plot.lines), "--", "s" if plot.markers else "")
        _label_y(other, plot.right_label, log=False)
        other.yaxis.label.set_color(handles[-1].get_color())
    axes.set_title(plot.title)
    # Below the axes, where no line can be hidden by it.
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    return _save(figure, path, footer)


def _plot_lines(axes: Any, lines: list[Line], first_color: int, style: str, marker: str) -> list[Any]:
    return [
        axes.plot(line.x, line.y, style, marker=marker, label=line.name, color=f"C{first_color + i}",
                  linewidth=1.6, markersize=5)[0]
        for i, line in enumerate(lines)
    ]


def _label_y(axes: Any, label: str, *, log: bool) -> None:
    """Name an axis of values; a linear one begins at 0, so that a line half as high is half as much."""
    axes.set_ylabel(label)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.08)
    axes.yaxis.set_major_formatter(lambda value, _: short(value))


def named_ticks(values: list[float]) -> list[float]:
    """Give the distinct values that a logarithmic axis can name without overlaps, from the largest down."""
    ticks: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not ticks or ticks[-1] / value >= _TICKS_APART:
            ticks.append(value)
    return ticks[::-1]


def short(value: float) -> str:
    """Write a number as an axis does: 950, 10k, 2.5M."""
    for unit, name in ((_MILLION, "M"), (_THOUSAND, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def _save(figure: Any, path: Path, footer: str) -> Path:
    if footer:
        # In place of the figure's own x label: the layout leaves room for it.
        figure.supxlabel(footer, fontsize=7, color="dimgray")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    figure.savefig(path, dpi=120)
    require_matplotlib().close(figure)
    return path
