"""`usher syncs`, `log`, `retry`, `pause`, `resume` and `resync`: how delivery goes, and what people have it do."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any, Final

import typer

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.output import JsonOption, counted, print_json, stdout, table
from cluster.client.models import SyncLog
from cluster.clock import SystemClock
from cluster.limits import SYNC_ROWS_DEFAULT, SYNC_ROWS_MAX
from cluster.model.durations import parse_duration

_FOLLOW_EVERY_S: Final = 1.0
_SINCE_HELP: Final = "Rows from this time on: RFC 3339, ms, or how long ago (2h)."
#: What has a place of its own in a log line, or none; the others follow as key=value.
_LEADING: Final = ("id", "time", "outcome", "kind")

SyncArgument = Annotated[str, typer.Argument(metavar="SYNC", help="The sync's id.")]


def syncs(
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show each sync: what waits, what was delivered, what failed."""
    with connect(url, api_key, data_dir) as client:
        report = client.status()
    if as_json:
        print_json({"syncs": report.document.get("syncs", [])})
        return
    rows = [
        (sync.id, sync.state + (", resyncing" if sync.resyncing else ""), sync.backlog, sync.delivered, sync.failed)
        for sync in report.syncs
    ]
    stdout().print(table(("sync", "state", "backlog", "delivered", "failed"), rows))


def log(
    sync: SyncArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Failures alone.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on printing new rows until Ctrl-C.")] = False,
    user: Annotated[str, typer.Option("--user", metavar="USER", help="What concerns this user alone.")] = "",
    outcome: Annotated[
        list[str] | None, typer.Option("--outcome", metavar="OUTCOME", help="Of this outcome; repeat for several.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Requests for changes, a token, the list or a result; repeatable."),
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help=_SINCE_HELP)] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Rows before this time.")] = None,
    detail: Annotated[
        bool, typer.Option("--detail", help="With each record, the request and the response, personal data masked.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=SYNC_ROWS_MAX, help="Rows.")] = SYNC_ROWS_DEFAULT,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what a sync sent and what came back, newest last. With --json --follow: one JSON object a line.

    Examples:  usher log promo_suppression --failed    ·    usher log promo_suppression --follow
               usher log promo_suppression --user user_42 --since 2h --detail
    """
    begin, end = _time(since), _time(until)
    with connect(url, api_key, data_dir) as client:

        def ask(after: int) -> SyncLog:
            return client.sync_log(
                sync, failed=failed, after=after, limit=limit, user=user, outcomes=outcome or (), kinds=kind or (),
                since=begin, until=end, detail=detail,
            )  # fmt: skip

        page = ask(0)
        if as_json and not follow:
            print_json({"sync": sync, "rows": page.rows, "next": page.next})
            return
        while True:
            for row in page.rows:
                sys.stdout.write((json.dumps(row, ensure_ascii=False) if as_json else line_of(row)) + "\n")
            sys.stdout.flush()
            if not follow:
                return
            time.sleep(_FOLLOW_EVERY_S)
            page = ask(page.next)


def retry(
    sync: SyncArgument,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Send a sync's dead letters again.

    Example:  usher retry promo_suppression
    """
    with connect(url, api_key, data_dir) as client:
        retried = client.retry(sync).retried
    if as_json:
        print_json({"sync": sync, "retried": retried})
    else:
        typer.echo(f"{counted(retried, 'dead letter')} of {sync} will be sent again.")


def pause(
    sync: SyncArgument,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Have a sync send nothing until it is resumed; what changes meanwhile is kept.

    Example:  usher pause promo_suppression
    """
    with connect(url, api_key, data_dir) as client:
        client.pause(sync)
    _say(as_json, {"sync": sync, "paused": True}, f"{sync} is paused; usher resume {sync} lets it go on.")


def resume(
    sync: SyncArgument,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Let a paused sync go on.

    Example:  usher resume promo_suppression
    """
    with connect(url, api_key, data_dir) as client:
        client.resume(sync)
    _say(as_json, {"sync": sync, "paused": False}, f"{sync} goes on.")


def resync(
    sync: SyncArgument,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Send every present member again, and remove strays where that is known; usher syncs shows how far it is.

    Example:  usher resync promo_suppression
    """
    with connect(url, api_key, data_dir) as client:
        begun = client.resync(sync)
    text = f"{sync} sends every member again; usher syncs shows how far."
    if begun.strays:
        text += f"\nStrays that Usher never told of stay: {begun.strays}."
    _say(as_json, {"sync": sync, "began_at": begun.began_at, "strays": begun.strays}, text)


def _say(as_json: bool, document: dict[str, Any], text: str) -> None:
    if as_json:
        print_json(document)
    else:
        typer.echo(text)


def _time(text: str | None) -> str | int | None:
    """Give a time as the server reads it, or UTC ms of how long ago it was."""
    try:
        return SystemClock().now_ms() - parse_duration(text)
    except ValueError:
        return text


def line_of(row: dict[str, Any]) -> str:
    """Give a log row on one line: time, outcome, then the rest as key=value."""
    leading = [str(row[key]) for key in ("time", "outcome") if row.get(key)]
    kind = row.get("kind", "changes")
    leading += [] if kind == "changes" else [kind]
    rest = [f"{key}={_plain(value)}" for key, value in row.items() if key not in _LEADING and value not in (None, "")]
    return "  ".join([*leading, *rest])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
