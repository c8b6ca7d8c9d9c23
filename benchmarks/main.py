"""`usher bench [NAME...]`: runs each case in a process of its own, shows what was reached, writes plots and report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from benchmarks.cases import CASES, MINUTES_CASE, PEERS_CASE, Step
from benchmarks.machine import describe, in_words
from benchmarks.peers import PEERS
from benchmarks.report import number, report_html, target_text
from benchmarks.results import CaseResult, Check, Figure
from cluster.cli.output import print_json, say, stderr, stdout, table
from cluster.errors import InputError

#: How a child's last words are cut in the table.
_DETAIL_CHARS_MAX = 300


def run(
    names: Sequence[str], as_json: bool = False, *, quick: bool = False, out: Path | None = None,
    peers: Sequence[str] = (), minutes: float | None = None,
) -> int:
    """Run the named cases (none: all), print them, write `results.json`, plots and `report.html` to `out`.

    `peers`: other engines to measure beside the `engine` case. `minutes`: how long `chaos` goes on.

    Gives 0, or 1 where a check failed or a case could not
    run; a missed target is a finding and no failure. Raises InputError for an unknown name, for peers without that
    case, for minutes without theirs, and for `out` without matplotlib: before anything is measured.
    """
    chosen = checked(names)
    rivals = checked_peers(peers, chosen)
    check_minutes(minutes, chosen)
    if out is not None:
        from benchmarks.plots import require_matplotlib

        require_matplotlib()
    command = command_line(chosen, quick=quick, peers=rivals, minutes=minutes)
    report: dict[str, Any] = {"command": command, "machine": describe(), "quick": quick, "cases": []}
    results = []
    for name in chosen:
        result = _run_watched(
            name, quick=quick, peers=rivals if name == PEERS_CASE else (),
            minutes=minutes if name == MINUTES_CASE else None,
        )  # fmt: skip
        results.append(result)
        report["cases"].append(to_document(result))
        if not as_json:
            show(result)
    if as_json:
        print_json(report)
    else:
        _show_foot(report)
    if out is not None:
        _write(out, report, results)
    return 0 if all(result.passed for result in results) else 1


def checked(names: Sequence[str]) -> list[str]:
    """Give the cases to run in the order asked, each once; raises InputError for a name that is none."""
    unknown = [name for name in names if name not in CASES]
    if unknown:
        message = f"There is no benchmark {', '.join(map(repr, unknown))}; allowed: {', '.join(CASES)}."
        raise InputError(message)
    return list(dict.fromkeys(names)) or list(CASES)


def checked_peers(peers: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Give the peers, each once; raises InputError for one that is none, and where their case is not chosen."""
    unknown = [peer for peer in peers if peer not in PEERS]
    if unknown:
        message = f"There is no peer {', '.join(map(repr, unknown))}; allowed: {', '.join(PEERS)}."
        raise InputError(message)
    if peers and PEERS_CASE not in chosen:
        message = f"Peers are measured beside the case {PEERS_CASE!r}, which is not among those to run."
        raise InputError(message, next_step=f"Add {PEERS_CASE}.")
    return list(dict.fromkeys(peers))


def check_minutes(minutes: float | None, chosen: Sequence[str]) -> None:
    """Raise InputError for a length of the case MINUTES_CASE where that is not chosen."""
    if minutes is not None and MINUTES_CASE not in chosen:
        message = f"Minutes are those of the case {MINUTES_CASE!r}, which is not among those to run."
        raise InputError(message, next_step=f"Add {MINUTES_CASE}.")


def command_line(
    names: Sequence[str], *, quick: bool, peers: Sequence[str] = (), minutes: float | None = None
) -> str:
    """Give the command that measures the same again."""
    options = [*(["--quick"] if quick else []), *(f"--peer {peer}" for peer in peers),
               *([] if minutes is None else [f"--minutes {minutes:g}"])]
    return " ".join(["usher", "bench", *names, *options])


