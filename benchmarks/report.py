"""A report to hand round: one HTML file with figures, checks, plots, machine and command, from `results.json`'s values.

Nothing is loaded from elsewhere: plots are inside, styles too, and there is no script.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.machine import in_words

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 1px solid #d5dae3; padding-bottom: .3rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #e6e9ef; }
td.number, th.number { text-align: right; white-space: nowrap; }
.good { color: #15803d; } .bad { color: #b91c1c; font-weight: 600; } .dim { color: #667085; }
img { max-width: 100%; height: auto; margin: .5rem 0; } code { background: #f1f3f7; padding: .1rem .3rem; }
ul { list-style: none; padding: 0; } summary { cursor: pointer; }
""".strip()


def report_html(report: Mapping[str, Any], plots: Mapping[str, Sequence[Path]]) -> str:
    """Write the report of `results.json`'s values; `plots`: the drawn files of each case."""
    passed = all(case["passed"] for case in report["cases"])
    verdict = _mark(passed, "every check passed", "a check failed: the figures of that case are worth nothing")
    quick = "<p class=bad>A quick run: it shows that things work; its figures are not to be quoted.</p>"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>Usher: benchmarks</title><style>{_STYLE}</style>",
        f"<h1>Usher: benchmarks</h1><p>{verdict}</p>{quick if report['quick'] else ''}",
        f"<p>{escape(in_words(report['machine']))}<br>again: <code>{escape(report['command'])}</code></p>",
        *(_case(case, plots.get(case["case"], ())) for case in report["cases"]),
        "</html>\n",
    ]
    return "\n".join(parts)


def _case(case: Mapping[str, Any], plots: Iterable[Path]) -> str:
    name = escape(case["case"])
    rows = "".join(_figure(figure) for figure in case["figures"])
    head = "<tr><th>figure<th class=number>value<th>unit<th class=number>target<th>met</tr>"
    notes = "".join(f"<tr><td>{escape(str(key))}<td>{escape(str(value))}</tr>" for key, value in case["notes"].items())
    return "\n".join([
        f"<h2 id={name}>{name} <small class=dim>{case['seconds']:.0f} s</small></h2>",
        f"<table>{head}{rows}</table>" if rows else "",
        f"<ul>{''.join(_check(check) for check in case['checks'])}</ul>",
        *(_table(table) for table in case["tables"]),
        *(_image(plot) for plot in plots),
        f"<details><summary>notes</summary><table>{notes}</table></details>" if notes else "",
    ])


def _figure(figure: Mapping[str, Any]) -> str:
    target = target_text(figure["target"], figure["better"])
    met = "" if figure["met"] is None else _mark(figure["met"], "yes", "no")
    cells = [f"<td>{escape(figure['name'])}", f"<td class=number>{number(figure['value'])}",
             f"<td>{escape(figure['unit'])}", f"<td class=number>{target}", f"<td>{met}"]
    return f"<tr>{''.join(cells)}</tr>"


def _table(table: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{escape(column)}" for column in table["columns"])
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table["rows"])
    return f"<table><caption>{escape(table['title'])}</caption><tr>{head}</tr>{body}</table>"


def _cell(value: str | float) -> str:
    return f"<td>{escape(value)}" if isinstance(value, str) else f"<td class=number>{number(value)}"


def _check(check: Mapping[str, Any]) -> str:
    detail = f": {escape(check['detail'])}" if check["detail"] else ""
    return f"<li>{_mark(check['passed'], '✓', '✗')} {escape(check['name'])}{detail}</li>"


def _image(plot: Path) -> str:
    data = b64encode(plot.read_bytes()).decode()
    return f'<p><img alt="{escape(plot.stem)}" src="data:image/png;base64,{data}">'


def _mark(good: bool, if_good: str, if_bad: str) -> str:
    return f"<span class={'good' if good else 'bad'}>{if_good if good else if_bad}</span>"


def number(value: float | None) -> str:
    """Write a figure's value: thousands apart, two places where they say something."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:,.2f}"


def target_text(target: float | None, better: str) -> str:
    """Write what a target asks; nothing where there is none."""
    return "" if target is None else f"{'≥' if better == 'higher' else '≤'} {target:,g}"
