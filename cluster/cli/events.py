"""`usher events`: what arrives, by name, and which model takes it; `--suggest` writes models for what none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.text import Text

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.lookup import time_text
from cluster.cli.output import JsonOption, print_json, say, stdout, table
from cluster.errors import InputError

_FIELDS_SHOWN: Final = 40


def events(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Events to show in full.")] = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="Only those that no model takes.")] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Write event models in YAML for those that none takes.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where --suggest writes; else to stdout.")] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the events that arrived since the edges started: how many, how fast, which model takes them, what is wrong.

    Examples:  usher events    ·    usher events 'Order Completed'    ·    usher events --suggest --out events.yaml
    """
    if out is not None and not suggest:
        message = "--out says where --suggest writes."
        raise InputError(message, next_step="Add --suggest, or take --out away.")
    with connect(url, api_key, data_dir) as client:
        seen = client.seen_events()
        document = {} if not suggest else {
            "parent_models": client.parent_models.list(), "event_models": client.event_models.list(),
        }  # fmt: skip
    rows = [row for row in seen["events"] if not (unknown and row["models"])]
    if names:
        rows = [row for row in rows if row["name"] in names]
    if suggest:
        _suggest(rows, document, names or [], out, as_json)
    elif as_json:
        print_json({**seen, "events": rows})
    elif names:
        for row in rows:
            stdout().print(_whole(row))
        if not rows:
            say(f"No event called {', '.join(names)} arrived.")
    else:
        stdout().print(_overview(rows, seen))


def _suggest(
    rows: list[dict[str, Any]], document: dict[str, Any], names: list[str], out: Path | None, as_json: bool
) -> None:
    from cluster.definitions.suggesting import suggest

    found = suggest(rows, document, names)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n" if as_json else _yaml(found)
    if out is None:
        typer.echo(text, nl=False)
    else:
        try:
            out.write_text(text, "utf-8")
        except OSError as error:
            message = f"{out} cannot be written: {error.strerror or error}."
            raise InputError(message, next_step="Give another path.") from error
    count = len(found["event_models"])
    where = f" in {out}" if out is not None else ""
    say(f"{count} event model{'' if count == 1 else 's'}{where}. Look them over, then: usher plan, usher apply.")


def _yaml(document: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def _overview(rows: list[dict[str, Any]], seen: dict[str, Any]) -> Group:
    content = [
        (
            row["type"] or "–", row["name"] or Text("(no name)", style="dim"), row["count"], row["per_s"],
            time_text(row["last_seen_ms"]), ", ".join(row["models"]) or Text("none", style="yellow"),
            ", ".join(f"{reason} {count:,}" for reason, count in row["rejected"].items()),
        )
        for row in rows
    ]  # fmt: skip
    columns = ("type", "event", "events", "a second", "last seen", "models", "rejected")
    parts: list[Any] = [table(columns, content) if rows else Text("No event arrived yet.", style="dim")]
    if seen["others"]:
        parts.append(Text(f"{seen['others']:,} events of further names, which are not told apart.", style="yellow"))
    if seen["unreadable"]:
        parts.append(Text(f"{seen['unreadable']:,} events were no JSON objects.", style="red"))
    if seen["violations"]:
        broken = [
            (model, found["mode"], rule, count)
            for model, found in seen["violations"].items()
            for rule, count in found["rules"].items()
            if found["mode"] != "allow"
        ]
        if broken:
            parts.append(table(("contract of", "mode", "broken", "events"), broken))
    if any(not row["models"] for row in rows):
        parts.append(Text("Models for those that none takes: usher events --suggest", style="dim"))
    return Group(*parts)


def _whole(row: dict[str, Any]) -> Group:
    head = Text.assemble(
        (f"{row['type']} {row['name']}", "bold"), f"   {row['count']:,} events, {row['per_s']} a second"
    )
    taken = Text(f"taken by {', '.join(row['models']) or 'no model'}; from {', '.join(row['sources']) or 'no source'}")
    fields = [
        (field["path"], ", ".join(field["types"]), f"{field['share']:.0%}") for field in row["fields"][:_FIELDS_SHOWN]
    ]
    sample = json.dumps(row["sample"], indent=2, ensure_ascii=False)
    parts: list[Any] = [
        head,
        taken,
        table(("field", "is", "in samples"), fields),
        Text("the last sample:"),
        Text(sample),
    ]
    return Group(*parts)
