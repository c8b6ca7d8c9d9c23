"""`usher bench`: the load tests and benchmarks of benchmarks/."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.output import JsonOption, fail


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="engine, audiences, users, waves, traits, publish, recovery, log, delivery, read, latency, "
            "ingest, chaos, scale; all without a name.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short runs: whether it works, not how fast.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write report.html, results.json and plots here (needs the extra `bench`)."),
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="NAME", help="Measure `engine` beside flink or bytewax too; may be repeated."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", min=0.1, help="How long `chaos` kills and stops processes (default 2)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run benchmarks, with their correctness checks, and show what they reached.

    Exits 1 when a check fails. A figure below its target is shown, and is no failure.

    Examples:  usher bench engine    ·    usher bench read latency --quick    ·    usher bench --out bench-out

               usher bench chaos --minutes 10
    """
    try:
        # By name: benchmarks stand above the product in the layers, and no part of it may need them.
        run = import_module("benchmarks.main").run
    except ModuleNotFoundError as error:
        fail(f"The benchmarks are not installed here ({error}).", "Run this in a checkout of the project.")
    raise typer.Exit(run(names or [], as_json, quick=quick, out=out, peers=peers or [], minutes=minutes))
