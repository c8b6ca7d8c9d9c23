"""`usher bench`: wrong names are refused before anything is measured, and a case that breaks fails the run."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import main as bench
from benchmarks.cases import CASES
from benchmarks.plots import draw, require_matplotlib
from benchmarks.results import CURVE_POINTS, CaseResult, Check, Figure
from benchmarks.wrk import parse_wrk
from cluster.cli.main import app
from cluster.errors import InputError

GOOD = CaseResult("read", [Figure("ratio", 0.5, "times", 0.85)], [Check("answers", True)])
BAD = CaseResult("read", [], [Check("answers", False, "3 wrong")])


def test_names_are_checked_first_and_none_means_all() -> None:
    allowed = "engine, audiences, users, waves, traits, publish, recovery, log, delivery, read, "
    with pytest.raises(InputError, match=f"no benchmark 'speed'; allowed: {allowed}"):
        bench.checked(["read", "speed"])
    assert bench.checked([]) == list(CASES)
    assert bench.checked(["read", "engine", "read"]) == ["read", "engine"]
    assert bench.command_line(["read"], quick=True) == "usher bench read --quick"


def test_help_names_every_case() -> None:
    told = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "200"}).output
    assert ", ".join(CASES) in " ".join(told.replace("│", " ").split())


@pytest.mark.parametrize(("result", "code"), [(GOOD, 0), (BAD, 1)])
def test_only_a_failed_check_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], result: CaseResult, code: int
) -> None:
    monkeypatch.setattr(bench, "run_child", lambda name, step, quick, peers, minutes: result)
    assert bench.run(["read"]) == code
    shown = capsys.readouterr().out
    assert "usher bench read" in shown
    assert bench.run(["read"], as_json=True) == code
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["cpu"]
    assert report["cases"][0]["passed"] is (code == 0)


def test_a_case_that_dies_becomes_a_failed_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(
        "print('{\"step\": \"working\"}')\nprint('a library talks')\n"
        "print('{\"error\": \"no room\"}')\nraise SystemExit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    steps: list[str] = []
    result = bench.run_child("read", steps.append, quick=True, module="dies")
    assert steps == ["working"]
    assert not result.passed
    assert result.checks[0].detail == "exit code 3: no room"


def test_plots_without_matplotlib_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="matplotlib") as caught:
        bench.run(["read"], out=Path("never-made"))
    assert "usher-audiences[bench]" in caught.value.next_step
    assert not Path("never-made").exists()


def test_plots_are_drawn_of_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    require_matplotlib()
    curves = {"reads": [float(point) for point in range(CURVE_POINTS)], "empty": []}
    result = CaseResult("read", [Figure("p99", 9.0, "ms", 5.0, "lower"), Figure("x", None, "", 1.0)], [], curves)
    drawn = draw(result, tmp_path)
    assert [path.name for path in drawn] == ["read-targets.png", "read-latency.png"]
    assert all(path.stat().st_size > 1_000 for path in drawn)
    assert draw(BAD, tmp_path) == []


def test_what_wrk_prints_is_read() -> None:
    output = "Running 3s test\n  Socket errors: connect 0, read 2, write 0, timeout 1\n"
    output += "  Non-2xx or 3xx responses: 4\nRequests/sec:  67248.51\n"
    rate = parse_wrk(output)
    assert (rate.per_s, rate.faults) == (67_248.51, 7)
    with pytest.raises(ValueError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_minutes_are_those_of_chaos() -> None:
    with pytest.raises(InputError, match="chaos"):
        bench.run(["read"], minutes=3)
    assert bench.command_line(["chaos"], quick=False, minutes=2.5) == "usher bench chaos --minutes 2.5"
