"""`python -m tests.simulation --seeds 1000`: run seeds, count faults survived, tell the story of the first failure."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from typing import Annotated, Final, NoReturn

import pyarrow as pa
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.checkers import CHECKERS
from tests.simulation.plans import FAULT_KINDS, FaultKind, make_plan
from tests.simulation.runner import Result, run_plan
from tests.simulation.shrinking import SHRINK_S
from tests.simulation.story import smallest_story, told

_KINDS: Final = ", ".join(FAULT_KINDS)
_console: Final = Console(stderr=True)


def main(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The first of them; a seed is the same run everywhere.")] = 0,
    faults: Annotated[str, typer.Option(help=f"Kinds of faults, separated by commas; all or none: {_KINDS}.")] = "all",
    size: Annotated[float, typer.Option(min=0.2, max=50.0, help="How long a story is; 1 is short.")] = 1.0,
    shrink_s: Annotated[float, typer.Option(min=0.0, help="How long a failing run is made smaller, in s.")] = SHRINK_S,
    story: Annotated[bool, typer.Option("--story", help="Tell the whole story of the first seed.")] = False,
) -> None:
    """Run Usher's own parts in one thread under virtual time, with faults, and check what must hold.

    Exits 1 at the first seed in which something does not hold, with a minimal story of the user concerned.
    """
    kinds = _kinds(faults)
    pa.set_cpu_count(1)
    again = f"--size {size:g} --faults {faults}"
    first = run_plan(make_plan(seed, kinds, size), telling=story)  # what is compiled or loaded once does not count
    if story:
        print(told(first.run))
    gc.collect()
    gc.freeze()
    survived: Counter[str] = Counter()
    virtual_s = 0.0
    began = time.perf_counter()
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=_console, transient=True,
    ) as progress:  # fmt: skip
        task = progress.add_task("seeds", total=seeds)
        for done, number in enumerate(range(seed, seed + seeds), 1):
            result = run_plan(make_plan(number, kinds, size))
            if result.violations:
                progress.stop()
                _fail(number, result, again, shrink_s)
            survived.update(result.run.counts)
            virtual_s += result.run.virtual_s
            rate = done / (time.perf_counter() - began)
            progress.update(task, advance=1, description=f"{rate:.1f} seeds/s")
    took_s = time.perf_counter() - began
    _console.print(_table(survived))
    print(
        f"{seeds} seeds from {seed}: {seeds / took_s:.1f} seeds/s, {virtual_s / 3600:.2f} virtual hours in "
        f"{took_s:.1f} s, {sum(survived[kind] for kind in FAULT_KINDS):,} faults survived, "
        f"{len(CHECKERS)} checkers found nothing."
    )


def _kinds(text: str) -> tuple[FaultKind, ...]:
    if text in ("all", "none"):
        return FAULT_KINDS if text == "all" else ()
    wanted = [name.strip() for name in text.split(",")]
    unknown = [name for name in wanted if name not in FAULT_KINDS]
    if unknown:
        message = f"unknown kinds of faults: {', '.join(unknown)}; allowed: all, none, or some of {_KINDS}"
        raise typer.BadParameter(message, param_hint="--faults")
    return tuple(kind for kind in FAULT_KINDS if kind in wanted)


def _fail(seed: int, result: Result, again: str, shrink_s: float) -> NoReturn:
    first = result.violations[0]
    _console.print(f"[bold red]seed {seed} fails[/]: {len(result.violations)} violations, the first of them:")
    _console.print(str(first), markup=False, highlight=False)
    with _console.status("making it smaller ..."):
        text = smallest_story(result.run.plan, first, seconds=shrink_s)
    print(text)
    print(f"\nThe whole of it: python -m tests.simulation --seed {seed} --seeds 1 {again} --story")
    sys.exit(1)


def _table(survived: Counter[str]) -> Table:
    table = Table("what happened", "how often", title="nothing was lost by")
    for name, count in sorted(survived.items()):
        if count:
            table.add_row(name, f"{count:,}")
    return table


if __name__ == "__main__":
    typer.run(main)
