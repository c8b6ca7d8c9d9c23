"""`usher traits`: what is known of users from the warehouse, and how old it is; `usher traits refresh` reads it now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Group

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.lookup import time_text
from cluster.cli.output import JsonOption, fail, print_json, state_text, stdout, table, with_reasons

if TYPE_CHECKING:
    from cluster.client.blocking import Client

_LOOK_EVERY_S: Final = 0.2

app = typer.Typer(help="Trait snapshots: show them, read a source now.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def traits(
    context: typer.Context,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show each parent model's snapshot: rows, when it was loaded, its source, what is wrong with it.

    Examples:  usher traits    ·    usher traits refresh users
    """
    if context.invoked_subcommand is not None:
        return
    with connect(url, api_key, data_dir) as client:
        rows = _rows(client)
    if as_json:
        print_json({"traits": rows})
    else:
        stdout().print(shown_traits(rows) if rows else "No parent model has traits.")


@app.command("refresh")
def refresh(
    parents: Annotated[
        list[str] | None, typer.Argument(metavar="[PARENT]...", help="Parent models; all that have a source if none.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until they are read; fail if one cannot be.")
    ] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")] = 600.0,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Read trait sources now, whether they changed or not.

    Examples:  usher traits refresh    ·    usher traits refresh users --no-wait
    """
    with connect(url, api_key, data_dir) as client:
        wanted = parents or [row["parent"] for row in _rows(client) if row.get("source")]
        for parent in wanted:
            client.refresh_traits(parent)
        rows = _awaited(client, wanted, timeout_s) if wait else []
    if as_json:
        print_json({"refreshing": wanted, "traits": rows})
    elif wait:
        stdout().print(shown_traits(rows) if rows else "No parent model has a trait source.")
    else:
        typer.echo(f"Reading: {', '.join(wanted) or 'nothing, no parent model has a trait source'}.")
    if failed := [row["parent"] for row in rows if row.get("error")]:
        fail(f"The traits of {', '.join(failed)} could not be read.", "The snapshot before stays in force; see above.")


def _awaited(client: Client, parents: list[str], timeout_s: float) -> list[dict[str, Any]]:
    """Give the rows of parents once each has been read by a load that began after it was asked for."""
    until = time.monotonic() + timeout_s
    rows = [row for row in _rows(client) if row["parent"] in parents]
    asked = {row["parent"]: row["refreshes"]["asked"] for row in rows}
    while waiting := [row["parent"] for row in rows if _is_waiting(row["refreshes"], asked.get(row["parent"], 0))]:
        if time.monotonic() >= until:
            message = f"The traits of {', '.join(waiting)} are still being read."
            fail(message, "They are taken once they are; `usher traits` shows it.")
        time.sleep(_LOOK_EVERY_S)
        rows = [row for row in _rows(client) if row["parent"] in parents]
    return rows


def _is_waiting(refreshes: dict[str, int], asked: int) -> bool:
    """A loader that started again counts from nothing: it knows of no refresh, and reads anyway."""
    return refreshes["answered"] < min(asked, refreshes["asked"])


def _rows(client: Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.status().document.get("traits", [])
    return rows


def shown_traits(rows: list[dict[str, Any]]) -> Group:
    """Give the rows as a table, and below it what is wrong, where it has the width to be read."""
    content = [
        (
            row.get("parent"),
            state_text(str(row.get("state", ""))),
            row.get("rows"),
            None if row.get("loaded_at_ms") is None else time_text(row["loaded_at_ms"]),
            row.get("source"),
        )
        for row in rows
    ]
    reasons: list[tuple[str, Any]] = []
    for row in rows:
        error, parent = row.get("error"), str(row.get("parent"))
        reasons.append((parent, error and error.get("message", "")))
        reasons += [(parent, _left_out(name, counts)) for name, counts in (row.get("left_out") or {}).items()]
    return with_reasons(table(("traits of", "state", "rows", "loaded", "source"), content), reasons)


def _left_out(related: str, counts: dict[str, int]) -> str:
    words = {"no_key": "without a key", "no_user": "of nobody who is a user"}
    parts = [f"{count:,} {words.get(reason, reason)}" for reason, count in counts.items() if count]
    return f"rows of {related} left out: {', '.join(parts)}"
