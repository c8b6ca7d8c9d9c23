"""`usher ingest`: events from files to a running Usher."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.output import JsonOption, print_json, say, stderr, stdout, table
from cluster.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cluster.ingest.files import EventFile
    from cluster.ingest.sending import Totals
    from cluster.ingest.shaping import Shape

#: Rows that `--dry-run` shows.
_SHOWN: Final = 3
Format = Literal["ndjson", "csv", "parquet", "arrow"]


def ingest(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, folders, globs, or URIs (s3://…).")],
    format: Annotated[
        Format | None, typer.Option("--format", help="What the files are, where no ending says it.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Which column a field is in, e.g. user_id=customer."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A field of every event, e.g. event=order_completed."),
    ] = None,
    position: Annotated[
        Path | None, typer.Option("--position", help="Where it is kept how far each file is; default in --data-dir.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin every file anew.")] = False,
    connections: Annotated[int, typer.Option("--connections", min=1, max=64, help="Requests at once.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the first events; send nothing.")] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Send events from NDJSON, CSV, Parquet or Arrow files. Stopped, it goes on where it was when run again.

    Columns that are no field of events become properties. Events without a message id get one of their file, row and
    content, so that sending a file again makes no doubles.

    Examples:  usher ingest events.ndjson    ·    usher ingest 's3://lake/orders/*.parquet' --set event=order_completed
    --map user_id=customer_id --map timestamp=created_at
    """
    from cluster.ingest.files import event_files

    shape = _shape(column or [], value or [])
    found = event_files(files, format, Path.cwd())
    if dry_run:
        _show(found, shape)
        return
    began = time.monotonic()
    with connect(url, api_key, data_dir) as client:
        totals = _send(found, shape, client, position or data_dir / "ingest.json", restart, connections, as_json)
    if as_json:
        print_json({**_report(totals), "files": len(found), "seconds": round(time.monotonic() - began, 3)})
    else:
        _summary(totals, found, time.monotonic() - began)


def _send(
    files: list[EventFile], shape: Shape, client: Any, position: Path, restart: bool, connections: int, quiet: bool
) -> Totals:
    from cluster.ingest.files import count_rows
    from cluster.ingest.positions import Positions
    from cluster.ingest.sending import Sender

    positions = Positions(position, client.url, f"{dict(shape.columns)} {dict(shape.values)}")
    if restart:
        for file in files:
            positions.note(file, 0)
    counts = [count_rows(file) for file in files]
    expected = None if None in counts else sum(count for count in counts if count is not None)
    with _progress(quiet) as bar:
        task = bar.add_task("events", total=expected)
        sender = Sender(
            client.events.send_written, shape, positions, connections=connections,
            progress=lambda file, rows: _advance(bar, task, file, rows),
        )  # fmt: skip
        try:
            return sender.send(files)
        except KeyboardInterrupt:
            say(f"Stopped after {sender.totals.rows:,} rows. Run the same command again: it goes on from there.")
            raise


def _progress(quiet: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=stderr(), transient=True, disable=quiet or not sys.stderr.isatty())


def _advance(bar: Progress, task: TaskID, file: EventFile, rows: int) -> None:
    bar.update(task, advance=rows, description=file.path.rpartition("/")[2])


def _shape(columns: list[str], values: list[str]) -> Shape:
    from cluster.ingest.shaping import Shape

    return Shape(dict(_pair(text, "--map") for text in columns), dict(_pair(text, "--set") for text in values))


def _pair(text: str, option: str) -> tuple[str, str]:
    from cluster.definitions.document import EVENT_ROOTS

    name, equals, value = text.partition("=")
    if not equals or not value or name not in EVENT_ROOTS:
        message = f"{option} {text}: allowed is FIELD=… with one of {', '.join(EVENT_ROOTS)}."
        raise InputError(message, next_step=f"For instance {option} user_id=customer_id.")
    return name, value


def _show(files: list[EventFile], shape: Shape) -> None:
    from cluster.ingest.files import read
    from cluster.ingest.shaping import NotAnEvent

    for file in files:
        typer.echo(f"{file.path} ({file.format}):")
        rows = next(read(file), None)
        for place, row in enumerate(rows.rows[:_SHOWN] if rows else []):
            try:
                shown = (
                    json.dumps(json.loads(shape.event(row, file.path, place)), ensure_ascii=False)
                    if isinstance(row, dict)
                    else f"refused: {row or 'blank'}"
                )
            except NotAnEvent as reason:
                shown = f"refused: {reason}"
            typer.echo(f"  {shown}")


def _report(totals: Totals) -> dict[str, Any]:
    return {
        "rows": totals.rows, "skipped": totals.skipped, "accepted": totals.accepted, "duplicates": totals.duplicates,
        "rejected": dict(totals.rejected), "examples": totals.examples,
    }  # fmt: skip


def _summary(totals: Totals, files: list[EventFile], seconds: float) -> None:
    rate = totals.rows / seconds if seconds else 0.0
    skipped = f", {totals.skipped:,} rows were sent before" if totals.skipped else ""
    typer.echo(
        f"{totals.accepted:,} events accepted, {totals.duplicates:,} duplicates, {totals.rejected.total():,} rejected "
        f"of {totals.rows:,} rows in {len(files)} file{'' if len(files) == 1 else 's'} ({rate:,.0f} rows/s){skipped}."
    )
    if totals.rejected:
        rows = [(reason, count, ", ".join(totals.examples[reason])) for reason, count in totals.rejected.most_common()]
        stdout().print(table(("rejected because", "rows", "for instance"), rows))
