"""Line plots and the report: drawn of what results hold, readable by themselves."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks import main as bench
from benchmarks.machine import describe, in_words
from benchmarks.main import to_document
from benchmarks.plots import draw, named_ticks, short
from benchmarks.report import number, report_html, target_text
from benchmarks.results import BarPlot, CaseResult, Check, Figure, Line, LinePlot, Table

PLOT = LinePlot(
    "throughput", "Throughput", "users", "events/s",
    [Line("median", [1e4, 1e6, 5e6], [2e6, 1e6, 5e5]), Line("filling", [1e4, 1e6], [1e6, 9e5])],
    right_label="bytes/user", right=[Line("state", [1e4, 5e6], [1_000.0, 400.0])], limit=4e5, limit_name="target",
)  # fmt: skip
RESULT = CaseResult(
    "users",
    [Figure("1,000,000 users", 1e6, "events/s", 5e5), Figure("left out <5 M>", None, "events/s")],
    [Check("the same", True, "3 & 3"), Check("members", False, "<none>")],
    notes={"by_users": {"10": 1}},
    plots=[PLOT],
    tables=[Table("by form", ["form", "a core"], [["msgpack <1>", 123_456.7]])],
    seconds=61.4,
)


def test_numbers_are_short_on_axes_and_exact_in_tables() -> None:
    assert [short(value) for value in (0.5, 950, 10_000, 2_500_000, 12e6)] == ["0.5", "950", "10k", "2.5M", "12M"]
    assert [number(value) for value in (None, 0.594, 12.0, 123_456.7)] == ["–", "0.59", "12", "123,457"]
    assert [target_text(8.0, "higher"), target_text(0.6, "lower"), target_text(None, "higher")] == ["≥ 8", "≤ 0.6", ""]


def test_ticks_that_would_overlap_are_left_out() -> None:
    assert named_ticks([1, 10, 100, 10]) == [1, 10, 100]
    assert named_ticks([100, 120, 1_000]) == [120, 1_000]
    assert named_ticks([]) == []


def test_lines_are_drawn_with_and_without_a_second_axis(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plain = LinePlot("calls", "Calls", "ms", "ms a batch", [Line("all", [-5, 0, 5], [1, 100, 1])], log_x=False,
                     log_y=True, markers=False)  # fmt: skip
    result = CaseResult("users", [], [], plots=[PLOT, plain])
    drawn = draw(result, tmp_path, in_words(describe()))
    assert [path.name for path in drawn] == ["users-throughput.png", "users-calls.png"]
    assert all(path.stat().st_size > 5_000 for path in drawn)


def test_bars_are_drawn_in_groups(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [Line("x", [0, 1], [1e5, 2e5]), Line("y", [0, 1], [3.0, 4.0])]
    bars = BarPlot("decode", "Decode", "events/s", ["a", "b"], lines)
    drawn = draw(CaseResult("ingest", [], [], bar_plots=[bars]), tmp_path, "machine")
    assert [path.name for path in drawn] == ["ingest-decode.png"]
    assert drawn[0].stat().st_size > 5_000


class Page(HTMLParser):
    """What a page loads and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_report_holds_everything_and_loads_nothing(tmp_path: Path) -> None:
    image = tmp_path / "users-throughput.png"
    image.write_bytes(b"\x89PNG")
    report = {"command": "usher bench users", "machine": describe(), "quick": False, "cases": [to_document(RESULT)]}
    page = Page(report_html(report, {"users": [image]}))
    assert page.sources == ["data:image/png;base64,iVBORw=="]
    assert not page.tags & {"script", "link"}
    shown = " ".join(page.words)
    for word in ("usher bench users", in_words(describe()), "a check failed", "left out <5 M>", "<none>", "3 & 3",
                 "≥ 500,000", "61 s", "by_users", "by form", "a core", "msgpack <1>", "123,457"):  # fmt: skip
        assert word in shown
    assert "quick" not in shown
    assert "not to be quoted" in report_html({**report, "quick": True}, {})


def test_a_run_with_out_writes_the_report_beside_results_and_plots(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench, "run_child", lambda name, step, quick, peers, minutes: RESULT)
    assert bench.run(["users"], out=tmp_path / "out") == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "results.json", "users-targets.png", "users-throughput.png"}
    assert len(re.findall("data:image/png", (tmp_path / "out" / "report.html").read_text())) == 2
    assert "report.html" in capsys.readouterr().err
