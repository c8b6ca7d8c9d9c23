"""`usher validate`, `plan` and `apply`: definitions from files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.output import (
    EXIT_FAILED,
    JsonOption,
    counted,
    print_json,
    say,
    show_error,
    show_faults,
    stderr,
    stdout,
    table,
)
from cluster.errors import DefinitionError, Fault

if TYPE_CHECKING:
    from cluster.client.models import Applied
    from cluster.definitions.model import Definitions

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Definitions: .yaml, .yml and .json files, or folders of them.")
]
Replace = Annotated[
    bool, typer.Option("--replace", help="The files are the whole truth: what is not in them is removed.")
]

_STYLES = {"added": "green", "changed": "yellow", "removed": "red", "unchanged": "dim"}


def validate(files: Files, as_json: JsonOption = False) -> None:
    """Check definitions, and show every fault at once.

    ${NAME} is read from the environment. Exit code 1 with faults, 0 without; parts that this release checks but
    does not evaluate yet are warnings.

    Examples:  usher validate definitions.yaml    ·    usher validate audiences/ --json
    """
    from cluster.definitions.evaluable import unsupported
    from cluster.definitions.parsing import load_paths, located
    from destinations.registry import KINDS

    try:
        definitions = load_paths(files, os.environ, KINDS)
    except DefinitionError as error:
        if as_json:
            print_json({"ok": False, "faults": [asdict(fault) for fault in error.faults], "warnings": []})
        else:
            show_error(error)
        raise typer.Exit(EXIT_FAILED) from error
    warnings = located(unsupported(definitions), files)
    if as_json:
        rows = [asdict(warning) for warning in warnings]
        print_json({"ok": True, "faults": [], "warnings": rows, "counts": _counts(definitions)})
        return
    _show_sound(definitions, warnings)


def plan(
    files: Files,
    replace: Replace = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what `usher apply` would change on the running Usher; changes nothing.

    Example:  usher plan definitions.yaml --replace
    """
    with connect(url, api_key, data_dir) as client, _faults_in_files(files):
        applied = client.plan(files, mode="replace" if replace else "merge")
    _show_changes(applied, as_json, done=False)


def apply(
    files: Files,
    replace: Replace = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Make definitions so on the running Usher: all of them, or nothing.

    ${NAME} is read from the environment of this command. Without --replace, what the files do not name stays as it is.

    Examples:  usher apply definitions.yaml    ·    usher apply definitions/ --replace
    """
    with connect(url, api_key, data_dir) as client, _faults_in_files(files):
        applied = client.apply(files, mode="replace" if replace else "merge")
    _show_changes(applied, as_json, done=True)


@contextmanager
def _faults_in_files(files: list[Path]) -> Iterator[None]:
    """Show the server's faults where they are in the files."""
    from cluster.client.errors import InvalidDefinitions
    from cluster.definitions.parsing import located

    try:
        yield
    except InvalidDefinitions as error:
        raise DefinitionError(located(error.faults, files)) from error


def _counts(definitions: Definitions) -> dict[str, int]:
    return {
        "sources": len(definitions.sources),
        "parent_models": len(definitions.parent_models),
        "event_models": len(definitions.event_models),
        "audiences": len(definitions.audiences),
        "destinations": len(definitions.destinations),
        "syncs": len(definitions.syncs),
        "alert_channels": len(definitions.alert_channels),
        "alerts": len(definitions.alerts),
    }


def _show_sound(definitions: Definitions, warnings: list[Fault]) -> None:
    if warnings:
        console = stderr()
        show_faults(warnings, console)
        say(f"{counted(len(warnings), 'warning')}: sound, but this release refuses to publish it.\n")
    sections: dict[str, Any] = {
        "sources": definitions.sources, "parent models": definitions.parent_models,
        "event models": definitions.event_models, "audiences": definitions.audiences,
        "destinations": definitions.destinations, "syncs": definitions.syncs,
        "alert channels": definitions.alert_channels, "alerts": definitions.alerts,
    }  # fmt: skip
    rows = [(name, len(objects), _some(objects)) for name, objects in sections.items() if objects]
    stdout().print(table(("section", "objects", "ids"), rows))
    stdout().print(Text("ok", style="bold green"))


def _some(ids: dict[str, Any], most: int = 6) -> str:
    names = list(ids)
    return ", ".join(names[:most]) + (f", … {len(names) - most:,} more" if len(names) > most else "")


def _show_changes(applied: Applied, as_json: bool, *, done: bool) -> None:
    if as_json:
        rows = [{"kind": row.kind, "id": row.id, "change": row.change} for row in applied.changes]
        late = {"preparing": applied.preparing} if applied.preparing else {}
        print_json({"version": applied.version, "changes": rows, **late})
        return
    shown = [(Text(row.change, _STYLES.get(row.change, "")), row.kind, row.id) for row in applied.changed]
    if shown:
        stdout().print(table(("change", "kind", "id"), shown))
    unchanged = len(applied.changes) - len(applied.changed)
    verdict = f"{counted(len(shown), 'change')}, {unchanged:,} unchanged."
    stdout().print(Text(f"{verdict} Version {applied.version} is {'in force' if done else 'what apply would make'}."
                        if shown else f"Nothing to change ({unchanged:,} unchanged)."))  # fmt: skip
    if applied.preparing:
        say(f"Still being backfilled: {', '.join(applied.preparing)}. `usher status` shows when they are live.")
