"""`usher replay`: the same engine over files, offline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cluster.cli.output import JsonOption, print_json, stderr, stdout, table

if TYPE_CHECKING:
    from cluster.replay.run import OnProgress, ReplaySummary


def replay(
    definitions: Annotated[
        list[Path], typer.Option("--definitions", "-f", metavar="D", help="Definitions: a file or folder; repeatable.")
    ],
    events: Annotated[Path, typer.Option("--events", metavar="E", help="Events: Arrow IPC, Parquet or NDJSON.")],
    out: Annotated[Path, typer.Option("--out", metavar="O", help="Transitions: .arrow, .parquet or .ndjson.")],
    traits: Annotated[
        list[str] | None,
        typer.Option(
            "--traits", metavar="[PARENT=]T",
            help="Traits, Parquet or Arrow IPC, in place of the definitions' own source; PARENT=T and repeated for "
            "several parent models.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="RFC 3339 or ms: make changes due up to then; or stop there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run definitions over recorded events and write every transition: no server, no cluster.

    Examples:  usher replay --definitions definitions.yaml --events events.ndjson --out transitions.parquet
    """  # fmt: skip
    from cluster.replay.run import ReplayOptions, replay

    options = ReplayOptions(
        definitions=tuple(definitions), events=events, out=out, traits=tuple(traits or ()), until=until
    )
    with _progress() as on_progress:
        summary = replay(options, on_progress)
    if as_json:
        print_json(summary.as_json())
    else:
        _show(summary, out)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """Show a bar on a terminal; elsewhere nothing, so that logs stay short."""
    if not sys.stderr.isatty():
        yield lambda fraction, events: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task("replay", total=1.0)
        yield lambda fraction, events: bar.update(task, completed=fraction, description=f"{events:,} events")


def _show(summary: ReplaySummary, out: Path) -> None:
    rejected = sum(summary.rejected.values())
    rows: list[tuple[str, object]] = [
        ("events read", summary.events),
        ("accepted", summary.accepted),
        ("rejected", rejected),
        *((f"  {reason}", count) for reason, count in sorted(summary.rejected.items())),
        ("transitions", summary.transitions),
        ("reading", f"{summary.read_s:.2f} s"),
        ("evaluation", f"{summary.evaluate_s:.2f} s"),
        ("writing", f"{summary.write_s:.2f} s"),
        ("events per second", f"{summary.events_per_s:,.0f}"),
    ]
    grid = table(("replay", ""), rows)
    grid.columns[1].justify = "right"
    stdout().print(grid)
    stdout().print(Text(f"Transitions are in {out}"))
