"""`usher scale`: another number of evaluators, while events come."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import Progress

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.output import JsonOption, print_json, say, stderr
from cluster.client.blocking import Client
from cluster.client.models import Scaled


def scale(
    evaluators: Annotated[int, typer.Option("--evaluators", "-n", min=1, help="How many there shall be.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Hand all users over to so many evaluators, while events come.

    New evaluators read the retained events beside the work; then events wait for a moment, and nothing is lost or made
    twice. It goes on if this command ends. The number that there is gives a change up that has not come to its end.

    Example:  usher scale --evaluators 4
    """
    with connect(url, api_key, data_dir) as client:
        done = _until_done(client, evaluators)
    if as_json:
        print_json({"evaluators": done.evaluators, "partitions": done.partitions, "pause_ms": done.pause_ms})
        return
    say(f"{done.evaluators} evaluators have the {done.partitions} partitions. Events waited {done.pause_ms} ms.")


def _until_done(client: Client, evaluators: int) -> Scaled:
    with Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task("taking users over", total=100)
        while True:
            found = client.scale(evaluators)
            if not found.under_way:
                return found
            described = f"waiting for {found.waits_for}" if found.waits_for else "taking users over"
            progress.update(task, completed=found.percent, description=described)