def to_document(result: CaseResult) -> dict[str, Any]:
    """Give a result as JSON values, with what follows from it (`met`, `passed`)."""
    document: dict[str, Any] = msgspec.to_builtins(result)
    for row, figure in zip(document["figures"], result.figures, strict=True):
        row["met"] = figure.met
    return {**document, "passed": result.passed}


# --- a case in its process ---------------------------------------------------------------------------


def _run_watched(name: str, *, quick: bool, peers: Sequence[str], minutes: float | None) -> CaseResult:
    """Run a case and show its steps meanwhile: a spinner on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        return run_child(name, lambda text: say(f"{name}: {text} …"), quick=quick, peers=peers, minutes=minutes)
    with stderr().status(f"{name} …") as spinner:
        return run_child(
            name, lambda text: spinner.update(f"{name}: {text} …"), quick=quick, peers=peers, minutes=minutes
        )


def run_child(
    name: str, step: Step, *, quick: bool, peers: Sequence[str] = (), minutes: float | None = None,
    module: str = "benchmarks.cases",
) -> CaseResult:
    """Run a case in a fresh process; one that ends without a result becomes a failed check."""
    arguments = [sys.executable, "-m", module, name, *(["--quick"] if quick else []),
                 *(f"--peer={peer}" for peer in peers), *([] if minutes is None else [f"--minutes={minutes}"])]
    result, why = None, "it ended without a result"
    # Leaving the block waits for the child, after Ctrl-C too: the terminal sent that to it as well, and it stops what
    # it started.
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            message = _message(line)
            if "step" in message:
                step(message["step"])
            elif "result" in message:
                result = msgspec.convert(message["result"], CaseResult)
            elif "error" in message:
                why = str(message["error"])
    if result is None or child.returncode != 0:
        detail = f"exit code {child.returncode}: {why[:_DETAIL_CHARS_MAX]}"
        return CaseResult(name, [], [Check("the case ran to its end", False, detail)])
    return result


def _message(line: str) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return {}  # something a library printed
    return message if isinstance(message, dict) else {}


# --- showing -------------------------------------------------------------------------------------------


def show(result: CaseResult) -> None:
    """Print a case's figures and checks."""
    quick = ", quick: figures are not to be quoted" if result.quick else ""
    title = f"{result.case}  ({result.seconds:.0f} s{quick})"
    rows = [figure_row(figure) for figure in result.figures]
    console = stdout()
    if rows:
        console.print(table(["figure", "value", "unit", "target", "met"], rows, title=title))
    else:
        console.print(Text(title, style="bold"))
    for one in result.tables:
        rows = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in one.rows]
        console.print(table(one.columns, rows, title=one.title))
    for check in result.checks:
        style = "green" if check.passed else "bold red"
        detail = f": {check.detail}" if check.detail else ""
        console.print(Text(f"  {'✓' if check.passed else '✗'} {check.name}{detail}", style=style))
    console.print()


def figure_row(figure: Figure) -> list[object]:
    """Give a figure as a row of the table."""
    met = {None: Text(""), True: Text("yes", style="green"), False: Text("no", style="bold red")}[figure.met]
    return [figure.name, number(figure.value), figure.unit, target_text(figure.target, figure.better), met]


def _show_foot(report: dict[str, Any]) -> None:
    console = stdout()
    console.print(Text(in_words(report["machine"])))
    console.print(Text(f"again: {report['command']}", style="dim"))


def _write(out: Path, report: dict[str, Any], results: Sequence[CaseResult]) -> None:
    from benchmarks.plots import draw

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        footer = in_words(report["machine"])
        drawn = {result.case: draw(result, out, footer) for result in results}
        (out / "report.html").write_text(report_html(report, drawn), "utf-8")
    except OSError as error:
        message = f"Nothing can be written to {out}: {error.strerror}."
        raise InputError(message, next_step="Give another --out.") from error
    plots = [path for paths in drawn.values() for path in paths]
    say(f"Written: {', '.join(str(path) for path in [out / 'report.html', out / 'results.json', *plots])}")
