"""`usher keys`: API keys."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.lookup import time_text
from cluster.cli.output import JsonOption, print_json, say, stdout, table

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)


@app.command("create")
def create(
    role: Annotated[
        Literal["ingest", "read", "edit", "admin"],
        typer.Option("--role", help="ingest sends events; read looks up; edit also changes audiences and syncs."),
    ],
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "",
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown once.

    Example:  usher keys create --role read --name website
    """
    with connect(url, api_key, data_dir) as client:
        made = client.keys.create(role, name)
    if as_json:
        print_json({"id": made.id, "name": made.name, "role": made.role, "key": made.key})
        return
    typer.echo(made.key)
    say(f"Key {made.id} with the role {made.role}. Keep it: it is not shown again.")


@app.command("list")
def list_keys(
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """List all keys, without the keys themselves."""
    with connect(url, api_key, data_dir) as client:
        keys = client.keys.list()
    if as_json:
        rows = [{"id": key.id, "name": key.name, "role": key.role, "created_at": key.created_at_ms} for key in keys]
        print_json({"keys": rows})
        return
    shown = [
        (key.id, key.name, key.role, None if key.created_at_ms is None else time_text(key.created_at_ms))
        for key in keys
    ]
    stdout().print(table(("id", "name", "role", "created"), shown))


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `usher keys list` shows it.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Shut a key out, at once."""
    with connect(url, api_key, data_dir) as client:
        client.keys.revoke(key_id)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        typer.echo(f"Key {key_id} is revoked.")
