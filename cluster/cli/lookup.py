"""`usher lookup` and `members`: who is in an audience."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.output import JsonOption, print_json, stdout, table
from cluster.limits import LOOKUP_PAIRS_MAX

if TYPE_CHECKING:
    from cluster.client.models import Membership

AudienceArgument = Annotated[str, typer.Argument(metavar="AUDIENCE", help="The audience's id.")]


def lookup(
    audience: AudienceArgument,
    users: Annotated[list[str], typer.Argument(metavar="USER", help="User ids; at most 10,000 in one call.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Say whether users are in an audience now, to the millisecond.

    For one user also since when, and when that changes if nothing happens.

    Examples:  usher lookup hide_promo user_42    ·    usher lookup hide_promo user_42 user_43 --json
    """
    with connect(url, api_key, data_dir) as client:
        if len(users) == 1:
            _show_one(audience, users[0], client.membership(audience, users[0]), as_json)
            return
        members: dict[str, bool] = {}
        for start in range(0, len(users), LOOKUP_PAIRS_MAX):
            found = client.memberships(users[start : start + LOOKUP_PAIRS_MAX], [audience])
            members.update((user, row[audience]) for user, row in found.items())
    if as_json:
        rows = [{"user": user, "isMember": members[user]} for user in users]
        print_json({"audience": audience, "memberships": rows})
    else:
        stdout().print(table(("user", f"in {audience}"), [(user, members[user]) for user in users]))


def _show_one(audience: str, user: str, found: Membership, as_json: bool) -> None:
    if as_json:
        detail: dict[str, Any] = {"as_of": found.as_of, "since": found.since, "changes_at": found.changes_at}
        row = {"user": user, "isMember": found.is_member, **detail, "version": found.version}
        print_json({"audience": audience, "memberships": [row]})
        return
    sentence = f"{user} is {'in' if found.is_member else 'not in'} {audience}"
    if found.since is not None:
        sentence += f" since {time_text(found.since)}"
    if found.changes_at is not None:
        sentence += f"; if nothing happens, next change at {time_text(found.changes_at)}"
    typer.echo(sentence)


def members(
    audience: AudienceArgument,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most this many.")] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """List an audience's members, one id a line.

    Example:  usher members hide_promo | wc -l
    """
    with connect(url, api_key, data_dir) as client:
        ids = islice(client.members(audience), limit)
        if as_json:
            print_json({"audience": audience, "members": list(ids)})
            return
        for user in ids:
            sys.stdout.write(f"{user}\n")


def time_text(at_ms: int) -> str:
    """Give a time as people read it, in UTC with ms."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{at_ms % 1000:03d} UTC"
