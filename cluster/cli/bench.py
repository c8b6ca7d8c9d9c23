"""`usher bench`: the load tests and benchmarks of benchmarks/."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.output import JsonOption, fail


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Which ones; all without a name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run benchmarks, with their correctness checks, and show what they reached.

    Examples:  usher bench engine    ·    usher bench read latency --json
    """
    try:
        from benchmarks.main import run
    except ModuleNotFoundError as error:
        fail(f"The benchmarks are not installed here ({error}).", "Run this in a checkout of the project.")
    raise typer.Exit(run(names or [], as_json))
